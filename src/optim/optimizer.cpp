// Optimizers: state beside the parameters, and updates in as few passes as their storage allows.
#include "mica/optim/optimizer.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "autograd/packing.h"
#include "core/counts.h"
#include "optim/clip.h"
#include "optim/runs.h"

namespace MICA_EXPORT mica {
namespace optim {

struct Optimizer::State {
  std::shared_ptr<detail::Rule> rule;
  LearningRate learning_rate = 0;
  detail::Clip clip;
  int64_t iterations = 0;
  std::vector<Parameter> parameters;
  std::vector<std::vector<Tensor>> states;  // [state][parameter], views of one flat tensor
};

Optimizer::Optimizer(std::shared_ptr<detail::Rule> rule, const LearningRate& learning_rate, detail::Clip clip) {
  const char* op = rule->name();
  detail::check_rate(op, "the learning rate", learning_rate.at(0));
  detail::check_rate(op, "clip_value", clip.value);
  detail::check_rate(op, "clip_norm", clip.norm);
  check(clip.value == 0 || clip.norm == 0, op, "clip_value and clip_norm exclude each other");
  state_ = std::make_shared<State>();
  state_->rule = std::move(rule);
  state_->learning_rate = learning_rate;
  state_->clip = clip;
}

Optimizer::State& Optimizer::state() const {
  check(state_ != nullptr, "optimizer", "the optimizer is empty: make an optim::Adam or optim::SGD");
  return *state_;
}

const std::vector<Parameter>& Optimizer::parameters() const { return state().parameters; }

Optimizer Optimizer::fresh() const { return Optimizer(state().rule->copy(), state().learning_rate, state().clip); }

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
  if (s.clip.norm > 0) {
    const double norm = gradient_norm(s.parameters);
    check(std::isfinite(norm), s.rule->name(), "the gradients cannot be clipped: their norm is ", norm);
    if (norm > s.clip.norm) clip(s.parameters, s.clip.norm / norm, std::numeric_limits<double>::infinity());
  } else if (s.clip.value > 0) {
    clip(s.parameters, 1, s.clip.value);
  }
  ++s.iterations;
  const auto joins = [&](size_t i, size_t j, size_t bytes) {
    bool together = follows(s.parameters[i].value(), s.parameters[j].value(), bytes);
    for (const std::vector<Tensor>& each : s.states) together = together && follows(each[i], each[j], bytes);
    return together;
  };
  for_each_run(s.parameters, joins, [&](size_t i, int64_t n) {
    Tensor& value = s.parameters[i].value();
    void* states[4] = {};
    for (size_t k = 0; k < s.states.size(); ++k) states[k] = s.states[k][i].mutable_raw();
    s.rule->update(value.device(), value.dtype(), n, s.iterations, rate, s.parameters[i].leaf()->gradient.raw(),
                   value.mutable_raw(), states);
  });
}

void Optimizer::zero_grad() {
  if (!state_) return;
  for (const Parameter& p : state_->parameters) p.zero_gradient();
}

double Optimizer::learning_rate() const { return state().learning_rate.at(state().iterations); }
const LearningRate& Optimizer::schedule() const { return state().learning_rate; }
void Optimizer::set_learning_rate(const LearningRate& rate) {
  detail::check_rate(state().rule->name(), "the learning rate", rate.at(state().iterations));
  state().learning_rate = rate;
}
int64_t Optimizer::iterations() const { return state().iterations; }
std::string Optimizer::name() const { return state().rule->name(); }

void Optimizer::visit_state(StateVisitor& v) {
  State& s = state();
  int64_t iterations = s.iterations;
  LearningRate rate = s.learning_rate;
  v("iterations", iterations);
  v("learning_rate", rate);
  check(countable(iterations), name(), "there cannot have been ", iterations, " updates");
  s.iterations = iterations;
  s.learning_rate = rate;
  for (size_t k = 0; k < s.states.size(); ++k) {
    v.enter("state" + std::to_string(k));
    for (size_t i = 0; i < s.parameters.size(); ++i)
      v(std::to_string(i) + "." + s.parameters[i].name(), s.states[k][i]);
    v.leave();
  }
}

void detail::check_rate(const char* op, const char* what, double value) {
  check(std::isfinite(value) && value >= 0, op, what, " must be finite and not negative, got ", value);
}

void detail::check_fraction(const char* op, const char* what, double value) {
  check(value >= 0 && value < 1, op, what, " must be in [0, 1), got ", value);
}

}  // namespace optim
}  // namespace mica
