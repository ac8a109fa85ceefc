// Values moved and put together: NumPy's joining, splitting, padding and rearranging.
// All are differentiable and take any dtype. Views (reshape, slices along the first axis) are members of Tensor.
#pragma once

#include <initializer_list>
#include <limits>
#include <span>

#include "mica/core/tensor.h"
#include "mica/ops/reduce.h"

namespace MICA_EXPORT mica {

/// `x` repeated to `shape` as NumPy broadcasts.
Tensor broadcast_to(const Tensor& x, const Shape& shape);

/// The axes in another order: axis i of the result is axis axes[i] of x; none given: reversed.
Tensor transpose(const Tensor& x, const Axes& axes = {});

/// `x` with an axis of size 1 put before `axis` (-1: as the last) / without `axis`, which must have size 1. Views.
Tensor expand_dims(const Tensor& x, int axis);
Tensor squeeze(const Tensor& x, int axis);

/// The tensors one after another along `axis`; their other sizes must be equal.
Tensor concat(std::span<const Tensor> xs, int axis = 0);
inline Tensor concat(std::initializer_list<Tensor> xs, int axis = 0) {
  return concat(std::span(xs.begin(), xs.size()), axis);
}
/// The tensors, all of one shape, along a new axis put before `axis` (-1: as the last).
Tensor stack(std::span<const Tensor> xs, int axis = 0);
inline Tensor stack(std::initializer_list<Tensor> xs, int axis = 0) {
  return stack(std::span(xs.begin(), xs.size()), axis);
}
/// `x` cut into `sections` equal parts along `axis` / into parts of these sizes, which add up to the axis.
Tensors split(const Tensor& x, int64_t sections, int axis = 0);
Tensors split(const Tensor& x, std::span<const int64_t> sizes, int axis = 0);
inline Tensors split(const Tensor& x, std::initializer_list<int64_t> sizes, int axis = 0) {
  return split(x, std::span(sizes.begin(), sizes.size()), axis);
}

/// begin:end:step of one axis, by Python's rules: negative bounds count from the end, bounds beyond it are cut, kNone
/// is left out. Range{} is all of an axis, Range{kNone, kNone, -1} all of it backwards.
struct Range {
  static constexpr int64_t kNone = std::numeric_limits<int64_t>::min();
  int64_t begin = kNone, end = kNone, step = 1;
};
/// x[begin:end:step, ...], one range an axis; axes beyond the last range are taken whole. Throws Error for a step of 0.
Tensor slice(const Tensor& x, std::span<const Range> ranges);
inline Tensor slice(const Tensor& x, std::initializer_list<Range> ranges) {
  return slice(x, std::span(ranges.begin(), ranges.size()));
}

/// How many elements to put before and after an axis.
struct PadWidth {
  int64_t before = 0, after = 0;
};
/// constant: `value`; edge: the outermost element; reflect: the elements mirrored at the outermost, which is not
/// repeated.
enum class PadMode : unsigned char { constant, edge, reflect };
struct PadOptions {
  PadMode mode = PadMode::constant;
  double value = 0;
};
/// `x` with a border, one width an axis. Throws Error for negative widths, edges of nothing, and reflections wider than
/// the axis less one.
Tensor pad(const Tensor& x, std::span<const PadWidth> widths, PadOptions options = {});
inline Tensor pad(const Tensor& x, std::initializer_list<PadWidth> widths, PadOptions options = {}) {
  return pad(x, std::span(widths.begin(), widths.size()), options);
}

/// The elements moved by `shift` along `axis`, those beyond the end to the beginning.
Tensor roll(const Tensor& x, int64_t shift, int axis);
/// The order reversed along `axes`; none given: along all.
Tensor flip(const Tensor& x, const Axes& axes = {});
/// Each element `count` times in a row along `axis`.
Tensor repeat(const Tensor& x, int64_t count, int axis);
/// The whole of `x` repeated, one count an axis; fewer counts than axes serve the last ones, more add axes in front.
Tensor tile(const Tensor& x, std::span<const int64_t> counts);
inline Tensor tile(const Tensor& x, std::initializer_list<int64_t> counts) {
  return tile(x, std::span(counts.begin(), counts.size()));
}

/// The elements whose indices along two axes are equal: those axes vanish, the diagonal is the last axis.
Tensor diagonal(const Tensor& x, int axis1 = 0, int axis2 = 1);
/// The lower / upper triangle of the last two axes: what lies above / below the `k`-th diagonal is zero.
Tensor tril(const Tensor& x, int64_t k = 0);
Tensor triu(const Tensor& x, int64_t k = 0);

}  // namespace mica
