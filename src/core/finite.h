// Whether a tensor is finite, and where it is not.
#pragma once

#include <string>

#include "mica/core/tensor.h"

namespace mica {

/// The flat position of the first NaN or infinity, or -1; integers have none.
int64_t first_nonfinite(const Tensor& x);

/// "element [0,1] of shape [2,2] is nan", of a position that first_nonfinite gave.
std::string nonfinite_text(const Tensor& x, int64_t position);

}  // namespace mica
