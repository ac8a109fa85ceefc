// The layout of packed parameters, which optimizers give to their states as well: an update passes over both at once.
#pragma once

#include <vector>

#include "mica/autograd/parameter.h"

namespace mica::detail {

/// From the beginning of one packed tensor to that of the next: a whole number of 64-byte lines.
inline size_t packed_bytes(const Tensor& t) { return (t.bytes() + 63) / 64 * 64; }

/// Zeros of each parameter's shape. Those of one dtype and device are views of one flat tensor, in order,
/// packed_bytes() apart; what lies between them is zero too, so that an update may pass over it.
std::vector<Tensor> packed_zeros(const std::vector<Parameter>& parameters);

}  // namespace mica::detail
