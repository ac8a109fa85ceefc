// Adam.
#pragma once

#include "mica/optim/optimizer.h"

namespace MICA_EXPORT mica {
namespace optim {

struct AdamOptions {
  LearningRate learning_rate = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0;  ///< L2: added to the gradient
  double clip_value = 0;    ///< gradients are cut to [-clip_value, clip_value] first; 0: off
  double clip_norm = 0;     ///< or scaled so that their global norm is at most this; 0: off
};

/// Kingma, Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 1.
class Adam : public Optimizer {
 public:
  /// Throws Error for rates that are negative or not finite, betas outside of [0, 1), and both
  /// ways of clipping at once.
  Adam(AdamOptions options = {});
  template <class P>
    requires std::convertible_to<P, std::vector<Parameter>>
  explicit Adam(const P& parameters, AdamOptions options = {}) : Adam(options) { attach(parameters); }
};

}  // namespace optim
}  // namespace mica
