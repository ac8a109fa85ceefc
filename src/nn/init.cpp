// Initializers, and activations by name.
#include "mica/nn/init.h"

#include <cmath>
#include <mutex>

#include "mica/nn/activation.h"

namespace MICA_EXPORT mica {
namespace nn {

namespace {

constexpr struct {
  const char* name;
  Initializer::Rule rule;
} kRules[] = {
    {"zeros", Initializer::Rule::zeros},
    {"ones", Initializer::Rule::ones},
    {"glorot_uniform", Initializer::Rule::glorot_uniform},
    {"glorot_normal", Initializer::Rule::glorot_normal},
    {"he_uniform", Initializer::Rule::he_uniform},
    {"he_normal", Initializer::Rule::he_normal},
};

}  // namespace

Tensor Initializer::operator()(const Shape& shape, RandomKey key, Device device) const {
  const TensorOptions options{float32, device};
  double window = 1;
  for (int i = 0; i < shape.rank() - 2; ++i) window *= static_cast<double>(shape[i]);
  const double fan_out = window * static_cast<double>(shape.rank() >= 1 ? shape[-1] : 1);
  const double fan_in = window * static_cast<double>(shape.rank() >= 2 ? shape[-2] : 1);
  const auto uniform = [&](double variance) {
    const double limit = std::sqrt(3 * variance);
    return random_uniform(shape, -limit, limit, key, options);
  };
  const double glorot = 2 / std::max(1.0, fan_in + fan_out), he = 2 / std::max(1.0, fan_in);
  switch (rule) {
    case Rule::zeros: return mica::zeros(shape, options);
    case Rule::ones: return mica::ones(shape, options);
    case Rule::glorot_uniform: return uniform(glorot);
    case Rule::glorot_normal: return random_normal(shape, 0, std::sqrt(glorot), key, options);
    case Rule::he_uniform: return uniform(he);
    case Rule::he_normal: return random_normal(shape, 0, std::sqrt(he), key, options);
  }
  return {};
}

std::string Initializer::name() const {
  for (const auto& known : kRules)
    if (known.rule == rule) return known.name;
  return "?";
}

Initializer Initializer::named(const std::string& name) {
  for (const auto& known : kRules)
    if (name == known.name) return {known.rule};
  fail("initializer", "there is no initializer \"", name, "\"");
}

namespace {

struct Registered {
  std::string name;
  Activation::Function function;
};

std::mutex registered_mutex;
std::vector<Registered>& registered() {
  static std::vector<Registered> all;
  return all;
}

Activation::Function built_in(const std::string& name) {
#define MICA_KNOWN(f, Functor) \
  if (name == #f) return mica::f;
  MICA_UNARY_OPS(MICA_KNOWN)
#undef MICA_KNOWN
  if (name == "softmax") return mica::softmax;
  if (name == "log_softmax") return mica::log_softmax;
  return nullptr;
}

}  // namespace

void register_activation(const char* name, Activation::Function function) {
  check(!built_in(name), "register_activation", "\"", name, "\" is one of Mica's own functions");
  const std::lock_guard lock(registered_mutex);
  registered().push_back({name, function});
}

Activation Activation::named(const std::string& name) {
  if (const Function function = built_in(name)) return function;
  const std::lock_guard lock(registered_mutex);
  for (const Registered& r : registered())
    if (r.name == name) return r.function;
  fail("activation", "there is no activation \"", name, "\": register_activation names one's own");
}

std::string Activation::name() const {
  if (name_) return name_;
  const std::lock_guard lock(registered_mutex);
  for (const Registered& r : registered())
    if (r.function == function_) return r.name;
  fail("activation", "the function has no name: give it one with register_activation");
}

}  // namespace nn
}  // namespace mica
