// The callback that ends training at a loss that is not finite.
#include "mica/core/error.h"
#include "mica/nn/callbacks.h"

namespace MICA_EXPORT mica {
namespace callbacks {

namespace {

class TerminateOnNaNCallback final : public nn::Callback {
 public:
  void on_nonfinite_loss(const nn::Progress& p, const nn::NonfiniteLoss& bad) override {
    fail("fit", "the loss of step ", bad.step, " (epoch ", p.epoch + 1, ", batch ", p.batch + 1, ") is ", bad.loss,
         ": ", bad.origin());
  }
};

}  // namespace

TerminateOnNaN::TerminateOnNaN() : Handle(std::make_shared<TerminateOnNaNCallback>()) {}

}  // namespace callbacks
}  // namespace mica
