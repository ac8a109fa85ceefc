// Clipping, as optimizers and clip_gradients share it.
#pragma once

#include <vector>

#include "mica/autograd/parameter.h"

namespace mica::optim {

/// The global norm of the gradients that take part in an update.
double gradient_norm(const std::vector<Parameter>& parameters);

/// Each gradient times `scale`, then cut to [-limit, limit].
void clip(const std::vector<Parameter>& parameters, double scale, double limit);

}  // namespace mica::optim
