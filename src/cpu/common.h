// What the CPU kernels of one level share. Everything here lives in the level's namespace: an inline function compiled
// for one instruction set must never stand in for another's.
#pragma once

#include <cstdint>
#include <type_traits>

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

// Calls f with a value of the C++ type of any dtype.
template <class F>
[[gnu::always_inline]] inline void for_any(DType dtype, const F& f) {
  switch (dtype) {
    case DType::float32: return f(float{});
    case DType::float64: return f(double{});
    case DType::bfloat16: return f(BFloat16{});
    case DType::int32: return f(int32_t{});
    case DType::int64: return f(int64_t{});
    case DType::uint8: return f(uint8_t{});
  }
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

// The same of those that kernels fuse.
template <class F>
[[gnu::always_inline]] inline void for_fused(UnaryOp op, const F& f) {
  switch (op) {
#define MICA_CASE(function, Functor) \
  case UnaryOp::function: return f(scalar::Functor{});
    MICA_FUSED_OPS(MICA_CASE)
#undef MICA_CASE
    default: MICA_ASSERT(false);
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

// Calls f with a value of each C++ type but BFloat16.
template <class F>
[[gnu::always_inline]] inline void for_number(DType dtype, const F& f) {
  MICA_ASSERT(dtype != DType::bfloat16);
  for_any(dtype, [&](auto t) {
    if constexpr (!std::is_same_v<decltype(t), BFloat16>) f(t);
  });
}

// Calls f with an unsigned integer of the size of any dtype: for what moves values and does not look at them.
template <class F>
[[gnu::always_inline]] inline void for_size(DType dtype, const F& f) {
  switch (size_of(dtype)) {
    case 1: return f(uint8_t{});
    case 2: return f(uint16_t{});
    case 4: return f(uint32_t{});
    default: return f(uint64_t{});
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
