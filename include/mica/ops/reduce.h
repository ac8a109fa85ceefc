// Reductions over axes. float32 and float64, and integers where it is said.
#pragma once

#include <initializer_list>
#include <span>

#include "mica/core/tensor.h"

namespace MICA_EXPORT mica {

/// The axes of a reduction: a number, a list, or (none given, an empty list too) all. Negative ones count from the end.
class Axes {
 public:
  Axes() = default;
  Axes(int axis) : axes_{axis}, count_(1) {}
  Axes(std::initializer_list<int> axes) : Axes(std::span(axes.begin(), axes.size())) {}
  explicit Axes(std::span<const int> axes);
  /// One flag for each axis of `shape`; throws Error for an axis out of range or given twice.
  unsigned mask(const char* op, const Shape& shape) const;
  int count() const { return count_; }
  int operator[](int i) const { return axes_[i]; }

 private:
  int axes_[Shape::kMaxRank] = {};
  int count_ = 0;
};

// All of these take the axes that vanish from the shape, or stay with size 1 (keepdims).

/// The sum; integers add up in int64. Differentiable.
Tensor sum(const Tensor& x, const Axes& axes = {}, bool keepdims = false);
/// The mean; NaN where there is nothing to average. Differentiable.
Tensor mean(const Tensor& x, const Axes& axes = {}, bool keepdims = false);
/// The product, 1 of nothing; integers multiply in int64. Differentiable, at zeros too.
Tensor prod(const Tensor& x, const Axes& axes = {}, bool keepdims = false);
/// The largest / smallest value; NaN where there is one. Throws Error where there is none to choose from.
/// Differentiable: equals share the gradient.
Tensor max(const Tensor& x, const Axes& axes = {}, bool keepdims = false);
Tensor min(const Tensor& x, const Axes& axes = {}, bool keepdims = false);
/// Whether any / each element is not 0: uint8.
Tensor any(const Tensor& x, const Axes& axes = {}, bool keepdims = false);
Tensor all(const Tensor& x, const Axes& axes = {}, bool keepdims = false);

/// sum((x - mean)^2) / (n - ddof), and its root (NumPy's std). NaN or infinite where n <= ddof. Differentiable; the
/// root's gradient is 0 where all values are equal.
Tensor var(const Tensor& x, const Axes& axes = {}, bool keepdims = false, int64_t ddof = 0);
Tensor stddev(const Tensor& x, const Axes& axes = {}, bool keepdims = false, int64_t ddof = 0);
/// (sum |x|^p)^(1/p) for p = 1, 2 or infinity: of all elements together, whatever the rank. Differentiable; at 0 with
/// gradient 0.
Tensor norm(const Tensor& x, const Axes& axes = {}, bool keepdims = false, double p = 2);
/// log(sum(exp(x))), without overflow; -inf of nothing. Differentiable.
Tensor logsumexp(const Tensor& x, const Axes& axes = {}, bool keepdims = false);

/// int64 positions of the first maximum / minimum along `axis`, which vanishes; NaN wins. Throws Error where the axis
/// has size 0.
Tensor argmax(const Tensor& x, int axis = -1);
Tensor argmin(const Tensor& x, int axis = -1);

}  // namespace mica
