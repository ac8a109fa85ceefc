// Reductions: checks, forward and gradient.
#include "mica/ops/reduce.h"

#include <bit>
#include <limits>

#include "mica/ops/view.h"
#include "ops/common.h"

namespace MICA_EXPORT mica {

Axes::Axes(std::initializer_list<int> axes) {
  check(axes.size() <= Shape::kMaxRank, "axes", "a tensor has at most 8 axes");
  for (const int axis : axes) axes_[count_++] = axis;
}

unsigned Axes::mask(const char* op, const Shape& shape) const {
  if (count_ == 0) return (1u << shape.rank()) - 1;
  unsigned mask = 0;
  for (int i = 0; i < count_; ++i) {
    const int axis = axes_[i] < 0 ? axes_[i] + shape.rank() : axes_[i];
    check(axis >= 0 && axis < shape.rank(), op, "axis ", axes_[i], " is out of range for shape ", shape);
    check(!(mask >> axis & 1u), op, "axis ", axes_[i], " is given twice");
    mask |= 1u << axis;
  }
  return mask;
}

namespace {

Shape reduced(const Shape& shape, unsigned mask, bool keepdims) {
  int64_t sizes[Shape::kMaxRank];
  size_t rank = 0;
  for (int i = 0; i < shape.rank(); ++i) {
    if (!(mask >> i & 1u))
      sizes[rank++] = shape[i];
    else if (keepdims)
      sizes[rank++] = 1;
  }
  return Shape(std::span<const int64_t>(sizes, rank));
}

// scale * the sum over the axes of `mask`: one kernel call for each run of neighbouring axes, the last run first.
Tensor scaled_sum(const Tensor& x, unsigned mask, double scale) {
  Context ctx = context(x.device());
  Tensor y = x.detach();
  bool scaled = false;
  for (int end = x.rank(); end > 0;) {
    if (!(mask >> (end - 1) & 1u)) {
      --end;
      continue;
    }
    int begin = end - 1;
    while (begin > 0 && (mask >> (begin - 1) & 1u)) --begin;
    kernels::ReduceArgs args{.dtype = x.dtype(), .outer = 1, .n = 1, .inner = 1};
    Shape shape = y.shape();
    for (int i = 0; i < y.rank(); ++i) (i < begin ? args.outer : i < end ? args.n : args.inner) *= shape[i];
    for (int i = begin; i < end; ++i) shape[i] = 1;
    Tensor z = empty(shape, {x.dtype(), x.device()});
    kernels_for(x.device())
        .reduce_sum(ctx, args, scaled ? 1.0 : scale, y.raw(), ops::out(z), kernels::Write::overwrite);
    scaled = true;
    y = std::move(z);
    end = begin;
  }
  return y;
}

Tensor reduce(const char* op, const Tensor& x, const Axes& axes, bool keepdims, bool average) {
  ops::check_float(op, "the input", x);
  const unsigned mask = axes.mask(op, x.shape());
  const Shape kept = reduced(x.shape(), mask, true);
  int64_t count = 1;  // of the elements behind each result
  for (int i = 0; i < x.rank(); ++i)
    if (mask >> i & 1u) count *= x.dim(i);
  const double scale = !average    ? 1.0
                       : count > 0 ? 1.0 / static_cast<double>(count)
                                   : std::numeric_limits<double>::quiet_NaN();
  Tensor y = scaled_sum(x, mask, scale);
  y = y.shares_storage_with(x) ? y.clone() : y;  // nothing was reduced
  y = y.detach().reshape(reduced(x.shape(), mask, keepdims));
  if (Tape* tape = Tape::recording(x))
    tape->record(op, {&x}, {&y}, {}, [scale, kept, shape = x.shape()](Gradients& g) {
      Tensor dy = g.dy().reshape(kept);
      if (scale != 1.0) {
        Tensor scaled = empty_like(dy);
        Context ctx = context(dy.device());
        kernels_for(dy.device()).cast(ctx, dy.elements(), dy.dtype(), dy.raw(), dy.dtype(), scale, 0, ops::out(scaled));
        dy = scaled;
      }
      g.add(0, broadcast_to(dy, shape));
    });
  return y;
}

}  // namespace

Tensor sum(const Tensor& x, const Axes& axes, bool keepdims) { return reduce("sum", x, axes, keepdims, false); }
Tensor mean(const Tensor& x, const Axes& axes, bool keepdims) { return reduce("mean", x, axes, keepdims, true); }

Tensor argmax(const Tensor& x, int axis) {
  ops::check_float("argmax", "the input", x);
  const unsigned mask = Axes(axis).mask("argmax", x.shape());
  const int a = std::countr_zero(mask);
  check(x.dim(a) > 0, "argmax", "axis ", axis, " of ", x.shape(), " is empty");
  kernels::ReduceArgs args{.dtype = x.dtype(), .outer = 1, .n = x.dim(a), .inner = 1};
  for (int i = 0; i < a; ++i) args.outer *= x.dim(i);
  for (int i = a + 1; i < x.rank(); ++i) args.inner *= x.dim(i);
  Tensor index = empty(reduced(x.shape(), mask, false), {int64, x.device()});
  Context ctx = context(x.device());
  kernels_for(x.device()).argmax(ctx, args, x.raw(), static_cast<int64_t*>(ops::out(index)));
  return index;
}

Tensor sum_to(const Tensor& x, const Shape& shape) {
  if (x.shape() == shape) return x;
  unsigned mask = 0;
  const int extra = x.rank() - shape.rank();
  for (int i = 0; i < x.rank(); ++i)
    if (i < extra || shape[i - extra] != x.dim(i)) mask |= 1u << i;
  Tensor y = scaled_sum(x, mask, 1.0);
  return (y.shares_storage_with(x) ? y.clone() : y).detach().reshape(shape);
}

}  // namespace mica
