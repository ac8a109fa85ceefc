// The caching allocator: size classes of a few atomic slots each. A block is put into an empty slot and taken out of a
// full one by one exchange, so there is no lock, and no ABA problem: whoever exchanges a block out owns it.
#include "mica/core/memory.h"

#include <atomic>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <new>

#include "mica/core/macros.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
#define MICA_CACHE_BLOCKS 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MICA_CACHE_BLOCKS 0
#endif
#endif
#ifndef MICA_CACHE_BLOCKS
#define MICA_CACHE_BLOCKS 1
#endif

namespace MICA_EXPORT mica {

namespace {

constexpr size_t kAlignment = 64;
constexpr int kSteps = 8;  // size classes for each doubling: at most 12.5 % is wasted
constexpr int kClasses = 42 * kSteps;
constexpr int kSlots = 64;                         // free blocks kept of one class
constexpr int64_t kMostCached = int64_t{2} << 30;  // bytes kept in all

std::atomic<void*> slots[kClasses][kSlots];
std::atomic<int64_t> in_use, peak, cached, system_allocations;

struct SizeClass {
  int index;
  size_t bytes;
};

// Rounds up to 64 * 2^e * (1 + s/8), s in 0..7.
SizeClass size_class(size_t bytes) {
  if (bytes <= kAlignment) return {0, kAlignment};
  const int exponent = static_cast<int>(std::bit_width(bytes - 1)) - 1;  // 2^exponent < bytes <= 2^(exponent + 1)
  const size_t base = size_t{1} << exponent, step = base / kSteps;
  const size_t s = (bytes - base + step - 1) / step;  // 1..8
  const size_t rounded = (base + s * step + kAlignment - 1) / kAlignment * kAlignment;
  return {(exponent - 6) * kSteps + static_cast<int>(s), rounded};
}

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
  for (int c = 0; c < kClasses; ++c)
    for (auto& slot : slots[c])
      if (void* block = slot.exchange(nullptr, std::memory_order_acquire)) {
        std::free(block);
        // Classes below 512 bytes share a rounded size; what was counted is what the class of index c holds.
        const int exponent = c / kSteps + 6;
        const size_t base = size_t{1} << exponent;
        const size_t bytes =
            (base + static_cast<size_t>(c % kSteps) * (base / kSteps) + kAlignment - 1) / kAlignment * kAlignment;
        cached.fetch_sub(static_cast<int64_t>(bytes), std::memory_order_relaxed);
      }
}

void* detail::allocate(size_t bytes) {
  if (bytes > size_t{1} << 46) throw std::bad_alloc();
  const SizeClass c = size_class(bytes);
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
  const SizeClass c = size_class(bytes);
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
