// What the CPU kernels of one level share. Everything here lives in the level's namespace: an inline function compiled
// for one instruction set must never stand in for another's.
#pragma once

#include <cstdint>

#include "core/parallel.h"
#include "cpu/level.h"
#include "mica/core/error.h"
#include "mica/ops/scalar.h"

namespace mica::kernels::cpu::MICA_CPU_LEVEL {

// Calls f with a value of the C++ type of a floating dtype.
template <class F>
[[gnu::always_inline]] inline void for_float(DType dtype, const F& f) {
  MICA_ASSERT(dtype == DType::float32 || dtype == DType::float64);
  if (dtype == DType::float32)
    f(float{});
  else
    f(double{});
}

// Calls f with the functor of a scalar function.
template <class F>
[[gnu::always_inline]] inline void for_unary(UnaryOp op, const F& f) {
  switch (op) {
#define MICA_CASE(function, Functor) \
  case UnaryOp::function: return f(scalar::Functor{});
    MICA_UNARY_OPS(MICA_CASE)
#undef MICA_CASE
  }
}

template <class F>
[[gnu::always_inline]] inline void for_binary(BinaryOp op, const F& f) {
  switch (op) {
#define MICA_CASE(function, Functor) \
  case BinaryOp::function: return f(scalar::Functor{});
    MICA_BINARY_OPS(MICA_CASE)
#undef MICA_CASE
  }
}

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
