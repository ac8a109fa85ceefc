// Pooling: over windows, or over all of an image or sequence.
#pragma once

#include <limits>

#include "mica/nn/layer.h"
#include "mica/ops/compare.h"
#include "mica/ops/manipulate.h"
#include "mica/ops/pool.h"
#include "mica/ops/reduce.h"

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

  Tensor forward(const Tensor& x, Call&) const { return kPool(x, window_, options()); }

  Size2 window() const { return window_; }
  PoolOptions options() const { return {.strides = options_.strides, .padding = options_.padding}; }

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

struct Pool1DOptions {
  int64_t strides = 0;  ///< 0: as the window
  Padding padding = Padding::valid;
};

namespace detail {

// The same over the time of sequences [N, T, C].
template <class Derived, Tensor (*kPool)(const Tensor&, Size2, PoolOptions)>
class Pool1D : public Module<Derived> {
 public:
  Pool1D() = default;
  Pool1D(const char* op, int64_t window, Pool1DOptions options)
      : window_(window), strides_(options.strides), padding_(options.padding) {
    windows(op, window, window, strides_ == 0 ? 1 : strides_, padding_);
  }

  Tensor forward(const Tensor& x, Call& call) const {
    call.needs_whole_sequences(Derived::kOp);
    check(x.rank() == 3, Derived::kOp, "the input must be sequences [N,T,C], got ", x.shape());
    const Size2 strides = strides_ == 0 ? Size2(0, 0) : Size2(strides_, 1);
    return squeeze(kPool(expand_dims(x, 2), {window_, 1}, {.strides = strides, .padding = padding_}), 2);
  }

  void visit(Visitor& v) {
    v("pool_size", window_);
    v("strides", strides_);
    v("padding", padding_);
  }

 private:
  int64_t window_ = 1, strides_ = 0;
  Padding padding_ = Padding::valid;
};

// The mask of x [N, T, C] as [N, T, 1], undefined where all steps count.
inline Tensor steps_that_count(const char* op, const Tensor& x, const Call& call) {
  call.needs_whole_sequences(op);
  const Tensor& mask = call.mask();
  if (!mask.defined() || x.rank() != 3) return {};
  check(mask.shape() == Shape{x.dim(0), x.dim(1)}, op, "the mask must be [batch, time], here ",
        Shape{x.dim(0), x.dim(1)}, ", got ", mask.shape());
  return mask.reshape({x.dim(0), x.dim(1), 1});
}

// A layer that reduces all axes between the first and the last.
template <class Derived, Tensor (*kReduce)(const Tensor&, const Axes&, bool), int kRank>
class GlobalPool : public Module<Derived> {
 public:
  Tensor forward(const Tensor& x, Call&) const {
    check(x.rank() == kRank, Derived::kOp, "the input must be ", kRank == 4 ? "images [N,H,W,C]" : "sequences [N,T,C]",
          ", got ", x.shape());
    return kRank == 4 ? kReduce(x, {1, 2}, false) : kReduce(x, 1, false);
  }
  void visit(Visitor&) {}
};

}  // namespace detail

/// The largest value / the mean of each window of time: [N, OT, C] from [N, T, C].
class MaxPool1D : public detail::Pool1D<MaxPool1D, max_pool2d> {
 public:
  static constexpr const char* kType = "MaxPool1D";
  static constexpr const char* kOp = "max_pool1d";
  MaxPool1D() = default;
  /// Throws Error for a window or stride below 1.
  explicit MaxPool1D(int64_t pool, Pool1DOptions options = {}) : Pool1D(kOp, pool, options) {}
};
class AveragePool1D : public detail::Pool1D<AveragePool1D, average_pool2d> {
 public:
  static constexpr const char* kType = "AveragePool1D";
  static constexpr const char* kOp = "average_pool1d";
  AveragePool1D() = default;
  /// Throws Error for a window or stride below 1.
  explicit AveragePool1D(int64_t pool, Pool1DOptions options = {}) : Pool1D(kOp, pool, options) {}
};

/// The largest value / the mean of each channel: [N, C] from images [N, H, W, C].
struct GlobalMaxPool2D : detail::GlobalPool<GlobalMaxPool2D, max, 4> {
  static constexpr const char* kType = "GlobalMaxPool2D";
  static constexpr const char* kOp = "global_max_pool2d";
};
struct GlobalAveragePool2D : detail::GlobalPool<GlobalAveragePool2D, mean, 4> {
  static constexpr const char* kType = "GlobalAveragePool2D";
  static constexpr const char* kOp = "global_average_pool2d";
};
/// Likewise over time, passing over masked steps (Call::mask): [N, C] from sequences [N, T, C], 0 where no step counts.
struct GlobalMaxPool1D : detail::GlobalPool<GlobalMaxPool1D, max, 3> {
  static constexpr const char* kType = "GlobalMaxPool1D";
  static constexpr const char* kOp = "global_max_pool1d";
  Tensor forward(const Tensor& x, Call& call) const {
    const Tensor steps = detail::steps_that_count(kOp, x, call);
    if (!steps.defined()) return GlobalPool::forward(x, call);
    const Tensor most = max(where(steps, x, -std::numeric_limits<double>::infinity()), 1);
    return where(any(steps, 1), most, 0);
  }
};
struct GlobalAveragePool1D : detail::GlobalPool<GlobalAveragePool1D, mean, 3> {
  static constexpr const char* kType = "GlobalAveragePool1D";
  static constexpr const char* kOp = "global_average_pool1d";
  Tensor forward(const Tensor& x, Call& call) const {
    const Tensor steps = detail::steps_that_count(kOp, x, call);
    if (!steps.defined()) return GlobalPool::forward(x, call);
    return sum(where(steps, x, 0), 1) / maximum(sum(steps.to(x.dtype()), 1), 1);
  }
};

}  // namespace nn
}  // namespace mica
