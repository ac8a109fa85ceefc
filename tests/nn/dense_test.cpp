// Dense: shapes, values, and what is refused.
#include "mica/nn/dense.h"

#include <doctest/doctest.h>

#include "mica/nn/sequential.h"
#include "nn/helpers.h"
#include "support/error_text.h"

using namespace mica;
using namespace mica::test;

TEST_CASE("dense: the kernel's first size is inferred from the input's last") {
  nn::Dense layer(3);
  CHECK_FALSE(layer.kernel().defined());
  CHECK(nn::build(layer, {5}) == Shape{3});
  CHECK(layer.kernel().shape() == Shape{5, 3});
  CHECK(layer.bias().shape() == Shape{3});
  CHECK(layer(zeros({7, 5})).shape() == Shape{7, 3});
  CHECK(layer(zeros({0, 5})).shape() == Shape{0, 3});
  CHECK(layer(zeros({2, 4, 5})).shape() == Shape{2, 4, 3});  // the last axis alone is mapped
}

TEST_CASE("dense: activation(x kernel + bias)") {
  nn::Dense layer(2, {.activation = relu, .bias_initializer = nn::init::ones});
  nn::build(layer, {3});
  layer.kernel().value().copy_from(tensor({{1, -1}, {2, 0}, {0, -3}}));
  CHECK(floats(layer(tensor({{1, 2, 3}, {-4, 0, -1}}))) == std::vector<float>{6, 0, 0, 8});
}

TEST_CASE("dense: without a bias there is none") {
  nn::Dense layer(2, {.use_bias = false, .kernel_initializer = nn::init::ones});
  nn::build(layer, {3});
  CHECK(nn::parameters(layer).size() == 1);
  CHECK_FALSE(layer.bias().defined());
  CHECK(floats(layer(tensor({{1, 2, 3}}))) == std::vector<float>{6, 6});
}

TEST_CASE("dense: an activation that is no scalar function is applied to the result") {
  nn::Dense layer(4, {.activation = softmax});
  nn::build(layer, {3});
  const Tensor y = layer(ones({2, 3}));
  CHECK(y.at({0, 0}) + y.at({0, 1}) + y.at({0, 2}) + y.at({0, 3}) == doctest::Approx(1));
}

TEST_CASE("dense: kernels begin uniform within Glorot's limit, biases zero") {
  nn::Dense layer(100);
  nn::build(layer, {200});
  const double limit = std::sqrt(6.0 / 300);
  double most = 0;
  for (const float v : floats(layer.kernel().value())) most = std::max(most, std::fabs(double{v}));
  CHECK(most <= limit);
  CHECK(most > 0.99 * limit);
  CHECK(same_bits(layer.bias().value(), zeros({100})));
}

TEST_CASE("dense: wrong use") {
  CHECK(error_text([] { nn::Dense(0); }) == "[dense] there must be at least 1 unit, got 0");
  CHECK(error_text([] { nn::Dense(-3); }) == "[dense] there must be at least 1 unit, got -3");
  nn::Dense layer(2);
  CHECK(error_text([&] {
          layer(zeros({1, 3}));
        }) == "[layer] the layer is not built yet: give the model an Input, or call build()");
  nn::build(layer, {3});
  CHECK(error_text([&] { layer(zeros({1, 4})); }) == "[layer] kernel has shape [3,2], but this input needs [4,2]");
  CHECK(error_text([&] { layer(Tensor(1.0)); }) == "[dense] the input must have a feature axis, shape []");
  CHECK(error_text([&] {
          layer(zeros({1, 3}, {float64}));
        }) == "[dense] dtypes must match: float64 and float32 (the kernel)");
  CHECK(error_text([&] {
          layer(zeros({1, 3}, {uint8}));
        }) == "[dense] the input must be float32 or float64, got uint8");
}
