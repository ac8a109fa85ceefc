// Conv2D: shapes, values, and what is refused.
#include "mica/nn/conv2d.h"

#include <doctest/doctest.h>

#include "nn/helpers.h"
#include "support/error_text.h"

using namespace mica;
using namespace mica::test;

TEST_CASE("conv2d layer: the filters' channels are inferred, and the size of the images follows from the options") {
  struct {
    Size2 kernel, strides;
    Padding padding;
    Shape output;
  } const cases[] = {
      {{3, 3}, {1, 1}, Padding::valid, {26, 20, 8}}, {{3, 3}, {1, 1}, Padding::same, {28, 22, 8}},
      {{5, 2}, {1, 1}, Padding::valid, {24, 21, 8}}, {{3, 3}, {2, 2}, Padding::valid, {13, 10, 8}},
      {{3, 3}, {2, 3}, Padding::same, {14, 8, 8}},   {{28, 22}, 1, Padding::valid, {1, 1, 8}},
  };
  for (const auto& c : cases) {
    nn::Conv2D layer(8, c.kernel, {.strides = c.strides, .padding = c.padding});
    CHECK(nn::build(layer, {28, 22, 3}) == c.output);
    CHECK(layer.kernel().shape() == Shape{c.kernel.h, c.kernel.w, 3, 8});
    CHECK(layer.bias().shape() == Shape{8});
    CHECK(layer(zeros({2, 28, 22, 3})).shape() == c.output.with_first(2));
    CHECK(layer(zeros({0, 28, 22, 3})).shape() == c.output.with_first(0));
  }
}

TEST_CASE("conv2d layer: activation(x * kernel + bias)") {
  nn::Conv2D layer(1, {2, 2}, {.activation = relu, .bias_initializer = nn::init::ones});
  nn::build(layer, {3, 3, 1});
  layer.kernel().value().copy_from(tensor({1, -1, 0, 2}).reshape({2, 2, 1, 1}));
  const Tensor image = tensor({{1, 2, 3}, {0, -4, 1}, {5, 0, 2}}).reshape({1, 3, 3, 1});
  // The windows: 1 - 2 + 2 * -4 + 1, 2 - 3 + 2 * 1 + 1, 0 + 4 + 0 + 1, -4 - 1 + 2 * 2 + 1.
  CHECK(floats(layer(image)) == std::vector<float>{0, 2, 5, 0});
}

TEST_CASE("conv2d layer: without a bias there is none") {
  nn::Conv2D layer(2, {1, 1}, {.use_bias = false, .kernel_initializer = nn::init::ones});
  nn::build(layer, {2, 2, 3});
  CHECK(nn::parameters(layer).size() == 1);
  CHECK(floats(layer(ones({1, 1, 1, 3}))) == std::vector<float>{3, 3});
}

TEST_CASE("conv2d layer: wrong use") {
  CHECK(error_text([] { nn::Conv2D(0, {3, 3}); }) == "[conv2d] there must be at least 1 filter, got 0");
  CHECK(error_text([] { nn::Conv2D(8, {3, 0}); }) == "[conv2d] the window must be at least 1, got 0");
  CHECK(error_text([] { nn::Conv2D(8, {-1, 3}); }) == "[conv2d] the window must be at least 1, got -1");
  CHECK(error_text([] {
          nn::Conv2D(8, {3, 3}, {.strides = {1, 0}});
        }) == "[conv2d] the stride must be at least 1, got 0");
  CHECK(error_text([] {
          nn::Conv2D(8, {3, 3}, {.strides = {-2, 1}});
        }) == "[conv2d] the stride must be at least 1, got -2");

  nn::Conv2D layer(8, {5, 5});
  CHECK(error_text([&] { nn::build(layer, {10}); }) == "[conv2d] the input must be images [N,H,W,C], got [1,10]");
  CHECK(error_text([&] {
          nn::build(layer, {4, 8, 1});
        }) == "[conv2d] the window (5) must not be larger than the input (4) without padding");
  CHECK_FALSE(layer.kernel().defined());  // a build that failed leaves nothing behind
  CHECK(nn::build(layer, {8, 8, 1}) == Shape{4, 4, 8});
  CHECK(error_text([&] {
          layer(zeros({1, 8, 8, 3}));
        }) == "[layer] kernel has shape [5,5,1,8], but this input needs [5,5,3,8]");
}
