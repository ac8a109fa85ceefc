// Initializers, and activations by name.
#include "mica/nn/init.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <mutex>

#include "mica/nn/activation.h"
#include "mica/ops/elementwise.h"
#include "mica/ops/manipulate.h"

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
    {"constant", Initializer::Rule::constant},
    {"uniform", Initializer::Rule::uniform},
    {"normal", Initializer::Rule::normal},
    {"truncated_normal", Initializer::Rule::truncated_normal},
    {"orthogonal", Initializer::Rule::orthogonal},
};

bool has_parameter(Initializer::Rule rule) { return rule >= Initializer::Rule::constant; }

// Normal numbers, each drawn until it is within two deviations.
Tensor truncated_normal(const Shape& shape, double stddev, RandomKey key) {
  constexpr int kTries = 16;  // each fails with probability 0.046
  Tensor x = empty(shape, {float32, Device::cpu()});
  float* values = x.mutable_data<float>();
  for (int64_t i = 0; i < x.elements(); ++i) {
    double z = 3;
    for (int attempt = 0; attempt < kTries && std::fabs(z) > 2; ++attempt) {
      const Philox4 words = philox(key, static_cast<uint64_t>(i * kTries + attempt));
      const double u = 1 - static_cast<double>(to_unit(words.v[0])), angle = static_cast<double>(to_unit(words.v[1]));
      z = std::sqrt(-2 * std::log(u)) * std::cos(6.283185307179586 * angle);
    }
    values[i] = static_cast<float>(stddev * std::fmax(-2, std::fmin(2, z)));
  }
  return x;
}

// Gram and Schmidt's process on normal numbers, each vector cleared twice of those before it.
Tensor orthogonal(const Shape& shape, double gain, RandomKey key) {
  check(shape.rank() >= 2, "orthogonal", "the parameter must have at least 2 axes, got ", shape);
  const int64_t columns = shape[-1], rows = columns > 0 ? shape.elements() / columns : 0;
  const int64_t count = std::min(rows, columns), length = std::max(rows, columns);
  Tensor vectors = random_normal({count, length}, 0, 1, key, {float64, Device::cpu()});
  double* q = vectors.mutable_data<double>();
  for (int64_t i = 0; i < count; ++i) {
    double* v = q + i * length;
    const auto dot = [&](const double* other) {
      double sum = 0;
      for (int64_t k = 0; k < length; ++k) sum += v[k] * other[k];
      return sum;
    };
    for (int pass = 0; pass < 2; ++pass)
      for (int64_t j = 0; j < i; ++j) {
        const double part = dot(q + j * length);
        for (int64_t k = 0; k < length; ++k) v[k] -= part * q[j * length + k];
      }
    const double scale = 1 / std::sqrt(dot(v));
    for (int64_t k = 0; k < length; ++k) v[k] *= scale;
  }
  const Tensor matrix = rows >= columns ? transpose(vectors) : vectors;
  return (matrix * gain).to(float32).reshape(shape);
}

}  // namespace

Tensor Initializer::operator()(const Shape& shape, RandomKey key, Device device) const {
  check(std::isfinite(parameter) && (rule == Rule::constant || parameter >= 0), "initializer", name(),
        " must have a number that is finite", rule == Rule::constant ? "" : " and not negative");
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
    case Rule::constant: return full(shape, parameter, options);
    case Rule::uniform: return random_uniform(shape, -parameter, parameter, key, options);
    case Rule::normal: return random_normal(shape, 0, parameter, key, options);
    case Rule::truncated_normal: return nn::truncated_normal(shape, parameter, key).to(device);
    case Rule::orthogonal: return nn::orthogonal(shape, parameter, key).to(device);
  }
  return {};
}

std::string Initializer::name() const {
  for (const auto& known : kRules)
    if (known.rule == rule)
      return has_parameter(rule) ? mica::detail::concat(known.name, "(", parameter, ")") : known.name;
  return "?";
}

Initializer Initializer::named(const std::string& name) {
  const size_t bracket = std::min(name.find('('), name.size());
  for (const auto& known : kRules) {
    if (name.substr(0, bracket) != known.name) continue;
    if (!has_parameter(known.rule)) {
      if (bracket == name.size()) return {known.rule};
      break;
    }
    double value = 0;
    const char* last = name.c_str() + name.size();
    if (bracket == name.size() || name.back() != ')') break;
    const auto [end, error] = std::from_chars(name.c_str() + bracket + 1, last, value);  // whatever the locale
    if (error == std::errc() && end == last - 1 && std::isfinite(value)) return {known.rule, value};
    break;
  }
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
#define MICA_KNOWN(f) \
  if (name == #f) return mica::f;
  MICA_OTHER_ACTIVATIONS(MICA_KNOWN)
#undef MICA_KNOWN
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
