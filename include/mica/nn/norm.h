// BatchNorm and LayerNorm.
#pragma once

#include "mica/nn/layer.h"
#include "mica/ops/elementwise.h"
#include "mica/ops/norm.h"

namespace MICA_EXPORT mica {
namespace nn {

struct BatchNormOptions {
  double momentum = 0.99;  ///< what the running statistics keep at each step
  double epsilon = 1e-3;
  bool center = true;  ///< add beta
  bool scale = true;   ///< multiply by gamma
};

/// Each channel, the last axis of [N, ..., C], normalized: in training by the batch's mean and variance, from which the
/// running ones follow; in inference, and while gamma or beta is frozen, by the running ones. Keras's conventions:
/// PyTorch's momentum is 1 less this one, and its running variance divides by n - 1.
class BatchNorm : public Module<BatchNorm> {
 public:
  static constexpr const char* kType = "BatchNorm";

  /// Throws Error unless momentum is in [0, 1] and epsilon is finite and not negative.
  explicit BatchNorm(BatchNormOptions options = {}) : options_(options) {
    check(options.momentum >= 0 && options.momentum <= 1, "batch_norm", "the momentum must be in [0, 1], got ",
          options.momentum);
    check(options.epsilon >= 0 && options.epsilon < 1e300, "batch_norm",
          "epsilon must be finite and not negative, got ", options.epsilon);
  }

  Tensor forward(const Tensor& x, Call& call) const {
    check(x.rank() >= 2, "batch_norm", "the input must be [N, ..., C], got ", x.shape());
    const Shape channels{x.dim(-1)};
    const Tensor gamma = options_.scale ? call.parameter(gamma_, channels, init::ones) : Tensor();
    const Tensor beta = options_.center ? call.parameter(beta_, channels, init::zeros) : Tensor();
    Tensor& mean = call.buffer(mean_, channels, init::zeros);
    Tensor& variance = call.buffer(variance_, channels, init::ones);
    const bool frozen = (options_.scale && !gamma_.trainable()) || (options_.center && !beta_.trainable());
    if (!call.training() || frozen || x.elements() == 0)
      return batch_norm_inference(x, mean, variance, gamma, beta, options_.epsilon);
    const BatchNormResult batch = batch_norm(x, gamma, beta, options_.epsilon);
    mean = mean * options_.momentum + batch.mean * (1 - options_.momentum);
    variance = variance * options_.momentum + batch.variance * (1 - options_.momentum);
    return batch.y;
  }

  void visit(Visitor& v) {
    v("momentum", options_.momentum);
    v("epsilon", options_.epsilon);
    v("center", options_.center);
    v("scale", options_.scale);
    if (options_.scale) v("gamma", gamma_);
    if (options_.center) v("beta", beta_);
    v("moving_mean", mean_);
    v("moving_variance", variance_);
  }

  const Parameter& gamma() const { return gamma_; }                    ///< [C]
  const Parameter& beta() const { return beta_; }                      ///< [C]
  const Tensor& moving_mean() const { return mean_.value(); }          ///< [C]
  const Tensor& moving_variance() const { return variance_.value(); }  ///< [C]

 private:
  BatchNormOptions options_;
  Parameter gamma_, beta_;
  Buffer mean_, variance_;
};

struct LayerNormOptions {
  double epsilon = 1e-5;
  bool center = true;  ///< add beta
  bool scale = true;   ///< multiply by gamma
};

/// The last axis of each example normalized by its own mean and variance.
class LayerNorm : public Module<LayerNorm> {
 public:
  static constexpr const char* kType = "LayerNorm";

  /// Throws Error unless epsilon is finite and not negative.
  explicit LayerNorm(LayerNormOptions options = {}) : options_(options) {
    check(options.epsilon >= 0 && options.epsilon < 1e300, "layer_norm",
          "epsilon must be finite and not negative, got ", options.epsilon);
  }

  Tensor forward(const Tensor& x, Call& call) const {
    check(x.rank() >= 2, "layer_norm", "the input must be [N, ..., C], got ", x.shape());
    const Shape last{x.dim(-1)};
    const Tensor gamma = options_.scale ? call.parameter(gamma_, last, init::ones) : Tensor();
    const Tensor beta = options_.center ? call.parameter(beta_, last, init::zeros) : Tensor();
    return layer_norm(x, gamma, beta, options_.epsilon);
  }

  void visit(Visitor& v) {
    v("epsilon", options_.epsilon);
    v("center", options_.center);
    v("scale", options_.scale);
    if (options_.scale) v("gamma", gamma_);
    if (options_.center) v("beta", beta_);
  }

  const Parameter& gamma() const { return gamma_; }  ///< [C]
  const Parameter& beta() const { return beta_; }    ///< [C]

 private:
  LayerNormOptions options_;
  Parameter gamma_, beta_;
};

}  // namespace nn
}  // namespace mica
