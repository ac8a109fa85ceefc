// DepthwiseConv2D: convolution of each channel of images by filters of its own.
#pragma once

#include "mica/nn/activation.h"
#include "mica/nn/weights.h"
#include "mica/ops/conv.h"

namespace MICA_EXPORT mica {
namespace nn {

struct DepthwiseConv2DOptions {
  int64_t depth_multiplier = 1;  ///< filters, and results, for each channel
  Size2 strides = {1, 1};
  Padding padding = Padding::valid;
  Activation activation = {};
  bool use_bias = true;
  Initializer kernel_initializer = init::glorot_uniform;
  Initializer bias_initializer = init::zeros;
  Size2 dilation = {1, 1};  ///< the distance between the pixels of a window
  Regularizer kernel_regularizer = {};
  Regularizer bias_regularizer = {};
};

/// [N, OH, OW, C * depth_multiplier] from images [N, H, W, C]: result c * depth_multiplier + m is channel c by filter m
/// of its own. The kernel is [KH, KW, C, depth_multiplier] as in Keras; read as [KH, KW, 1, C * depth_multiplier], as
/// the values lie, it is conv2d's with C groups.
class DepthwiseConv2D : public Module<DepthwiseConv2D> {
 public:
  static constexpr const char* kType = "DepthwiseConv2D";

  DepthwiseConv2D() = default;
  /// Throws Error unless the kernel's sizes, strides, dilation and depth_multiplier are at least 1.
  explicit DepthwiseConv2D(Size2 kernel, DepthwiseConv2DOptions options = {})
      : size_(kernel), options_(options), weights_(options) {
    windows(kOp, 1, kernel.h, options.strides.h, Padding::same, options.dilation.h);
    windows(kOp, 1, kernel.w, options.strides.w, Padding::same, options.dilation.w);
    check(options.depth_multiplier >= 1, kOp, "depth_multiplier must be at least 1, got ", options.depth_multiplier);
  }

  Tensor forward(const Tensor& x, Call& call) const {
    check(x.rank() == 4, kOp, "the input must be images [N,H,W,C], got ", x.shape());
    const int64_t c = x.dim(3), multiplier = options_.depth_multiplier;
    check(c >= 1, kOp, "the images have no channels: ", x.shape());
    windows(kOp, x.dim(1), size_.h, options_.strides.h, options_.padding, options_.dilation.h);
    windows(kOp, x.dim(2), size_.w, options_.strides.w, options_.padding, options_.dilation.w);
    const Tensor kernel = weights_.kernel({size_.h, size_.w, c, multiplier}, call);
    const Tensor bias = weights_.bias(c * multiplier, call);
    return options_.activation.after(conv2d(x, kernel.reshape({size_.h, size_.w, 1, c * multiplier}), bias,
                                            {.strides = options_.strides,
                                             .padding = options_.padding,
                                             .activation = options_.activation.op(),
                                             .dilation = options_.dilation,
                                             .groups = c}));
  }

  void visit(Visitor& v) {
    v("kernel_size", size_);
    v("depth_multiplier", options_.depth_multiplier);
    v("strides", options_.strides);
    v("padding", options_.padding);
    v("dilation", options_.dilation);
    v("activation", options_.activation);
    weights_.visit(v);
  }

  const Parameter& kernel() const { return weights_.kernel(); }  ///< [KH, KW, C, depth_multiplier]
  const Parameter& bias() const { return weights_.bias(); }      ///< [C * depth_multiplier]

 private:
  static constexpr const char* kOp = "depthwise_conv2d";

  Size2 size_;
  DepthwiseConv2DOptions options_;
  Weights weights_;
};

}  // namespace nn
}  // namespace mica
