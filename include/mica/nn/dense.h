// Dense: a fully connected layer.
#pragma once

#include "mica/nn/activation.h"
#include "mica/nn/weights.h"

namespace MICA_EXPORT mica {
namespace nn {

struct DenseOptions {
  Activation activation = {};
  bool use_bias = true;
  Initializer kernel_initializer = init::glorot_uniform;
  Initializer bias_initializer = init::zeros;
  Regularizer kernel_regularizer = {};
  Regularizer bias_regularizer = {};
};

/// activation(x kernel + bias): [..., units] from [..., features].
class Dense : public Module<Dense> {
 public:
  static constexpr const char* kType = "Dense";

  Dense() = default;
  /// Throws Error unless units >= 1.
  explicit Dense(int64_t units, DenseOptions options = {})
      : units_(units), activation_(options.activation), weights_(options) {
    check(units >= 1, "dense", "there must be at least 1 unit, got ", units);
  }

  Tensor forward(const Tensor& x, Call& call) const {
    check(x.rank() >= 1, "dense", "the input must have a feature axis, shape ", x.shape());
    return activation_.after(weights_.dense(x, units_, call, activation_.op()));
  }

  void visit(Visitor& v) {
    v("units", units_);
    v("activation", activation_);
    weights_.visit(v);
  }

  const Parameter& kernel() const { return weights_.kernel(); }  ///< [features, units]
  const Parameter& bias() const { return weights_.bias(); }      ///< [units]

 private:
  int64_t units_ = 1;
  Activation activation_;
  Weights weights_;
};

}  // namespace nn
}  // namespace mica
