// Elements by their positions: checks, forward and gradient.
#include "mica/ops/index.h"

#include "ops/common.h"

namespace MICA_EXPORT mica {

namespace {

using ops::AroundAxis;

kernels::GatherArgs gather_args(const Tensor& x, int axis, int64_t m, bool shared) {
  const AroundAxis at(x.shape(), axis);
  return {.dtype = x.dtype(), .outer = at.outer, .n = at.n, .m = m, .inner = at.inner, .shared = shared};
}

const int64_t* positions(const Tensor& index) { return static_cast<const int64_t*>(index.raw()); }

// y = x at `index`, already checked; the gradient goes back to where each value came from.
Tensor gathered(const char* op, const Tensor& x, const Tensor& index, const Shape& shape,
                const kernels::GatherArgs& args) {
  Tensor y = empty(shape, {x.dtype(), x.device()});
  Context ctx = context(x.device());
  kernels_for(x.device()).gather(ctx, args, x.raw(), positions(index), ops::out(y));
  if (Tape* tape = is_floating(x.dtype()) ? Tape::recording(x) : nullptr)
    tape->record(op, {&x}, {&y}, {&index}, [args](Gradients& g) {
      Gradients::Out dx = g.out(0);
      Context c = context(g.dy().device());
      const kernels::Table& k = kernels_for(g.dy().device());
      if (!dx.accumulate) k.fill(c, dx.tensor.dtype(), dx.tensor.elements(), 0, ops::out(dx.tensor));
      k.scatter_add(c, args, g.dy().raw(), positions(g.saved(0)), ops::out(dx.tensor));
    });
  return y;
}

// `indices` must have x's shape but for `axis`.
void check_along(const char* op, const Tensor& x, const Tensor& indices, int axis) {
  check(indices.defined(), op, "the indices are undefined");
  check(indices.device() == x.device(), op, "indices must be on ", x.device());
  check(indices.rank() == x.rank() && ops::with_size(indices.shape(), axis, 0) == ops::with_size(x.shape(), axis, 0),
        op, "indices must have the input's shape but for axis ", axis, ": ", x.shape(), " and ", indices.shape());
}

}  // namespace

Tensor take(const Tensor& x, const Tensor& indices, int axis) {
  check(x.defined(), "take", "the input is undefined");
  const int a = ops::checked_axis("take", x.shape(), axis);
  check(indices.defined(), "take", "the indices are undefined");
  check(indices.device() == x.device(), "take", "indices must be on ", x.device());
  check(x.rank() - 1 + indices.rank() <= Shape::kMaxRank, "take", "the result would have more than 8 axes: ", x.shape(),
        " and indices ", indices.shape());
  int64_t sizes[Shape::kMaxRank];
  size_t rank = 0;
  for (int i = 0; i < a; ++i) sizes[rank++] = x.dim(i);
  for (const int64_t size : indices.shape()) sizes[rank++] = size;
  for (int i = a + 1; i < x.rank(); ++i) sizes[rank++] = x.dim(i);
  const Tensor index = ops::checked_indices("take", indices, x.dim(a));
  return gathered("take", x, index, Shape(std::span<const int64_t>(sizes, rank)),
                  gather_args(x, a, index.elements(), true));
}

Tensor embedding(const Tensor& table, const Tensor& tokens) {
  ops::check_float("embedding", "the table", table);
  check(table.rank() == 2, "embedding", "the table must be [tokens, size], got ", table.shape());
  check(tokens.defined(), "embedding", "the tokens are undefined");
  check(tokens.device() == table.device(), "embedding", "tokens must be on ", table.device());
  const Shape shape = ops::with_axis("embedding", tokens.shape(), -1, table.dim(1));
  const Tensor index = ops::checked_tokens("embedding", tokens, table.dim(0));
  return gathered("embedding", table, index, shape, gather_args(table, 0, index.elements(), true));
}

Tensor gather(const Tensor& x, const Tensor& indices, int axis) {
  check(x.defined(), "gather", "the input is undefined");
  const int a = ops::checked_axis("gather", x.shape(), axis);
  check_along("gather", x, indices, a);
  const Tensor index = ops::checked_indices("gather", indices, x.dim(a));
  return gathered("gather", x, index, indices.shape(), gather_args(x, a, indices.dim(a), false));
}

Tensor scatter_add(const Tensor& x, const Tensor& indices, const Tensor& updates, int axis) {
  ops::check_float("scatter_add", "the input", x);
  ops::check_like("scatter_add", "the updates", updates, x);
  const int a = ops::checked_axis("scatter_add", x.shape(), axis);
  check_along("scatter_add", x, indices, a);
  check(updates.shape() == indices.shape(), "scatter_add", "updates must have the indices' shape: ", updates.shape(),
        " and ", indices.shape());
  const Tensor index = ops::checked_indices("scatter_add", indices, x.dim(a));
  const kernels::GatherArgs args = gather_args(x, a, indices.dim(a), false);
  Tensor y = x.detach().clone();
  Context ctx = context(x.device());
  kernels_for(x.device()).scatter_add(ctx, args, updates.raw(), positions(index), ops::out(y));
  if (Tape* tape = Tape::recording(x, updates))
    tape->record("scatter_add", {&x, &updates}, {&y}, {&index}, [args](Gradients& g) {
      if (g.needs(0)) g.add(0, g.dy());
      if (!g.needs(1)) return;
      Tensor du = empty(g.saved(0).shape(), {g.dy().dtype(), g.dy().device()});
      Context c = context(g.dy().device());
      kernels_for(g.dy().device()).gather(c, args, g.dy().raw(), positions(g.saved(0)), ops::out(du));
      g.add(1, du);
    });
  return y;
}

Tensor one_hot(const Tensor& labels, int64_t classes) {
  check(classes >= 1 && classes < (int64_t{1} << 40), "one_hot", "there must be at least one class, got ", classes);
  check(labels.defined(), "one_hot", "the labels are undefined");
  const Tensor wide = ops::checked_labels("one_hot", labels.to(Device::cpu()), classes);
  Tensor y = zeros(ops::with_axis("one_hot", labels.shape(), -1, classes), {float32, Device::cpu()});
  float* out = y.mutable_data<float>();
  const int64_t* values = wide.data<int64_t>();
  for (int64_t i = 0; i < wide.elements(); ++i) out[i * classes + values[i]] = 1;
  return y.to(labels.device());
}

namespace {

Tensor sorted_positions(const char* op, const Tensor& x, int axis, int64_t k, bool descending) {
  check(x.dtype() != bfloat16, op, "not defined for ", x.dtype());
  const AroundAxis at(x.shape(), axis);
  Tensor index = empty(ops::with_size(x.shape(), axis, k), {int64, x.device()});
  Context ctx = context(x.device());
  kernels_for(x.device())
      .argsort(ctx, {.dtype = x.dtype(), .outer = at.outer, .n = at.n, .inner = at.inner}, descending, k, x.raw(),
               static_cast<int64_t*>(ops::out(index)));
  return index;
}

}  // namespace

Tensor argsort(const Tensor& x, int axis, SortOptions options) {
  check(x.defined(), "argsort", "the input is undefined");
  const int a = ops::checked_axis("argsort", x.shape(), axis);
  return sorted_positions("argsort", x, a, x.dim(a), options.descending);
}

Tensor sort(const Tensor& x, int axis, SortOptions options) {
  check(x.defined(), "sort", "the input is undefined");
  const int a = ops::checked_axis("sort", x.shape(), axis);
  const Tensor index = sorted_positions("sort", x, a, x.dim(a), options.descending);
  return gathered("sort", x, index, x.shape(), gather_args(x, a, x.dim(a), false));
}

TopK top_k(const Tensor& x, int64_t k, int axis) {
  check(x.defined(), "top_k", "the input is undefined");
  const int a = ops::checked_axis("top_k", x.shape(), axis);
  check(k >= 0 && k <= x.dim(a), "top_k", "there are no ", k, " elements along axis ", axis, " of ", x.shape());
  const Tensor index = sorted_positions("top_k", x, a, k, true);
  return {gathered("top_k", x, index, index.shape(), gather_args(x, a, k, false)), index};
}

namespace {

Tensor running_sum(const Tensor& x, const kernels::ReduceArgs& args, bool reverse) {
  Tensor y = empty_like(x);
  Context ctx = context(x.device());
  kernels_for(x.device()).cumsum(ctx, args, reverse, x.raw(), ops::out(y));
  return y;
}

}  // namespace

Tensor cumsum(const Tensor& x, int axis) {
  ops::check_number("cumsum", x);
  const AroundAxis at(x.shape(), ops::checked_axis("cumsum", x.shape(), axis));
  const Tensor wide = is_floating(x.dtype()) ? x : x.to(int64);
  const kernels::ReduceArgs args{.dtype = wide.dtype(), .outer = at.outer, .n = at.n, .inner = at.inner};
  Tensor y = running_sum(wide, args, false);
  if (Tape* tape = is_floating(x.dtype()) ? Tape::recording(x) : nullptr)
    tape->record("cumsum", {&x}, {&y}, {}, [args](Gradients& g) { g.add(0, running_sum(g.dy(), args, true)); });
  return y;
}

}  // namespace mica
