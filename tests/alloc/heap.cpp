// malloc and free as this program sees them: measured, then passed on to glibc.
#include "heap.h"

#include <malloc.h>

#include <atomic>
#include <cstddef>

namespace {

std::atomic<int64_t> now, most;

void* counted(void* block) {
  const auto bytes = static_cast<int64_t>(block ? malloc_usable_size(block) : 0);
  const int64_t total = now.fetch_add(bytes, std::memory_order_relaxed) + bytes;
  int64_t before = most.load(std::memory_order_relaxed);
  while (total > before && !most.compare_exchange_weak(before, total, std::memory_order_relaxed)) {
  }
  return block;
}

void discount(void* block) {
  if (block) now.fetch_sub(static_cast<int64_t>(malloc_usable_size(block)), std::memory_order_relaxed);
}

}  // namespace

namespace mica::test {

int64_t heap_bytes() { return now; }
int64_t heap_peak() { return most; }
void reset_heap_peak() { most.store(now); }

}  // namespace mica::test

extern "C" {

void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* block, size_t size);
void* __libc_memalign(size_t alignment, size_t size);
void __libc_free(void* block);

void* malloc(size_t size) { return counted(__libc_malloc(size)); }
void* calloc(size_t count, size_t size) { return counted(__libc_calloc(count, size)); }
void* memalign(size_t alignment, size_t size) { return counted(__libc_memalign(alignment, size)); }
void* aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }

void* realloc(void* block, size_t size) {
  const auto old = static_cast<int64_t>(block ? malloc_usable_size(block) : 0);
  void* moved = __libc_realloc(block, size);
  if (!moved && size > 0) return nullptr;  // the old block stays
  now.fetch_sub(old, std::memory_order_relaxed);
  return counted(moved);
}

int posix_memalign(void** block, size_t alignment, size_t size) {
  *block = memalign(alignment, size);
  return *block ? 0 : 12;  // ENOMEM
}

void free(void* block) {
  discount(block);
  __libc_free(block);
}

}  // extern "C"
