// Elements by their positions: take, gather, scatter, sort. Indices are integer tensors; negative ones count from the
// end, as in NumPy; others outside of the axis throw Error.
#pragma once

#include "mica/core/tensor.h"

namespace MICA_EXPORT mica {

/// x[..., indices, ...] along `axis`, which the axes of `indices` replace. Any dtype.
/// Differentiable.
Tensor take(const Tensor& x, const Tensor& indices, int axis = 0);

/// Rows of table [tokens, size] for integer tokens [...]: [..., size]. Throws Error for a token outside of [0, tokens).
/// Differentiable in the table.
Tensor embedding(const Tensor& table, const Tensor& tokens);

/// y[i][j][k] = x[indices[i][j][k]][j][k] (axis 0), and so on: `indices` has x's shape but for `axis`. NumPy's
/// take_along_axis. Any dtype. Differentiable.
Tensor gather(const Tensor& x, const Tensor& indices, int axis);

/// A copy of `x` to which `updates`, of the shape of `indices`, are added: y[indices[i][j][k]][j][k] +=
/// updates[i][j][k] (axis 0). Indices may repeat. float32 or float64. Differentiable in x and updates.
Tensor scatter_add(const Tensor& x, const Tensor& indices, const Tensor& updates, int axis);

/// float32 [..., classes] with 1 where the label is, from integer labels [...]. Throws Error for labels outside of
/// [0, classes).
Tensor one_hot(const Tensor& labels, int64_t classes);

struct SortOptions {
  bool descending = false;
};
/// The values in order along `axis`; NaN counts as the largest. Differentiable.
Tensor sort(const Tensor& x, int axis = -1, SortOptions options = {});
/// int64 positions of the values in order; equal ones keep theirs (a stable sort).
Tensor argsort(const Tensor& x, int axis = -1, SortOptions options = {});

struct TopK {
  Tensor values, indices;
};
/// The `k` largest values along `axis` and their int64 positions, the largest first. Differentiable in the values.
TopK top_k(const Tensor& x, int64_t k, int axis = -1);

/// Running sums along `axis`. Integers add up in int64. Differentiable.
Tensor cumsum(const Tensor& x, int axis);

}  // namespace mica
