// Initializers: bounds, moments and fans.
#include "mica/nn/init.h"

#include <doctest/doctest.h>

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
  for (const float v : x.values<float>()) {
    m.mean += v;
    squares += double{v} * v;
    m.most = std::max(m.most, std::fabs(double{v}));
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

TEST_CASE("initializers: each has a name") {
  for (const char* name : {"zeros", "ones", "glorot_uniform", "glorot_normal", "he_uniform", "he_normal"})
    CHECK(nn::Initializer::named(name).name() == name);
  CHECK(error_text([] { nn::Initializer::named("xavier"); }) == "[initializer] there is no initializer \"xavier\"");
}
