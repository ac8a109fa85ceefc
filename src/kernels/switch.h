// From a dtype or an op, known at run time, to its C++ type: each calls `f` with a value of it. What is not inlined
// into the caller carries the type of `f`, a lambda of the caller's: code for one instruction set never serves another.
#pragma once

#include <cstdint>
#include <type_traits>

#include "mica/core/dtype.h"
#include "mica/core/error.h"
#include "mica/ops/scalar.h"

namespace mica::kernels {

/// Of float32 and float64.
template <class F>
[[gnu::always_inline]] inline void for_float(DType dtype, const F& f) {
  MICA_ASSERT(dtype == DType::float32 || dtype == DType::float64);
  if (dtype == DType::float32)
    f(float{});
  else
    f(double{});
}

/// Of any dtype.
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

/// Of each but bfloat16.
template <class F>
[[gnu::always_inline]] inline void for_number(DType dtype, const F& f) {
  MICA_ASSERT(dtype != DType::bfloat16);
  for_any(dtype, [&](auto t) {
    if constexpr (!std::is_same_v<decltype(t), BFloat16>) f(t);
  });
}

/// An unsigned integer of the dtype's size: for what moves values and does not look at them.
template <class F>
[[gnu::always_inline]] inline void for_size(DType dtype, const F& f) {
  switch (size_of(dtype)) {
    case 1: return f(uint8_t{});
    case 2: return f(uint16_t{});
    case 4: return f(uint32_t{});
    default: return f(uint64_t{});
  }
}

#define MICA_CASE(function, Functor) \
  case Op::function: return f(scalar::Functor{});

/// The functor of a unary function.
template <class F>
[[gnu::always_inline]] inline void for_unary(UnaryOp op, const F& f) {
  using Op = UnaryOp;
  switch (op) { MICA_UNARY_OPS(MICA_CASE) }
}

/// The same of those that kernels fuse.
template <class F>
[[gnu::always_inline]] inline void for_fused(UnaryOp op, const F& f) {
  using Op = UnaryOp;
  switch (op) {
    MICA_FUSED_OPS(MICA_CASE)
    default: MICA_ASSERT(false);
  }
}

/// The functor of a binary function.
template <class F>
[[gnu::always_inline]] inline void for_binary(BinaryOp op, const F& f) {
  using Op = BinaryOp;
  switch (op) { MICA_BINARY_OPS(MICA_CASE) }
}

/// The functor of a comparison.
template <class F>
[[gnu::always_inline]] inline void for_comparison(CompareOp op, const F& f) {
  using Op = CompareOp;
  switch (op) { MICA_COMPARE_OPS(MICA_CASE) }
}

#undef MICA_CASE

/// std::true_type or std::false_type.
template <class F>
[[gnu::always_inline]] inline void for_bool(bool value, const F& f) {
  if (value)
    f(std::true_type{});
  else
    f(std::false_type{});
}

}  // namespace mica::kernels
