// What this program's heap holds: bytes handed out by malloc and its kin, on all threads.
#pragma once

#include <cstdint>

namespace mica::test {

/// The bytes that are handed out now.
int64_t heap_bytes();

/// The most bytes that were handed out at once since the last call of reset_heap_peak().
int64_t heap_peak();
void reset_heap_peak();

}  // namespace mica::test
