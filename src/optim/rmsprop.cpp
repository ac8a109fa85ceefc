// RMSprop: options and the call of its kernel.
#include "mica/optim/rmsprop.h"

#include "kernels/kernels.h"

namespace MICA_EXPORT mica {
namespace optim {

namespace {

struct RMSpropRule final : detail::Rule {
  explicit RMSpropRule(const RMSpropOptions& options) : o(options) {}
  const char* name() const override { return "rmsprop"; }
  int states() const override { return 1 + (o.centered ? 1 : 0) + (o.momentum > 0 ? 1 : 0); }
  std::shared_ptr<detail::Rule> copy() const override { return std::make_shared<RMSpropRule>(*this); }
  void update(Device device, DType dtype, int64_t n, int64_t, double learning_rate, const void* g, void* w,
              void* const* states) const override {
    Context ctx = context(device);
    kernels_for(device).rmsprop(ctx,
                                {.dtype = dtype,
                                 .n = n,
                                 .learning_rate = learning_rate,
                                 .alpha = o.alpha,
                                 .epsilon = o.epsilon,
                                 .momentum = o.momentum,
                                 .weight_decay = o.weight_decay},
                                g, w, states[0], o.centered ? states[1] : nullptr,
                                o.momentum > 0 ? states[o.centered ? 2 : 1] : nullptr);
  }
  RMSpropOptions o;
};

std::shared_ptr<detail::Rule> checked(const RMSpropOptions& o) {
  detail::check_fraction("rmsprop", "alpha", o.alpha);
  detail::check_rate("rmsprop", "epsilon", o.epsilon);
  detail::check_fraction("rmsprop", "the momentum", o.momentum);
  detail::check_rate("rmsprop", "the weight decay", o.weight_decay);
  return std::make_shared<RMSpropRule>(o);
}

}  // namespace

RMSprop::RMSprop(RMSpropOptions options)
    : Optimizer(checked(options), options.learning_rate, {options.clip_value, options.clip_norm}) {}

}  // namespace optim
}  // namespace mica
