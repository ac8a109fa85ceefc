// Initializers: bounds, moments and fans.
#include "mica/nn/init.h"

#include <doctest/doctest.h>

#include "mica/ops/matmul.h"
#include "nn/helpers.h"
#include "support/error_text.h"

using namespace mica;
using namespace mica::test;

namespace {

struct Moments {
  double mean = 0, variance = 0, most = 0;
};

Moments moments(const Tensor& x) {
  Moments m;
  double squares = 0;
  for (const double v : doubles(x)) {
    m.mean += v;
    squares += v * v;
    m.most = std::max(m.most, std::fabs(v));
  }
  const auto n = static_cast<double>(x.elements());
  m.mean /= n;
  m.variance = squares / n - m.mean * m.mean;
  return m;
}

const RandomKey kKey{.stream = 7};

}  // namespace

TEST_CASE("initializers: zeros and ones") {
  CHECK(same_bits(nn::init::zeros({2, 3}, kKey), zeros({2, 3})));
  CHECK(same_bits(nn::init::ones({2, 3}, kKey), ones({2, 3})));
}

TEST_CASE("initializers: variance 2 / (in + out) after Glorot, 2 / in after He, of a matrix and of filters") {
  struct {
    Shape shape;
    double fan_in, fan_out;
  } const cases[] = {{{300, 200}, 300, 200}, {{3, 5, 40, 100}, 600, 1500}, {{60'000}, 1, 60'000}};
  for (const auto& c : cases) {
    CAPTURE(c.shape);
    const double glorot = 2 / (c.fan_in + c.fan_out), he = 2 / c.fan_in;
    for (const auto& [rule, expected, is_uniform] :
         {std::tuple{nn::init::glorot_uniform, glorot, true}, std::tuple{nn::init::glorot_normal, glorot, false},
          std::tuple{nn::init::he_uniform, he, true}, std::tuple{nn::init::he_normal, he, false}}) {
      const nn::Initializer initializer = rule;
      const double variance = expected;  // copies: clang 14 does not capture structured bindings
      const bool uniform = is_uniform;
      CAPTURE(initializer.name());
      const Tensor x = initializer(c.shape, kKey);
      const Moments m = moments(x);
      CHECK(m.variance == doctest::Approx(variance).epsilon(0.03));
      CHECK(std::fabs(m.mean) < 0.02 * std::sqrt(variance));
      const double limit = std::sqrt(3 * variance);
      if (uniform) {
        CHECK(m.most <= limit * 1.000001);
        CHECK(m.most > 0.99 * limit);
      } else {
        CHECK(m.most > 1.5 * limit);
        CHECK(m.most < 4 * limit);
      }
    }
  }
}

TEST_CASE("initializers: numbers are a function of the key") {
  CHECK(same_bits(nn::init::he_normal({9, 9}, kKey), nn::init::he_normal({9, 9}, kKey)));
  CHECK_FALSE(same_bits(nn::init::he_normal({9, 9}, kKey), nn::init::he_normal({9, 9}, {.stream = 8})));
}

TEST_CASE("initializers: nothing, and a scalar, can be initialised") {
  CHECK(nn::init::glorot_uniform({0, 3}, kKey).shape() == Shape{0, 3});
  CHECK(nn::init::he_uniform({3, 0}, kKey).shape() == Shape{3, 0});
  CHECK(std::isfinite(nn::init::glorot_normal({}, kKey).item()));
}

TEST_CASE("initializers: constant, uniform and normal hold to their parameter") {
  CHECK(same_bits(nn::init::constant(0.3)({2, 3}, kKey), full({2, 3}, 0.3)));
  const Moments uniform = moments(nn::init::uniform(0.2)({30'000}, kKey));
  CHECK(uniform.most <= 0.2);
  CHECK(uniform.variance == doctest::Approx(0.04 / 3).epsilon(0.03));
  CHECK(moments(nn::init::normal(0.2)({30'000}, kKey)).variance == doctest::Approx(0.04).epsilon(0.03));
}

TEST_CASE("initializers: a truncated normal ends at two deviations, and is normal within") {
  const Moments m = moments(nn::init::truncated_normal(0.5)({60'000}, kKey));
  CHECK(m.most <= 1);
  CHECK(m.most > 0.98);
  CHECK(std::fabs(m.mean) < 0.01);
  // The variance of a standard normal cut at 2: 1 - 4 phi(2) / (2 Phi(2) - 1).
  CHECK(m.variance == doctest::Approx(0.25 * 0.7737).epsilon(0.03));
}

TEST_CASE("initializers: orthogonal columns, or rows where there are fewer, times the gain") {
  for (const Shape& shape : {Shape{7, 3}, {3, 7}, {5, 5}, {3, 3, 2, 4}, {1, 6}, {200, 100}}) {
    CAPTURE(shape);
    const Tensor x = nn::init::orthogonal(2)(shape, kKey).reshape({-1, shape[-1]});
    const bool tall = x.dim(0) >= x.dim(1);
    const Tensor gram = matmul(x, x, {.transpose_a = tall, .transpose_b = !tall});
    CHECK(close(gram, eye(gram.dim(0)) * 4, {0, 1e-5}));
  }
  CHECK(nn::init::orthogonal()({0, 3}, kKey).shape() == Shape{0, 3});
  for (const nn::Initializer wrong : {nn::init::uniform(-0.5), nn::init::truncated_normal(-0.5)})
    CHECK(error_text([&] { wrong({3}, kKey); }) ==
          "[initializer] " + wrong.name() + " must have a number that is finite and not negative");
  CHECK(error_text([] { nn::init::constant(std::numeric_limits<double>::infinity())({3}, kKey); }) ==
        "[initializer] constant(inf) must have a number that is finite");
  CHECK(error_text([] { nn::init::orthogonal()({3}, kKey); }) ==
        "[orthogonal] the parameter must have at least 2 axes, got [3]");
}

TEST_CASE("initializers: each has a name, and a number where it has one") {
  for (const char* name :
       {"zeros", "ones", "glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "constant(-2.5)",
        "uniform(0.05)", "normal(0.1)", "truncated_normal(1e-05)", "orthogonal(1)"})
    CHECK(nn::Initializer::named(name).name() == name);
  for (const std::string name : {"xavier", "", "normal", "normal(", "normal()", "normal(1", "normal(1)x", "normal(nan)",
                                 "normal(inf)", "zeros(1)", "zeros()"})
    CHECK(error_text([&] { nn::Initializer::named(name); }) ==
          "[initializer] there is no initializer \"" + name + "\"");
}
