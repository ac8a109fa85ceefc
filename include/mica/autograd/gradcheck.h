// gradcheck: gradients against finite differences.
#pragma once

#include "mica/core/tensor.h"

namespace MICA_EXPORT mica {

struct GradcheckOptions {
  double step = 1e-6;       ///< of the central differences, times max(1, |x|)
  double tolerance = 1e-6;  ///< the largest |difference| / max(1, |numeric gradient|) that passes
  uint64_t seed = 0;        ///< of the random weights by which an output of any shape becomes one number
};

namespace detail {
double gradcheck(Tensor (*call)(const void* f, const Tensors& xs), const void* f, const Tensors& inputs,
                 const GradcheckOptions& options);
}

/// Compares the gradients of `f(Tensors) -> Tensor` to each of `inputs` (float64, any device) with central differences.
/// Returns the largest error; throws Error naming the input and element where it is above the tolerance.
template <class F>
double gradcheck(const F& f, const Tensors& inputs, const GradcheckOptions& options = {}) {
  return detail::gradcheck([](const void* g, const Tensors& xs) -> Tensor { return (*static_cast<const F*>(g))(xs); },
                           &f, inputs, options);
}

}  // namespace mica
