// Softmax over the last axis.
#pragma once

#include "mica/core/tensor.h"

namespace MICA_EXPORT mica {

/// exp(x) / sum(exp(x)) over the last axis, computed from x - max(x). Differentiable.
Tensor softmax(const Tensor& x);
/// log(softmax(x)), without the underflow. Differentiable.
Tensor log_softmax(const Tensor& x);

}  // namespace mica
