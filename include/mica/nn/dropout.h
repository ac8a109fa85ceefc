// Dropout.
#pragma once

#include "mica/nn/layer.h"
#include "mica/ops/dropout.h"

namespace MICA_EXPORT mica {
namespace nn {

/// In training, zeroes elements with probability `rate` and scales the others by 1 / (1 - rate); else the identity.
class Dropout : public Module<Dropout> {
 public:
  static constexpr const char* kType = "Dropout";

  Dropout() = default;
  /// Throws Error unless rate is in [0, 1).
  explicit Dropout(double rate) : rate_(rate) {
    check(rate >= 0 && rate < 1, "dropout", "the rate must be in [0, 1), got ", rate);
  }

  Tensor forward(const Tensor& x, Call& call) const {
    return call.training() && rate_ != 0 ? dropout(x, rate_, call.key(stream_)) : x;
  }

  void visit(Visitor& v) {
    v("rate", rate_);
    v("stream", stream_);
  }

 private:
  double rate_ = 0;
  RandomStream stream_;
};

}  // namespace nn
}  // namespace mica
