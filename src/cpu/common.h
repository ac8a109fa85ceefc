// What the CPU kernels of one level share. Everything here lives in the level's namespace: an inline function compiled
// for one instruction set must never stand in for another's.
#pragma once

#include <cstdint>
#include <type_traits>

#include "core/parallel.h"
#include "cpu/level.h"
#include "kernels/switch.h"

namespace mica::kernels::cpu::MICA_CPU_LEVEL {

// Elements below which a second thread costs more than it brings.
inline constexpr int64_t kGrain = 16384;

// Adds or assigns.
template <class T>
[[gnu::always_inline]] inline void store(T& target, T value, bool accumulate) {
  target = accumulate ? target + value : value;
}

[[gnu::always_inline]] inline int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }
[[gnu::always_inline]] inline int64_t max(int64_t a, int64_t b) { return a > b ? a : b; }

}  // namespace mica::kernels::cpu::MICA_CPU_LEVEL
