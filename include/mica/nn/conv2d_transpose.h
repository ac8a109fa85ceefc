// Conv2DTranspose: learned upsampling of images.
#pragma once

#include "mica/nn/activation.h"
#include "mica/nn/weights.h"
#include "mica/ops/conv.h"

namespace MICA_EXPORT mica {
namespace nn {

struct Conv2DTransposeOptions {
  Size2 strides = {1, 1};
  Padding padding = Padding::valid;  ///< valid or same
  Activation activation = {};
  bool use_bias = true;
  Initializer kernel_initializer = init::glorot_uniform;
  Initializer bias_initializer = init::zeros;
  Size2 dilation = {1, 1};  ///< the distance between the pixels of a window
  Regularizer kernel_regularizer = {};
  Regularizer bias_regularizer = {};
};

/// activation(conv2d_transpose(x, kernel) + bias): [N, OH, OW, filters] from images [N, H, W, C]. With padding `same`
/// OH = H * stride, with `valid` H * stride + max(window - stride, 0).
class Conv2DTranspose : public Module<Conv2DTranspose> {
 public:
  static constexpr const char* kType = "Conv2DTranspose";

  Conv2DTranspose() = default;
  /// Throws Error unless filters, the kernel's sizes, strides and dilation are at least 1, and for causal padding.
  Conv2DTranspose(int64_t filters, Size2 kernel, Conv2DTransposeOptions options = {})
      : filters_(filters), size_(kernel), options_(options), weights_(options) {
    check(filters >= 1, kOp, "there must be at least 1 filter, got ", filters);
    windows(kOp, 1, kernel.h, options.strides.h, Padding::same, options.dilation.h);
    windows(kOp, 1, kernel.w, options.strides.w, Padding::same, options.dilation.w);
    check(options.padding != Padding::causal, kOp, "the padding must be valid or same");
  }

  Tensor forward(const Tensor& x, Call& call) const {
    check(x.rank() == 4, kOp, "the input must be images [N,H,W,C], got ", x.shape());
    const Tensor kernel = weights_.kernel({size_.h, size_.w, filters_, x.dim(3)}, call);
    const Tensor bias = weights_.bias(filters_, call);
    return options_.activation.after(conv2d_transpose(x, kernel, bias,
                                                      {.strides = options_.strides,
                                                       .padding = options_.padding,
                                                       .activation = options_.activation.op(),
                                                       .dilation = options_.dilation}));
  }

  void visit(Visitor& v) {
    v("filters", filters_);
    v("kernel_size", size_);
    v("strides", options_.strides);
    v("padding", options_.padding);
    v("dilation", options_.dilation);
    v("activation", options_.activation);
    weights_.visit(v);
  }

  const Parameter& kernel() const { return weights_.kernel(); }  ///< [KH, KW, filters, C]
  const Parameter& bias() const { return weights_.bias(); }      ///< [filters]

 private:
  static constexpr const char* kOp = "conv2d_transpose";

  int64_t filters_ = 1;
  Size2 size_;
  Conv2DTransposeOptions options_;
  Weights weights_;
};

}  // namespace nn
}  // namespace mica
