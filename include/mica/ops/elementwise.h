// Functions of each element, with NumPy's broadcasting. The functors are in scalar.h.
#pragma once

#include "mica/core/tensor.h"
#include "mica/ops/scalar.h"

namespace MICA_EXPORT mica {

namespace detail {
Tensor unary(UnaryOp op, const Tensor& x);
Tensor binary(BinaryOp op, const Tensor& a, const Tensor& b);
Tensor scalar_like(double value, const Tensor& x);
}  // namespace detail

// Tensor relu(const Tensor& x), exp, log, sqrt and so on, each of MICA_UNARY_OPS (scalar_unary.h):
// y[i] = f(x[i]), of x's shape. Throws Error unless x is float32 or float64. Differentiable.
#define MICA_DECLARE(function, Functor) \
  inline Tensor function(const Tensor& x) { return detail::unary(UnaryOp::function, x); }
MICA_UNARY_OPS(MICA_DECLARE)
#undef MICA_DECLARE

// Tensor add(const Tensor& a, const Tensor& b), subtract, multiply, divide, power, maximum, minimum, leaky_relu (b: the
// slope below 0), elu (b: alpha), squared_difference ((a - b)^2), absolute_difference (|a - b|), sigmoid_cross_entropy
// (a: logits, b: the truth in [0, 1]; -(b log s + (1 - b) log(1 - s)), s = sigmoid(a)): of the shape to which a and b
// broadcast. Throws Error when they do not, or their dtypes differ, or are none of float32, float64 and, up to minimum,
// int32 and int64 (which wrap; division rounds down, and by 0 gives 0). Differentiable for floats. A number in place of
// a tensor takes the other's dtype, and must be one of its values: an integer tensor times 0.5 throws.
#define MICA_DECLARE(function, Functor)                                                                         \
  inline Tensor function(const Tensor& a, const Tensor& b) { return detail::binary(BinaryOp::function, a, b); } \
  inline Tensor function(const Tensor& a, double b) { return function(a, detail::scalar_like(b, a)); }          \
  inline Tensor function(double a, const Tensor& b) { return function(detail::scalar_like(a, b), b); }
MICA_BINARY_OPS(MICA_DECLARE)
#undef MICA_DECLARE

/// With their usual parameters: a slope of 0.01, an alpha of 1.
inline Tensor leaky_relu(const Tensor& x) { return leaky_relu(x, 0.01); }
inline Tensor elu(const Tensor& x) { return elu(x, 1.0); }

#define MICA_OPERATOR(symbol, function)                                                      \
  inline Tensor operator symbol(const Tensor& a, const Tensor& b) { return function(a, b); } \
  inline Tensor operator symbol(const Tensor& a, double b) { return function(a, b); }        \
  inline Tensor operator symbol(double a, const Tensor& b) { return function(a, b); }
MICA_OPERATOR(+, add)
MICA_OPERATOR(-, subtract)
MICA_OPERATOR(*, multiply)
MICA_OPERATOR(/, divide)
#undef MICA_OPERATOR

inline Tensor operator-(const Tensor& x) { return negative(x); }

}  // namespace mica
