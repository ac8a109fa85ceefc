// Adam and AdamW: options and the call of their kernel.
#include "mica/optim/adam.h"

#include <cmath>

#include "kernels/kernels.h"
#include "mica/optim/adamw.h"

namespace MICA_EXPORT mica {
namespace optim {

namespace {

struct AdamRule final : detail::Rule {
  explicit AdamRule(const char* op, const AdamOptions& options, bool is_decoupled)
      : named(op), o(options), decoupled(is_decoupled) {}
  const char* name() const override { return named; }
  int states() const override { return 2; }
  std::shared_ptr<detail::Rule> copy() const override { return std::make_shared<AdamRule>(*this); }
  void update(Device device, DType dtype, int64_t n, int64_t step, double learning_rate, const void* g, void* w,
              void* const* states) const override {
    Context ctx = context(device);
    const double t = static_cast<double>(step);
    kernels_for(device).adam(ctx,
                             {.dtype = dtype,
                              .n = n,
                              .learning_rate = learning_rate,
                              .beta1 = o.beta1,
                              .beta2 = o.beta2,
                              .epsilon = o.epsilon,
                              .weight_decay = o.weight_decay,
                              .decoupled = decoupled,
                              .bias_correction1 = 1 - std::pow(o.beta1, t),
                              .bias_correction2 = 1 - std::pow(o.beta2, t)},
                             g, w, states[0], states[1]);
  }
  const char* named;
  AdamOptions o;
  bool decoupled;
};

std::shared_ptr<detail::Rule> checked(const char* op, const AdamOptions& o, bool decoupled) {
  detail::check_fraction(op, "beta1", o.beta1);
  detail::check_fraction(op, "beta2", o.beta2);
  detail::check_rate(op, "epsilon", o.epsilon);
  detail::check_rate(op, "the weight decay", o.weight_decay);
  return std::make_shared<AdamRule>(op, o, decoupled);
}

}  // namespace

Adam::Adam(AdamOptions options)
    : Optimizer(checked("adam", options, false), options.learning_rate, {options.clip_value, options.clip_norm}) {}

AdamW::AdamW(AdamWOptions options)
    : Optimizer(checked("adamw",
                        {.beta1 = options.beta1,
                         .beta2 = options.beta2,
                         .epsilon = options.epsilon,
                         .weight_decay = options.weight_decay},
                        true),
                options.learning_rate, {options.clip_value, options.clip_norm}) {}

}  // namespace optim
}  // namespace mica
