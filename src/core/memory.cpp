// The caching allocator: size classes of a few atomic slots each. A block is put into an empty slot and taken out of a
// full one by one exchange, so there is no lock, and no ABA problem: whoever exchanges a block out owns it.
#include "mica/core/memory.h"

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>

#include "core/size_class.h"
#include "mica/core/macros.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace MICA_EXPORT mica {

namespace {

constexpr size_t kAlignment = 64;
using Classes = detail::SizeClasses<kAlignment>;
constexpr int kSlots = 64;                         // free blocks kept of one class
constexpr int64_t kMostCached = int64_t{2} << 30;  // bytes kept in all

std::atomic<void*> slots[Classes::kCount][kSlots];
std::atomic<int64_t> in_use, peak, cached, system_allocations;

// A large block asks for huge pages: a product that walks down a matrix touches a page a row, and with pages of 4 KiB
// each touch is a miss in the table of pages.
void* system_allocate(size_t bytes) {
  void* block = std::aligned_alloc(kAlignment, bytes);
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr uintptr_t kHugePage = uintptr_t{2} << 20;
  const uintptr_t at = reinterpret_cast<uintptr_t>(block);
  const uintptr_t begin = (at + kHugePage - 1) / kHugePage * kHugePage, end = (at + bytes) / kHugePage * kHugePage;
  if (MICA_CACHE_BLOCKS && block && begin < end)
    madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);  // or not: it is a wish
#endif
  return block;
}

void count_use(int64_t bytes) {
  const int64_t now = in_use.fetch_add(bytes, std::memory_order_relaxed) + bytes;
  int64_t most = peak.load(std::memory_order_relaxed);
  while (now > most && !peak.compare_exchange_weak(most, now, std::memory_order_relaxed)) {
  }
}

}  // namespace

MemoryStatistics memory_statistics() { return {in_use, peak, cached, system_allocations}; }

void release_cached() {
  for (int c = 0; c < Classes::kCount; ++c)
    for (auto& slot : slots[c])
      if (void* block = slot.exchange(nullptr, std::memory_order_acquire)) {
        std::free(block);
        cached.fetch_sub(static_cast<int64_t>(Classes::bytes_of(c)), std::memory_order_relaxed);
      }
}

void* detail::allocate(size_t bytes) {
  if (bytes > size_t{1} << 46) throw std::bad_alloc();
  const Classes::Class c = Classes::of(bytes);
  void* block = nullptr;
  if (MICA_CACHE_BLOCKS)
    for (auto& slot : slots[c.index]) {
      if (!slot.load(std::memory_order_relaxed)) continue;
      block = slot.exchange(nullptr, std::memory_order_acquire);
      if (block) {
        cached.fetch_sub(static_cast<int64_t>(c.bytes), std::memory_order_relaxed);
        break;
      }
    }
  if (!block) {
    const size_t size = MICA_CACHE_BLOCKS ? c.bytes : (bytes + kAlignment - 1) / kAlignment * kAlignment;
    block = system_allocate(size);
    if (!block) {  // what is kept of other sizes may be what is missing
      release_cached();
      block = system_allocate(size);
      if (!block) throw std::bad_alloc();
    }
    system_allocations.fetch_add(1, std::memory_order_relaxed);
  }
  count_use(static_cast<int64_t>(c.bytes));
  return block;
}

void detail::deallocate(void* block, size_t bytes) noexcept {
  const Classes::Class c = Classes::of(bytes);
  in_use.fetch_sub(static_cast<int64_t>(c.bytes), std::memory_order_relaxed);
  if (MICA_CACHE_BLOCKS && cached.load(std::memory_order_relaxed) + static_cast<int64_t>(c.bytes) <= kMostCached)
    for (auto& slot : slots[c.index]) {
      void* expected = nullptr;
      if (slot.load(std::memory_order_relaxed) == nullptr &&
          slot.compare_exchange_strong(expected, block, std::memory_order_release, std::memory_order_relaxed)) {
        cached.fetch_add(static_cast<int64_t>(c.bytes), std::memory_order_relaxed);
        return;
      }
    }
  std::free(block);
}

}  // namespace mica
