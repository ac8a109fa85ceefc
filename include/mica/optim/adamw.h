// AdamW.
#pragma once

#include "mica/optim/optimizer.h"

namespace MICA_EXPORT mica {
namespace optim {

struct AdamWOptions {
  LearningRate learning_rate = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;       ///< Keras: 1e-7
  double weight_decay = 1e-2;  ///< decoupled: each step multiplies the parameters by 1 - rate * decay. Keras: 0.004
  double clip_value = 0;       ///< gradients are cut to [-clip_value, clip_value] first; 0: off
  double clip_norm = 0;        ///< or scaled so that their global norm is at most this; 0: off
};

/// Adam whose weight decay takes no part in the moments; the rest is Adam's. Loshchilov, Hutter, "Decoupled weight
/// decay regularization", ICLR 2019, algorithm 2, with the decay times the learning rate, as PyTorch and Keras have it.
class AdamW : public Optimizer {
 public:
  /// Throws Error for rates that are negative or not finite, betas outside of [0, 1), and both ways of clipping at
  /// once.
  AdamW(AdamWOptions options = {});
  template <class P>
    requires std::convertible_to<P, std::vector<Parameter>>
  explicit AdamW(const P& parameters, AdamWOptions options = {}) : AdamW(options) { attach(parameters); }
};

}  // namespace optim
}  // namespace mica
