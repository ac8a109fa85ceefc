// Layers around sequences: Masking, WithMask and TimeDistributed.
#pragma once

#include "mica/nn/layer.h"
#include "mica/ops/compare.h"
#include "mica/ops/elementwise.h"
#include "mica/ops/reduce.h"

namespace MICA_EXPORT mica {
namespace nn {

/// Steps of [B,T,features] whose features all are `value` are padding: they are masked for the layers behind, and 0.
/// The mask is what Call::mask tells.
class Masking : public Module<Masking> {
 public:
  static constexpr const char* kType = "Masking";

  /// Throws Error for NaN, which nothing is equal to.
  explicit Masking(double value = 0) : value_(value) {
    check(value == value, "masking", "the value must be a number, got ", value);
  }

  Tensor forward(const Tensor& x, Call& call) const {
    check(x.rank() == 3, "masking", "the input must be [batch, time, features], got ", x.shape());
    const Tensor steps = any(not_equal(x, value_), -1, true);
    call.set_mask(steps.reshape({x.dim(0), x.dim(1)}));
    return where(steps, x, 0);
  }

  void visit(Visitor& v) { v("value", value_); }

 private:
  double value_ = 0;
};

/// {x, mask} is x [B,T,...], of which the steps where the mask (uint8 [B,T]) is 0 are padding for the layers behind:
/// for masks that come with the data, as the padding of a context that another model made.
class WithMask : public Module<WithMask> {
 public:
  static constexpr const char* kType = "WithMask";

  Tensor forward(std::span<const Tensor> xs, Call& call) const {
    check(xs.size() == 2, "with_mask", "the inputs are x and a mask, got ", uint64_t{xs.size()});
    const Tensor &x = xs[0], &mask = xs[1];
    check(x.rank() >= 2 && mask.dtype() == uint8 && mask.shape() == Shape{x.dim(0), x.dim(1)}, "with_mask",
          "x must be [batch, time, ...] and the mask uint8 [batch, time], got ", x.shape(), " and ", mask.dtype(), " ",
          mask.shape());
    call.set_mask(mask);
    return x;
  }

  void visit(Visitor&) {}
};

/// A layer applied to each step of [B,T,...] by itself: nn::TimeDistributed(nn::Conv2D(8, {3, 3})) on films. (Dense and
/// Embedding need none: they work on the last axis.)
class TimeDistributed : public Module<TimeDistributed> {
 public:
  static constexpr const char* kType = "TimeDistributed";

  TimeDistributed() = default;
  explicit TimeDistributed(Layer layer) : layer_(std::move(layer)) {}

  Tensor forward(const Tensor& x, Call& call) const {
    check(x.rank() >= 2, "time_distributed", "the input must be [batch, time, ...], got ", x.shape());
    const Tensor mask = call.mask();
    call.set_mask(Tensor());  // it is of the steps
    const Tensor y = layer_.forward(x.reshape(x.shape().tail().tail().with_first(x.dim(0) * x.dim(1))), call);
    call.set_mask(mask);
    check(y.rank() >= 1 && y.dim(0) == x.dim(0) * x.dim(1), "time_distributed",
          "the layer must keep the batch axis: got ", y.shape());
    return y.reshape(with_steps(y.shape(), x.dim(0), x.dim(1)));
  }

  void visit(Visitor& v) { v("layer", layer_); }

 private:
  static Shape with_steps(const Shape& y, int64_t batch, int64_t steps) {
    check(y.rank() < Shape::kMaxRank, "time_distributed", "the result has too many axes: ", y);
    int64_t sizes[Shape::kMaxRank] = {batch, steps};
    for (int i = 1; i < y.rank(); ++i) sizes[i + 1] = y[i];
    return Shape(std::span<const int64_t>(sizes, static_cast<size_t>(y.rank() + 1)));
  }

  Layer layer_;
};

}  // namespace nn
}  // namespace mica
