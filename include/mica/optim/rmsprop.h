// RMSprop.
#pragma once

#include "mica/optim/optimizer.h"

namespace MICA_EXPORT mica {
namespace optim {

struct RMSpropOptions {
  LearningRate learning_rate = 1e-2;  ///< Keras: 1e-3
  double alpha = 0.99;                ///< how much of the mean square is kept each step. Keras' rho, 0.9
  double epsilon = 1e-8;
  double momentum = 0;
  bool centered = false;    ///< divides by the standard deviation, not the root of the mean square
  double weight_decay = 0;  ///< L2: added to the gradient
  double clip_value = 0;    ///< gradients are cut to [-clip_value, clip_value] first; 0: off
  double clip_norm = 0;     ///< or scaled so that their global norm is at most this; 0: off
};

/// s = alpha * s + (1 - alpha) * g^2; w -= learning_rate * g / (sqrt(s) + epsilon), in the form that PyTorch uses:
/// Keras has epsilon (1e-7) under the root, and its momentum gathers steps that the learning rate is already in.
/// Hinton, "Neural networks for machine learning", 2012, lecture 6e; centered: Graves, arXiv:1308.0850, equations 38 to
/// 45.
class RMSprop : public Optimizer {
 public:
  /// Throws Error for rates that are negative or not finite, alpha or momentum outside of [0, 1), and both ways of
  /// clipping at once.
  RMSprop(RMSpropOptions options = {});
  template <class P>
    requires std::convertible_to<P, std::vector<Parameter>>
  explicit RMSprop(const P& parameters, RMSpropOptions options = {}) : RMSprop(options) { attach(parameters); }
};

}  // namespace optim
}  // namespace mica
