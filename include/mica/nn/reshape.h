// Flatten and Rescaling: layers without parameters that change how values are laid out or scaled.
#pragma once

#include "mica/nn/layer.h"
#include "mica/ops/elementwise.h"

namespace MICA_EXPORT mica {
namespace nn {

/// [N, H * W * C] from [N, H, W, C], and likewise for any rank.
class Flatten : public Module<Flatten> {
 public:
  static constexpr const char* kType = "Flatten";
  Tensor forward(const Tensor& x, Call&) const {
    check(x.rank() >= 1, "flatten", "the input must have a batch axis, shape ", x.shape());
    return x.reshape({x.dim(0), x.shape().tail().elements()});
  }
  void visit(Visitor&) {}
};

/// x * scale + offset.
class Rescaling : public Module<Rescaling> {
 public:
  static constexpr const char* kType = "Rescaling";
  Rescaling() = default;
  explicit Rescaling(double scale, double offset = 0) : scale_(scale), offset_(offset) {}
  Tensor forward(const Tensor& x, Call&) const {
    const Tensor y = (is_floating(x.dtype()) ? x : x.to(float32)) * scale_;
    return offset_ == 0 ? y : y + offset_;
  }
  void visit(Visitor& v) {
    v("scale", scale_);
    v("offset", offset_);
  }

 private:
  double scale_ = 1, offset_ = 0;
};

}  // namespace nn
}  // namespace mica
