// Weights: the kernel and the bias that Dense, convolutions and attention have in common.
#pragma once

#include "mica/nn/layer.h"
#include "mica/ops/matmul.h"

namespace MICA_EXPORT mica {
namespace nn {

/// A kernel and, unless it is left out, a bias, with how they begin and what holds them small: parts of layers.
class Weights {
 public:
  Weights() = default;
  /// What a layer's options say of them.
  template <class Options>
  explicit Weights(const Options& options)
      : use_bias_(options.use_bias), kernel_initializer_(options.kernel_initializer),
        bias_initializer_(options.bias_initializer), kernel_regularizer_(options.kernel_regularizer),
        bias_regularizer_(options.bias_regularizer) {}

  Tensor kernel(const Shape& shape, Call& call) const { return call.parameter(kernel_, shape, kernel_initializer_); }
  /// Undefined where there is none.
  Tensor bias(int64_t size, Call& call) const {
    return use_bias_ ? call.parameter(bias_, {size}, bias_initializer_) : Tensor();
  }

  /// activation(x kernel + bias): [..., units] from [..., features].
  Tensor dense(const Tensor& x, int64_t units, Call& call, UnaryOp activation = UnaryOp::identity) const {
    const Tensor kernel = this->kernel({x.dim(-1), units}, call);
    return mica::dense(x, kernel, bias(units, call), activation);
  }

  const Parameter& kernel() const { return kernel_; }
  const Parameter& bias() const { return bias_; }

  void visit(Visitor& v) {
    v("use_bias", use_bias_);
    v("kernel_initializer", kernel_initializer_);
    v("bias_initializer", bias_initializer_);
    v("kernel_regularizer", kernel_regularizer_);
    v("bias_regularizer", bias_regularizer_);
    v("kernel", kernel_);
    if (use_bias_) v("bias", bias_);
  }

 private:
  bool use_bias_ = true;
  Initializer kernel_initializer_ = init::glorot_uniform;
  Initializer bias_initializer_ = init::zeros;
  Regularizer kernel_regularizer_, bias_regularizer_;
  Parameter kernel_, bias_;
};

}  // namespace nn
}  // namespace mica
