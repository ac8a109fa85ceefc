// Dropout.
#pragma once

#include "mica/core/tensor.h"

namespace MICA_EXPORT mica {

/// x with elements zeroed with probability `rate` (in [0, 1)) and the others divided by 1 - rate; which ones is a
/// function of `key` and the position alone. Srivastava et al., JMLR 2014, in the inverted form. Differentiable.
Tensor dropout(const Tensor& x, double rate, RandomKey key);

}  // namespace mica
