// Optimizers: state beside the parameters, and updates in as few passes as their storage allows.
#include "mica/optim/optimizer.h"

#include <algorithm>
#include <cmath>

#include "autograd/packing.h"
#include "kernels/kernels.h"
#include "mica/optim/adam.h"
#include "mica/optim/sgd.h"

namespace MICA_EXPORT mica {
namespace optim {

struct Optimizer::State {
  std::shared_ptr<detail::Rule> rule;
  LearningRate learning_rate = 0;
  int64_t iterations = 0;
  std::vector<Parameter> parameters;
  std::vector<std::vector<Tensor>> states;  // [state][parameter], views of one flat tensor
};

Optimizer::Optimizer(std::shared_ptr<detail::Rule> rule, const LearningRate& learning_rate)
    : state_(std::make_shared<State>()) {
  state_->rule = std::move(rule);
  state_->learning_rate = learning_rate;
}

Optimizer::State& Optimizer::state() const {
  check(state_ != nullptr, "optimizer", "the optimizer is empty: make an optim::Adam or optim::SGD");
  return *state_;
}

const std::vector<Parameter>& Optimizer::parameters() const { return state().parameters; }

Optimizer Optimizer::fresh() const { return Optimizer(state().rule->copy(), state().learning_rate); }

void Optimizer::attach(std::vector<Parameter> given) {
  std::vector<Parameter> parameters;  // each once
  for (Parameter& p : given)
    if (std::find(parameters.begin(), parameters.end(), p) == parameters.end()) parameters.push_back(std::move(p));
  for (const Parameter& p : parameters)
    check(p.defined(), name(), "a parameter has no value yet: build the layer first (", p.name(), ")");
  for (const Parameter& p : parameters)
    check(p.value().dtype() == float32 || p.value().dtype() == float64, name(),
          "parameters must be float32 or float64, ", p.name(), " is ", p.value().dtype());
  std::vector<std::vector<Tensor>> states(static_cast<size_t>(state().rule->states()));
  for (std::vector<Tensor>& each : states) each = mica::detail::packed_zeros(parameters);
  state_->parameters = std::move(parameters);
  state_->states = std::move(states);
  state_->iterations = 0;
}

void Optimizer::step() {
  State& s = state();
  check(!s.parameters.empty(), "step", "the optimizer has no parameters: attach some, or compile a model");
  for (const std::vector<Tensor>& each : s.states)
    for (size_t i = 0; i < each.size(); ++i)
      check(each[i].shape() == s.parameters[i].shape() && each[i].device() == s.parameters[i].value().device(), "step",
            "parameter ", s.parameters[i].name(), " was replaced since the optimizer was attached: ", each[i].shape(),
            " ", each[i].device(), ", now ", s.parameters[i].shape(), " ", s.parameters[i].value().device());
  const double rate = s.learning_rate.at(s.iterations);
  detail::check_rate(s.rule->name(), "the learning rate", rate);
  ++s.iterations;
  const auto pointer = [](const Tensor& t) { return static_cast<const char*>(t.raw()); };
  for (size_t i = 0; i < s.parameters.size();) {
    const mica::detail::Leaf& first = *s.parameters[i].leaf();
    if (!first.has_gradient || !first.trainable) {
      ++i;
      continue;
    }
    // As far as value, gradient and states of the next parameter follow on those of the last.
    size_t bytes = 0, end = i;
    for (; end < s.parameters.size(); ++end) {
      const mica::detail::Leaf& leaf = *s.parameters[end].leaf();
      bool joins = leaf.has_gradient && leaf.trainable && pointer(leaf.value) == pointer(first.value) + bytes &&
                   pointer(leaf.gradient) == pointer(first.gradient) + bytes;
      for (const std::vector<Tensor>& each : s.states) joins = joins && pointer(each[end]) == pointer(each[i]) + bytes;
      if (!joins && end > i) break;
      // Only whole packed runs may include the padding between parameters.
      bytes += mica::detail::packed_bytes(leaf.value);
    }
    const Tensor& last = s.parameters[end - 1].value();
    bytes -= mica::detail::packed_bytes(last) - last.bytes();
    Tensor value = first.value;
    void* states[4] = {};
    for (size_t k = 0; k < s.states.size(); ++k) states[k] = s.states[k][i].mutable_raw();
    s.rule->update(value.device(), value.dtype(), static_cast<int64_t>(bytes / size_of(value.dtype())), s.iterations,
                   rate, first.gradient.raw(), value.mutable_raw(), states);
    i = end;
  }
}

void Optimizer::zero_grad() {
  if (!state_) return;
  for (const Parameter& p : state_->parameters) p.zero_gradient();
}

double Optimizer::learning_rate() const { return state().learning_rate.at(state().iterations); }
void Optimizer::set_learning_rate(const LearningRate& rate) {
  detail::check_rate(state().rule->name(), "the learning rate", rate.at(state().iterations));
  state().learning_rate = rate;
}
int64_t Optimizer::iterations() const { return state().iterations; }
std::string Optimizer::name() const { return state().rule->name(); }

void detail::check_rate(const char* op, const char* what, double value) {
  check(std::isfinite(value) && value >= 0, op, what, " must be finite and not negative, got ", value);
}

void detail::check_fraction(const char* op, const char* what, double value) {
  check(value >= 0 && value < 1, op, what, " must be in [0, 1), got ", value);
}

namespace {

struct AdamRule final : detail::Rule {
  explicit AdamRule(const AdamOptions& options) : o(options) {}
  const char* name() const override { return "adam"; }
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
                              .bias_correction1 = 1 - std::pow(o.beta1, t),
                              .bias_correction2 = 1 - std::pow(o.beta2, t)},
                             g, w, states[0], states[1]);
  }
  AdamOptions o;
};

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

std::shared_ptr<detail::Rule> checked(const AdamOptions& o) {
  detail::check_rate("adam", "the learning rate", o.learning_rate.at(0));
  detail::check_fraction("adam", "beta1", o.beta1);
  detail::check_fraction("adam", "beta2", o.beta2);
  detail::check_rate("adam", "epsilon", o.epsilon);
  detail::check_rate("adam", "the weight decay", o.weight_decay);
  return std::make_shared<AdamRule>(o);
}

std::shared_ptr<detail::Rule> checked(const SGDOptions& o) {
  detail::check_rate("sgd", "the learning rate", o.learning_rate.at(0));
  detail::check_fraction("sgd", "the momentum", o.momentum);
  detail::check_rate("sgd", "the weight decay", o.weight_decay);
  check(!o.nesterov || o.momentum > 0, "sgd", "Nesterov's momentum needs a momentum above 0");
  return std::make_shared<SGDRule>(o);
}

}  // namespace

Adam::Adam(AdamOptions options) : Optimizer(checked(options), options.learning_rate) {}
SGD::SGD(SGDOptions options) : Optimizer(checked(options), options.learning_rate) {}

}  // namespace optim
}  // namespace mica
