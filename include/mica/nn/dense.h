// Dense: a fully connected layer.
#pragma once

#include "mica/nn/activation.h"
#include "mica/nn/layer.h"
#include "mica/ops/matmul.h"

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
  explicit Dense(int64_t units, DenseOptions options = {}) : units_(units), options_(options) {
    check(units >= 1, "dense", "there must be at least 1 unit, got ", units);
  }

  Tensor forward(const Tensor& x, Call& call) const {
    check(x.rank() >= 1, "dense", "the input must have a feature axis, shape ", x.shape());
    const Tensor kernel = call.parameter(kernel_, {x.dim(-1), units_}, options_.kernel_initializer);
    const Tensor bias = options_.use_bias ? call.parameter(bias_, {units_}, options_.bias_initializer) : Tensor();
    return options_.activation.after(dense(x, kernel, bias, options_.activation.op()));
  }

  void visit(Visitor& v) {
    v("units", units_);
    v("activation", options_.activation);
    v("use_bias", options_.use_bias);
    v("kernel_initializer", options_.kernel_initializer);
    v("bias_initializer", options_.bias_initializer);
    v("kernel_regularizer", options_.kernel_regularizer);
    v("bias_regularizer", options_.bias_regularizer);
    v("kernel", kernel_);
    if (options_.use_bias) v("bias", bias_);
  }

  const Parameter& kernel() const { return kernel_; }  ///< [features, units]
  const Parameter& bias() const { return bias_; }      ///< [units]

 private:
  int64_t units_ = 1;
  DenseOptions options_;
  Parameter kernel_, bias_;
};

}  // namespace nn
}  // namespace mica
