// Reductions over axes.
#pragma once

#include <initializer_list>

#include "mica/core/tensor.h"

namespace MICA_EXPORT mica {

/// The axes of a reduction: a number, a list, or (none given) all. Negative ones count from the end.
class Axes {
 public:
  Axes() = default;
  Axes(int axis) : axes_{axis}, count_(1) {}
  Axes(std::initializer_list<int> axes);
  /// One flag for each axis of `shape`; throws Error for an axis out of range or given twice.
  unsigned mask(const char* op, const Shape& shape) const;

 private:
  int axes_[Shape::kMaxRank] = {};
  int count_ = 0;
};

/// The sum over `axes`, which vanish from the shape, or stay with size 1 (keepdims). Differentiable.
Tensor sum(const Tensor& x, const Axes& axes = {}, bool keepdims = false);
/// The mean; NaN where there is nothing to average. Differentiable.
Tensor mean(const Tensor& x, const Axes& axes = {}, bool keepdims = false);
/// int64 positions of the first maximum along `axis`, which vanishes; throws Error where the axis has size 0.
Tensor argmax(const Tensor& x, int axis = -1);

/// `x` summed over the axes in which `shape` was broadcast to x's: the gradient of broadcast_to.
Tensor sum_to(const Tensor& x, const Shape& shape);

}  // namespace mica
