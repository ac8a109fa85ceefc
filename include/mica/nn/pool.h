// MaxPool2D and AveragePool2D.
#pragma once

#include "mica/nn/layer.h"
#include "mica/ops/pool.h"

namespace MICA_EXPORT mica {
namespace nn {

struct Pool2DOptions {
  Size2 strides = {0, 0};  ///< 0: as the window
  Padding padding = Padding::valid;
};

namespace detail {

// A layer of one pooling op.
template <class Derived, Tensor (*kPool)(const Tensor&, Size2, PoolOptions)>
class Pool2D : public Module<Derived> {
 public:
  Pool2D() = default;
  Pool2D(const char* op, Size2 window, Pool2DOptions options) : window_(window), options_(options) {
    windows(op, window.h, window.h, options.strides.h == 0 ? 1 : options.strides.h, options.padding);
    windows(op, window.w, window.w, options.strides.w == 0 ? 1 : options.strides.w, options.padding);
  }

  Tensor forward(const Tensor& x, Call&) const {
    return kPool(x, window_, {.strides = options_.strides, .padding = options_.padding});
  }

  void visit(Visitor& v) {
    v("pool_size", window_);
    v("strides", options_.strides);
    v("padding", options_.padding);
  }

 private:
  Size2 window_;
  Pool2DOptions options_;
};

}  // namespace detail

/// The largest value of each window: [N, OH, OW, C] from [N, H, W, C].
class MaxPool2D : public detail::Pool2D<MaxPool2D, max_pool2d> {
 public:
  static constexpr const char* kType = "MaxPool2D";
  MaxPool2D() = default;
  /// Throws Error for a window or stride below 1.
  explicit MaxPool2D(Size2 pool, Pool2DOptions options = {}) : Pool2D("max_pool2d", pool, options) {}
};

/// The mean of each window: [N, OH, OW, C] from [N, H, W, C].
class AveragePool2D : public detail::Pool2D<AveragePool2D, average_pool2d> {
 public:
  static constexpr const char* kType = "AveragePool2D";
  AveragePool2D() = default;
  /// Throws Error for a window or stride below 1.
  explicit AveragePool2D(Size2 pool, Pool2DOptions options = {}) : Pool2D("average_pool2d", pool, options) {}
};

}  // namespace nn
}  // namespace mica
