// Conv1D: convolution of sequences over time.
#pragma once

#include "mica/nn/activation.h"
#include "mica/nn/weights.h"
#include "mica/ops/conv.h"
#include "mica/ops/manipulate.h"

namespace MICA_EXPORT mica {
namespace nn {

struct Conv1DOptions {
  int64_t strides = 1;
  Padding padding = Padding::valid;  ///< causal: a step sees itself and the past alone
  Activation activation = {};
  bool use_bias = true;
  Initializer kernel_initializer = init::glorot_uniform;
  Initializer bias_initializer = init::zeros;
  int64_t dilation = 1;  ///< the distance between the steps of a window
  int64_t groups = 1;    ///< parts of the filters, each of which sees the same part of the channels alone
  Regularizer kernel_regularizer = {};
  Regularizer bias_regularizer = {};
};

/// activation(x * kernel + bias): [N, OT, filters] from sequences [N, T, C].
class Conv1D : public Module<Conv1D> {
 public:
  static constexpr const char* kType = "Conv1D";

  Conv1D() = default;
  /// Throws Error unless filters, the kernel's size, strides, dilation and groups are at least 1, and groups divides
  /// filters.
  Conv1D(int64_t filters, int64_t kernel, Conv1DOptions options = {})
      : filters_(filters), size_(kernel), options_(options), weights_(options) {
    check(filters >= 1, "conv1d", "there must be at least 1 filter, got ", filters);
    windows("conv1d", 1, kernel, options.strides, Padding::same, options.dilation);
    check(options.groups >= 1, "conv1d", "groups must be at least 1, got ", options.groups);
    check(filters % options.groups == 0, "conv1d", "groups must divide the filters: ", options.groups, " groups, ",
          filters, " filters");
  }

  Tensor forward(const Tensor& x, Call& call) const {
    check(x.rank() == 3, "conv1d", "the input must be sequences [N,T,C], got ", x.shape());
    call.needs_whole_sequences("conv1d");
    const int64_t groups = options_.groups;
    check(groups >= 1 && x.dim(2) % groups == 0, "conv1d", "groups must divide the channels: ", groups,
          " groups, input ", x.shape());
    windows("conv1d", x.dim(1), size_, options_.strides, options_.padding, options_.dilation);
    const Tensor kernel = weights_.kernel({size_, x.dim(2) / groups, filters_}, call);
    const Tensor bias = weights_.bias(filters_, call);
    // Images of one row.
    return options_.activation.after(squeeze(conv2d(expand_dims(x, 1), expand_dims(kernel, 0), bias,
                                                    {.strides = {1, options_.strides},
                                                     .padding = options_.padding,
                                                     .activation = options_.activation.op(),
                                                     .dilation = {1, options_.dilation},
                                                     .groups = groups}),
                                             1));
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

  const Parameter& kernel() const { return weights_.kernel(); }  ///< [K, C / groups, filters]
  const Parameter& bias() const { return weights_.bias(); }      ///< [filters]

 private:
  int64_t filters_ = 1;
  int64_t size_ = 1;
  Conv1DOptions options_;
  Weights weights_;
};

}  // namespace nn
}  // namespace mica
