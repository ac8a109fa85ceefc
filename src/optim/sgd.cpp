// Stochastic gradient descent: options and the call of its kernel.
#include "mica/optim/sgd.h"

#include "kernels/kernels.h"

namespace MICA_EXPORT mica {
namespace optim {

namespace {

struct SGDRule final : detail::Rule {
  explicit SGDRule(const SGDOptions& options) : o(options) {}
  const char* name() const override { return "sgd"; }
  int states() const override { return o.momentum > 0 ? 1 : 0; }
  std::shared_ptr<detail::Rule> copy() const override { return std::make_shared<SGDRule>(*this); }
  void update(Device device, DType dtype, int64_t n, int64_t, double learning_rate, const void* g, void* w,
              void* const* states) const override {
    Context ctx = context(device);
    kernels_for(device).sgd(ctx,
                            {.dtype = dtype,
                             .n = n,
                             .learning_rate = learning_rate,
                             .momentum = o.momentum,
                             .weight_decay = o.weight_decay,
                             .nesterov = o.nesterov},
                            g, w, states[0]);
  }
  SGDOptions o;
};

std::shared_ptr<detail::Rule> checked(const SGDOptions& o) {
  detail::check_fraction("sgd", "the momentum", o.momentum);
  detail::check_rate("sgd", "the weight decay", o.weight_decay);
  check(!o.nesterov || o.momentum > 0, "sgd", "Nesterov's momentum needs a momentum above 0");
  return std::make_shared<SGDRule>(o);
}

}  // namespace

SGD::SGD(SGDOptions options)
    : Optimizer(checked(options), options.learning_rate, {options.clip_value, options.clip_norm}) {}

}  // namespace optim
}  // namespace mica
