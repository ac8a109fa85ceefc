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
  double clip_value = 0;    ///< gradients are cut to [-clip_value, clip_value] first; 0: off
  double clip_norm = 0;     ///< or scaled so that their global norm is at most this; 0: off
};

/// v = momentum * v + g; w -= learning_rate * v, or with Nesterov's momentum w -= learning_rate * (g + momentum * v).
/// Sutskever et al., ICML 2013, in the form that PyTorch uses.
class SGD : public Optimizer {
 public:
  /// Throws Error for rates that are negative or not finite, momentum outside of [0, 1), nesterov without momentum,
  /// and both ways of clipping at once.
  SGD(SGDOptions options = {});
  template <class P>
    requires std::convertible_to<P, std::vector<Parameter>>
  explicit SGD(const P& parameters, SGDOptions options = {}) : SGD(options) { attach(parameters); }
};

}  // namespace optim
}  // namespace mica
