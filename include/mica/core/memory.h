// The allocator under every tensor: process-wide, caching, without locks.
#pragma once

#include "mica/core/macros.h"

#include <cstddef>
#include <cstdint>

namespace MICA_EXPORT mica {

/// What the allocator holds, in bytes, and how often it asked the system since the program began.
struct MemoryStatistics {
  int64_t in_use = 0;              ///< handed out now
  int64_t peak = 0;                ///< the most ever handed out at once
  int64_t cached = 0;              ///< free, kept for reuse
  int64_t system_allocations = 0;  ///< requests that no cached block could serve
};

MemoryStatistics memory_statistics();

/// Gives the cached blocks back to the system.
void release_cached();

namespace detail {

/// 64-byte aligned memory of at least `bytes`; throws std::bad_alloc. Freed blocks are kept by size class and handed
/// out again, so a warm training step never reaches the system; at most 2 GiB of them. Under the address sanitizer
/// nothing is kept.
void* allocate(size_t bytes);
void deallocate(void* block, size_t bytes) noexcept;

}  // namespace detail
}  // namespace mica
