// Reductions: checks, forward and gradient.
#include "mica/ops/reduce.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "mica/ops/compare.h"
#include "mica/ops/manipulate.h"
#include "ops/common.h"

namespace MICA_EXPORT mica {

Axes::Axes(std::span<const int> axes) {
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

// Calls kernel(args, from, to) for each run of neighbouring axes of `mask`, the last run first. The result has size 1
// along them; it is x itself where the mask is empty.
template <class Kernel>
Tensor by_runs(const Tensor& x, unsigned mask, const Kernel& kernel) {
  Tensor y = x;
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
    kernel(args, y, z);
    y = std::move(z);
    end = begin;
  }
  return y;
}

Tensor scaled_sum(const Tensor& x, unsigned mask, double scale) {
  Context ctx = context(x.device());
  bool scaled = false;
  return by_runs(x, mask, [&](const kernels::ReduceArgs& args, const Tensor& from, Tensor& to) {
    kernels_for(x.device())
        .reduce_sum(ctx, args, scaled ? 1.0 : scale, from.raw(), ops::out(to), kernels::Write::overwrite);
    scaled = true;
  });
}

Tensor folded(kernels::ReduceOp op, const Tensor& x, unsigned mask) {
  Context ctx = context(x.device());
  return by_runs(x, mask, [&](const kernels::ReduceArgs& args, const Tensor& from, Tensor& to) {
    kernels_for(x.device()).reduce(ctx, op, args, from.raw(), ops::out(to));
  });
}

// What was reduced with size 1 along the axes, under its final shape, in storage of its own.
Tensor finished(const Tensor& y, const Tensor& x, unsigned mask, bool keepdims) {
  const Tensor own = y.shares_storage_with(x) ? y.clone() : y;  // nothing was reduced
  return own.detach().reshape(reduced(x.shape(), mask, keepdims));
}

int64_t count_of(const Shape& shape, unsigned mask) {
  int64_t count = 1;
  for (int i = 0; i < shape.rank(); ++i)
    if (mask >> i & 1u) count *= shape[i];
  return count;
}

Tensor reduce(const char* op, const Tensor& x, const Axes& axes, bool keepdims, bool average) {
  ops::check_float(op, "the input", x);
  const unsigned mask = axes.mask(op, x.shape());
  const Shape kept = reduced(x.shape(), mask, true);
  const int64_t count = count_of(x.shape(), mask);  // of the elements behind each result
  const double scale = !average    ? 1.0
                       : count > 0 ? 1.0 / static_cast<double>(count)
                                   : std::numeric_limits<double>::quiet_NaN();
  Tensor y = finished(scaled_sum(x, mask, scale), x, mask, keepdims);
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

Tensor sum(const Tensor& x, const Axes& axes, bool keepdims) {
  if (!x.defined() || is_floating(x.dtype())) return reduce("sum", x, axes, keepdims, false);
  const unsigned mask = axes.mask("sum", x.shape());
  const Tensor wide = x.to(int64);
  return finished(scaled_sum(wide, mask, 1), wide, mask, keepdims);
}

Tensor mean(const Tensor& x, const Axes& axes, bool keepdims) { return reduce("mean", x, axes, keepdims, true); }

Tensor prod(const Tensor& x, const Axes& axes, bool keepdims) {
  ops::check_number("prod", x);
  const unsigned mask = axes.mask("prod", x.shape());
  const Tensor wide = is_floating(x.dtype()) ? x : x.to(int64);
  Context ctx = context(x.device());
  // Each run of axes is an op of its own.
  const Tensor y = by_runs(wide, mask, [&](const kernels::ReduceArgs& args, const Tensor& from, Tensor& to) {
    kernels_for(x.device()).reduce(ctx, kernels::ReduceOp::product, args, from.raw(), ops::out(to));
    if (Tape* tape = is_floating(x.dtype()) ? Tape::recording(from) : nullptr)
      tape->record("prod", {&from}, {&to}, {&from}, [args](Gradients& g) {
        Tensor dx = empty_like(g.saved(0));
        Context c = context(dx.device());
        kernels_for(dx.device()).product_gradient(c, args, g.saved(0).raw(), g.dy().raw(), ops::out(dx));
        g.add(0, dx);
      });
  });
  const Tensor own = y.shares_storage_with(wide) ? y.clone() : y;
  return own.reshape(reduced(x.shape(), mask, keepdims));
}

namespace {

Tensor extreme(const char* op, kernels::ReduceOp which, const Tensor& x, const Axes& axes, bool keepdims) {
  ops::check_number(op, x);
  const unsigned mask = axes.mask(op, x.shape());
  check(count_of(x.shape(), mask) > 0, op, "there is nothing to choose from along the axes of ", x.shape());
  Tensor y = finished(folded(which, x, mask), x, mask, keepdims);
  if (Tape* tape = is_floating(x.dtype()) ? Tape::recording(x) : nullptr)
    tape->record(op, {&x}, {&y}, {&x, &y}, [mask, kept = reduced(x.shape(), mask, true)](Gradients& g) {
      // Where there is a NaN, it was chosen.
      const Tensor& in = g.saved(0);
      const Tensor chosen = logical_or(equal(in, g.saved(1).reshape(kept)), isnan(in)).to(g.dy().dtype());
      const Tensor share = g.dy().reshape(kept) / maximum(scaled_sum(chosen, mask, 1), 1);
      g.add(0, chosen * share);
    });
  return y;
}

}  // namespace

Tensor max(const Tensor& x, const Axes& axes, bool keepdims) {
  return extreme("max", kernels::ReduceOp::max, x, axes, keepdims);
}
Tensor min(const Tensor& x, const Axes& axes, bool keepdims) {
  return extreme("min", kernels::ReduceOp::min, x, axes, keepdims);
}

namespace {

Tensor truth(const char* op, kernels::ReduceOp which, const Tensor& x, const Axes& axes, bool keepdims) {
  ops::check_number(op, x);
  const unsigned mask = axes.mask(op, x.shape());
  const Tensor nonzero = not_equal(x, 0);
  return finished(folded(which, nonzero, mask), nonzero, mask, keepdims);
}

}  // namespace

Tensor any(const Tensor& x, const Axes& axes, bool keepdims) {
  return truth("any", kernels::ReduceOp::max, x, axes, keepdims);
}
Tensor all(const Tensor& x, const Axes& axes, bool keepdims) {
  return truth("all", kernels::ReduceOp::product, x, axes, keepdims);
}

Tensor var(const Tensor& x, const Axes& axes, bool keepdims, int64_t ddof) {
  ops::check_float("var", "the input", x);
  check(ddof >= 0 && ddof < (int64_t{1} << 40), "var", "ddof must not be negative or huge, got ", ddof);
  const auto n = static_cast<double>(count_of(x.shape(), axes.mask("var", x.shape())));
  // The mean takes no part in the gradient: the deviations sum to 0, and do so exactly once what its rounding left of
  // them is taken away too.
  const Tensor rough = x - mean(x.detach(), axes, true), deviation = rough - mean(rough.detach(), axes, true);
  return sum(square(deviation), axes, keepdims) / std::max(n - static_cast<double>(ddof), 0.0);
}

namespace {

// sqrt(x) of a sum of squares; its gradient is 0 at 0.
Tensor root(const char* op, const Tensor& x) {
  Tensor y = sqrt(x.detach());
  if (Tape* tape = Tape::recording(x))
    tape->record(op, {&x}, {&y}, {&y},
                 [](Gradients& g) { g.add(0, where(equal(g.saved(0), 0), 0, g.dy() * 0.5 / g.saved(0))); });
  return y;
}

}  // namespace

Tensor stddev(const Tensor& x, const Axes& axes, bool keepdims, int64_t ddof) {
  return root("stddev", var(x, axes, keepdims, ddof));
}

Tensor norm(const Tensor& x, const Axes& axes, bool keepdims, double p) {
  ops::check_float("norm", "the input", x);
  check(p == 1 || p == 2 || p == std::numeric_limits<double>::infinity(), "norm", "p must be 1, 2 or infinity, got ",
        p);
  if (p == 1) return sum(abs(x), axes, keepdims);
  if (p == 2) return root("norm", sum(square(x), axes, keepdims));
  return max(abs(x), axes, keepdims);
}

Tensor logsumexp(const Tensor& x, const Axes& axes, bool keepdims) {
  ops::check_float("logsumexp", "the input", x);
  const unsigned mask = axes.mask("logsumexp", x.shape());
  const Shape kept = reduced(x.shape(), mask, true);
  const Tensor in = x.detach(), largest = folded(kernels::ReduceOp::max, in, mask);
  const Tensor shift = where(isfinite(largest), largest, 0);
  Tensor y = (log(scaled_sum(exp(in - shift), mask, 1)) + shift).reshape(reduced(x.shape(), mask, keepdims));
  if (Tape* tape = Tape::recording(x))
    tape->record("logsumexp", {&x}, {&y}, {&x, &y}, [kept](Gradients& g) {
      const Tensor total = g.saved(1).reshape(kept);
      const Tensor share = exp(g.saved(0) - where(equal(total, -std::numeric_limits<double>::infinity()), 0,
                                                  total));  // of -inf alone: 0 each
      g.add(0, share * g.dy().reshape(kept));
    });
  return y;
}

namespace {

Tensor position(const char* op, kernels::ReduceOp which, const Tensor& x, int axis) {
  ops::check_number(op, x);
  const int a = ops::checked_axis(op, x.shape(), axis);
  check(x.dim(a) > 0, op, "axis ", axis, " of ", x.shape(), " is empty");
  const ops::AroundAxis at(x.shape(), a);
  Tensor index = empty(ops::without_axis(x.shape(), a), {int64, x.device()});
  Context ctx = context(x.device());
  kernels_for(x.device())
      .arg_reduce(ctx, which, {.dtype = x.dtype(), .outer = at.outer, .n = at.n, .inner = at.inner}, x.raw(),
                  static_cast<int64_t*>(ops::out(index)));
  return index;
}

}  // namespace

Tensor argmax(const Tensor& x, int axis) { return position("argmax", kernels::ReduceOp::max, x, axis); }
Tensor argmin(const Tensor& x, int axis) { return position("argmin", kernels::ReduceOp::min, x, axis); }

Tensor ops::sum_to(const Tensor& x, const Shape& shape) {
  if (x.shape() == shape) return x;
  unsigned mask = 0;
  const int extra = x.rank() - shape.rank();
  for (int i = 0; i < x.rank(); ++i)
    if (i < extra || shape[i - extra] != x.dim(i)) mask |= 1u << i;
  Tensor y = scaled_sum(x, mask, 1.0);
  return (y.shares_storage_with(x) ? y.clone() : y).detach().reshape(shape);
}

}  // namespace mica
