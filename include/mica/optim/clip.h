// Gradient clipping in loops written by hand; optimizers have it as .clip_norm and .clip_value.
#pragma once

#include <vector>

#include "mica/autograd/parameter.h"

namespace MICA_EXPORT mica {
namespace optim {

/// Scales the gradients of `parameters` in place, by one factor, so that their global norm (of all of them as one
/// vector) is at most `max_norm`, and returns the norm that they had. Parameters that are frozen or have no gradient
/// take no part. A norm that is NaN or infinite is returned and nothing is scaled: leave out the step then. The norm is
/// summed in float64 in an order that depends on the shapes alone, so that it has the same bits for any packing and
/// number of threads. Throws Error unless `max_norm` is above 0. Pascanu et al., "On the difficulty of training
/// recurrent neural networks", ICML 2013, algorithm 1.
double clip_gradients(const std::vector<Parameter>& parameters, double max_norm);

}  // namespace optim
}  // namespace mica
