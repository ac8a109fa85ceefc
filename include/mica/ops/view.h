// Shapes and types changed, values kept. reshape, slice, clone and to() are members of Tensor.
#pragma once

#include "mica/core/tensor.h"

namespace MICA_EXPORT mica {

/// `x` repeated to `shape` as NumPy broadcasts. Differentiable.
Tensor broadcast_to(const Tensor& x, const Shape& shape);

/// float32 [..., classes] with 1 where the label is, from integer labels [...]. Throws Error for labels outside of
/// [0, classes).
Tensor one_hot(const Tensor& labels, int64_t classes);

/// Integer labels as int64; throws Error naming `op` and the first label outside of [0, classes).
Tensor checked_labels(const char* op, const Tensor& labels, int64_t classes);

}  // namespace mica
