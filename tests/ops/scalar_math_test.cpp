// The float32 math functions against the standard library's double ones, over the whole range of float32, called
// directly (as this file is compiled: for the lowest level) and through the kernels of the level that runs.
#include "mica/ops/scalar_math.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <span>

#include "mica/ops/elementwise.h"
#include "support/tensors.h"

using namespace mica;
using namespace mica::test;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Every `step`-th float32 of [low, high], by bits.
std::vector<float> floats(float low, float high, uint32_t step) {
  std::vector<float> values;
  for (uint64_t bits = 0; bits < uint64_t{1} << 32; bits += step) {
    const float x = std::bit_cast<float>(static_cast<uint32_t>(bits));
    if (x >= low && x <= high) values.push_back(x);
  }
  values.push_back(low);
  values.push_back(high);
  return values;
}

// The error in units of the last place of the float32 that is nearest to `exact`.
double error_in_ulp(float actual, double exact) {
  const float nearest = static_cast<float>(exact);
  if (std::isnan(exact) || std::isinf(nearest)) return std::isnan(exact) ? !std::isnan(actual) : actual != nearest;
  const int exponent = nearest == 0 ? -126 : std::max(-126, std::ilogb(nearest));
  return std::fabs(static_cast<double>(actual) - exact) / std::ldexp(1.0, exponent - 23);
}

struct Worst {
  double ulp = 0;
  float at = 0, actual = 0;
};

Worst worst(std::span<const float> inputs, std::span<const float> results, double (*exact)(double)) {
  Worst w;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const double ulp = error_in_ulp(results[i], exact(inputs[i]));
    if (!(ulp <= w.ulp)) w = {ulp, inputs[i], results[i]};
  }
  return w;
}

// f within `ulp` of `exact`, called directly and, where there is such a kernel, as `op`.
void check_accuracy(float (*f)(float), Tensor (*op)(const Tensor&), double (*exact)(double), float low, float high,
                    double ulp) {
  const std::vector<float> inputs = floats(low, high, 1009);
  std::vector<float> results(inputs.size());
  std::transform(inputs.begin(), inputs.end(), results.begin(), f);
  const auto check = [&](const Worst& w) {
    CAPTURE(w.at);
    CAPTURE(w.actual);
    CHECK(w.ulp <= ulp);
  };
  check(worst(inputs, results, exact));
  if (!op) return;
  const Tensor y = on_cpu(op(tensor(inputs, {static_cast<int64_t>(inputs.size())})));
  check(worst(inputs, y.values<float>(), exact));
}

}  // namespace

TEST_CASE("exp is within 2 ulp wherever float32 holds the result, subnormal results included") {
  check_accuracy([](float x) { return math::exp(x); }, exp, std::exp, -kInfinity, kInfinity, 2);
}

TEST_CASE("log is within 2 ulp, of subnormal numbers too") {
  check_accuracy([](float x) { return math::log(x); }, log, std::log, 0, kInfinity, 2);
}

TEST_CASE("log1p is within 3 ulp over its whole domain") {
  check_accuracy([](float x) { return math::log1p(x); }, nullptr, std::log1p, -1, kInfinity, 3);
}

TEST_CASE("tanh is within 3 ulp") {
  check_accuracy([](float x) { return math::tanh(x); }, tanh, std::tanh, -kInfinity, kInfinity, 3);
}

TEST_CASE("erf is within 3 ulp") {
  check_accuracy([](float x) { return math::erf(x); }, nullptr, std::erf, -kInfinity, kInfinity, 3);
}

TEST_CASE("sqrt and division are rounded correctly") {
  check_accuracy([](float x) { return math::sqrt(x); }, sqrt, std::sqrt, 0, kInfinity, 0.5);
  check_accuracy([](float x) { return math::divide(1.0f, x); }, nullptr, [](double x) { return 1 / x; }, 1e-37f, 1e37f,
                 0.5);
}

TEST_CASE("math functions of NaN, infinities and zeros are the standard library's") {
  CHECK(std::isnan(math::exp(kNan)));
  CHECK(math::exp(kInfinity) == kInfinity);
  CHECK(math::exp(-kInfinity) == 0);
  CHECK(math::exp(0.0f) == 1);
  CHECK(math::exp(-0.0f) == 1);
  CHECK(math::exp(88.73f) == kInfinity);
  CHECK(math::exp(-104.0f) == 0);

  CHECK(std::isnan(math::log(kNan)));
  CHECK(std::isnan(math::log(-1.0f)));
  CHECK(std::isnan(math::log(-1e-45f)));
  CHECK(std::isnan(math::log(-kInfinity)));
  CHECK(math::log(kInfinity) == kInfinity);
  CHECK(math::log(0.0f) == -kInfinity);
  CHECK(math::log(-0.0f) == -kInfinity);
  CHECK(math::log(1.0f) == 0);

  CHECK(std::isnan(math::log1p(kNan)));
  CHECK(std::isnan(math::log1p(-2.0f)));
  CHECK(math::log1p(-1.0f) == -kInfinity);
  CHECK(math::log1p(0.0f) == 0);
  CHECK(math::log1p(1e-45f) == 1e-45f);
  CHECK(math::log1p(kInfinity) == kInfinity);

  CHECK(std::isnan(math::tanh(kNan)));
  CHECK(math::tanh(kInfinity) == 1);
  CHECK(math::tanh(-kInfinity) == -1);
  CHECK(math::tanh(0.0f) == 0);

  CHECK(std::isnan(math::erf(kNan)));
  CHECK(math::erf(kInfinity) == 1);
  CHECK(math::erf(-kInfinity) == -1);
  CHECK(math::erf(0.0f) == 0);
}
