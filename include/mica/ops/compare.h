// Comparisons and logic, and selection by them. Truth is uint8: 1 or 0.
#pragma once

#include "mica/core/tensor.h"
#include "mica/ops/elementwise.h"

namespace MICA_EXPORT mica {

namespace detail {
Tensor compare(CompareOp op, const Tensor& a, const Tensor& b);
}

// Tensor equal(const Tensor& a, const Tensor& b), not_equal, less, less_equal, greater, greater_equal, logical_and,
// logical_or, logical_xor (of what is not 0): uint8, of the shape to which a and b broadcast. A number in place of a
// tensor takes the other's dtype. Throws Error where dtypes differ or shapes do not broadcast.
#define MICA_DECLARE(function, Functor)                                                                           \
  inline Tensor function(const Tensor& a, const Tensor& b) { return detail::compare(CompareOp::function, a, b); } \
  inline Tensor function(const Tensor& a, double b) { return function(a, detail::scalar_like(b, a)); }            \
  inline Tensor function(double a, const Tensor& b) { return function(detail::scalar_like(a, b), b); }
MICA_COMPARE_OPS(MICA_DECLARE)
#undef MICA_DECLARE

inline Tensor logical_not(const Tensor& x) { return equal(x, 0); }
inline Tensor isnan(const Tensor& x) { return not_equal(x, x); }
/// Neither infinite nor NaN. / Infinite, of either sign.
Tensor isfinite(const Tensor& x);
Tensor isinf(const Tensor& x);

/// a where `condition` (uint8) is not 0, else b; all three broadcast together. Differentiable in a and b.
Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b);
inline Tensor where(const Tensor& condition, const Tensor& a, double b) {
  return where(condition, a, detail::scalar_like(b, a));
}
inline Tensor where(const Tensor& condition, double a, const Tensor& b) {
  return where(condition, detail::scalar_like(a, b), b);
}

/// min(max(x, low), high); NaN stays. Differentiable: the gradient passes where low < x < high. Throws Error unless
/// low <= high.
Tensor clip(const Tensor& x, double low, double high);

}  // namespace mica
