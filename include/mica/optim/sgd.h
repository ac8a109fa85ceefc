// Stochastic gradient descent.
#pragma once

#include "mica/optim/optimizer.h"

namespace MICA_EXPORT mica {
namespace optim {

struct SGDOptions {
  LearningRate learning_rate = 1e-2;
  double momentum = 0;
  bool nesterov = false;
  double weight_decay = 0;  ///< L2: added to the gradient
};

/// v = momentum * v + g; w -= learning_rate * v, or with Nesterov's momentum w -= learning_rate * (g + momentum * v).
/// Sutskever et al., ICML 2013, in the form that PyTorch uses.
class SGD : public Optimizer {
 public:
  /// Throws Error for rates that are negative or not finite, momentum outside of [0, 1), and nesterov without momentum.
  SGD(SGDOptions options = {});
  template <class P>
    requires std::convertible_to<P, std::vector<Parameter>>
  explicit SGD(const P& parameters, SGDOptions options = {}) : SGD(options) { attach(parameters); }
};

}  // namespace optim
}  // namespace mica
