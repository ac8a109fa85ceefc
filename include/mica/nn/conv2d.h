// Conv2D: convolution of images.
#pragma once

#include "mica/nn/activation.h"
#include "mica/nn/pool.h"
#include "mica/nn/weights.h"

namespace MICA_EXPORT mica {
namespace nn {

struct Conv2DOptions {
  Size2 strides = {1, 1};
  Padding padding = Padding::valid;
  Activation activation = {};
  bool use_bias = true;
  Initializer kernel_initializer = init::glorot_uniform;
  Initializer bias_initializer = init::zeros;
  Size2 dilation = {1, 1};  ///< the distance between the pixels of a window
  int64_t groups = 1;       ///< parts of the filters, each of which sees the same part of the channels alone
  Regularizer kernel_regularizer = {};
  Regularizer bias_regularizer = {};
};

/// activation(x * kernel + bias): [N, OH, OW, filters] from images [N, H, W, C].
class Conv2D : public Module<Conv2D> {
 public:
  static constexpr const char* kType = "Conv2D";

  Conv2D() = default;
  /// Throws Error unless filters, the kernel's sizes, strides, dilation and groups are at least 1, and groups divides
  /// filters.
  Conv2D(int64_t filters, Size2 kernel, Conv2DOptions options = {})
      : filters_(filters), size_(kernel), options_(options), weights_(options) {
    check(filters >= 1, "conv2d", "there must be at least 1 filter, got ", filters);
    windows("conv2d", 1, kernel.h, options.strides.h, Padding::same, options.dilation.h);
    windows("conv2d", 1, kernel.w, options.strides.w, Padding::same, options.dilation.w);
    check(options.groups >= 1, "conv2d", "groups must be at least 1, got ", options.groups);
    check(filters % options.groups == 0, "conv2d", "groups must divide the filters: ", options.groups, " groups, ",
          filters, " filters");
  }

  Tensor forward(const Tensor& x, Call& call) const { return run(x, nullptr, call); }
  /// What `pool` makes of forward's result, in one op. Undefined where the activation is not a scalar function.
  Tensor forward_pooled(const Tensor& x, const MaxPool2D& pool, Call& call) const {
    return options_.activation.scalar() ? run(x, &pool, call) : Tensor();
  }

  void visit(Visitor& v) {
    v("filters", filters_);
    v("kernel_size", size_);
    v("strides", options_.strides);
    v("padding", options_.padding);
    v("dilation", options_.dilation);
    v("groups", options_.groups);
    v("activation", options_.activation);
    weights_.visit(v);
  }

  const Parameter& kernel() const { return weights_.kernel(); }  ///< [KH, KW, C / groups, filters]
  const Parameter& bias() const { return weights_.bias(); }      ///< [filters]

 private:
  Tensor run(const Tensor& x, const MaxPool2D* pool, Call& call) const {
    check(x.rank() == 4, "conv2d", "the input must be images [N,H,W,C], got ", x.shape());
    const int64_t groups = options_.groups;
    check(groups >= 1 && x.dim(3) % groups == 0, "conv2d", "groups must divide the channels: ", groups,
          " groups, input ", x.shape());
    const Tensor kernel = weights_.kernel({size_.h, size_.w, x.dim(3) / groups, filters_}, call);
    const Tensor bias = weights_.bias(filters_, call);
    const ConvOptions options{.strides = options_.strides,
                              .padding = options_.padding,
                              .activation = options_.activation.op(),
                              .dilation = options_.dilation,
                              .groups = groups};
    if (pool) return conv2d_max_pool2d(x, kernel, bias, options, pool->window(), pool->options());
    return options_.activation.after(conv2d(x, kernel, bias, options));
  }

  int64_t filters_ = 1;
  Size2 size_;
  Conv2DOptions options_;
  Weights weights_;
};

}  // namespace nn
}  // namespace mica
