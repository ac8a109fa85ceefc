// Pooling layers: shapes, values, and what is refused.
#include "mica/nn/pool.h"

#include <doctest/doctest.h>

#include "nn/helpers.h"
#include "support/error_text.h"

using namespace mica;
using namespace mica::test;

TEST_CASE("pooling layers: windows stand side by side unless strides say otherwise") {
  struct {
    Size2 pool, strides;
    Padding padding;
    Shape output;
  } const cases[] = {
      {{2, 2}, {0, 0}, Padding::valid, {3, 2, 5}}, {{2, 2}, {0, 0}, Padding::same, {4, 3, 5}},
      {{3, 2}, {1, 1}, Padding::valid, {5, 4, 5}}, {{3, 3}, {2, 2}, Padding::same, {4, 3, 5}},
      {{7, 5}, {0, 0}, Padding::valid, {1, 1, 5}}, {{1, 1}, {0, 0}, Padding::valid, {7, 5, 5}},
  };
  for (const auto& c : cases) {
    nn::MaxPool2D most(c.pool, {.strides = c.strides, .padding = c.padding});
    nn::AveragePool2D average(c.pool, {.strides = c.strides, .padding = c.padding});
    CHECK(nn::build(most, {7, 5, 5}) == c.output);
    CHECK(nn::build(average, {7, 5, 5}) == c.output);
    CHECK(most(zeros({0, 7, 5, 5})).shape() == c.output.with_first(0));
    CHECK(nn::parameters(most).empty());
  }
}

TEST_CASE("pooling layers: the largest, or the mean, of each window") {
  const Tensor image = tensor({{1, 2, 3, 4}, {5, 6, 7, 8}, {9, 1, 2, 3}}).reshape({1, 3, 4, 1});
  CHECK(floats(nn::MaxPool2D({2, 2})(image)) == std::vector<float>{6, 8});
  CHECK(floats(nn::AveragePool2D({2, 2})(image)) == std::vector<float>{3.5, 5.5});
  // Padding takes no part in either.
  CHECK(floats(nn::AveragePool2D({2, 2}, {.padding = Padding::same})(image)) == std::vector<float>{3.5, 5.5, 5, 2.5});
  CHECK(floats(nn::MaxPool2D({2, 2}, {.padding = Padding::same})(negative(image))) ==
        std::vector<float>{-1, -3, -1, -2});
}

TEST_CASE("pooling layers: wrong use") {
  CHECK(error_text([] { nn::MaxPool2D({0, 2}); }) == "[max_pool2d] the window must be at least 1, got 0");
  CHECK(error_text([] { nn::AveragePool2D({2, -2}); }) == "[average_pool2d] the window must be at least 1, got -2");
  CHECK(error_text([] {
          nn::MaxPool2D({2, 2}, {.strides = {-1, 1}});
        }) == "[max_pool2d] the stride must be at least 1, got -1");
  CHECK(error_text([] {
          nn::MaxPool2D({3, 3})(zeros({1, 2, 5, 1}));
        }) == "[max_pool2d] the window (3) must not be larger than the input (2) without padding");
  CHECK(error_text([] {
          nn::AveragePool2D({2, 2})(zeros({4, 4}));
        }) == "[average_pool2d] the input must be images [N,H,W,C], got [4,4]");
}

TEST_CASE("pooling over time: windows of [N, T, C]") {
  const Tensor x = tensor({{1, 10}, {3, 20}, {2, 60}, {5, 50}, {4, 40}}).reshape({1, 5, 2});
  CHECK(floats(nn::MaxPool1D(2)(x)) == std::vector<float>{3, 20, 5, 60});
  CHECK(floats(nn::AveragePool1D(2)(x)) == std::vector<float>{2, 15, 3.5, 55});
  CHECK(nn::MaxPool1D(2, {.strides = 1})(x).shape() == Shape{1, 4, 2});
  CHECK(nn::AveragePool1D(2, {.padding = Padding::same})(x).shape() == Shape{1, 3, 2});
  const nn::Pool1DOptions causal{.strides = 1, .padding = Padding::causal};
  CHECK(floats(nn::MaxPool1D(2, causal)(x)) == std::vector<float>{1, 10, 3, 20, 3, 60, 5, 60, 5, 50});
  CHECK(floats(nn::AveragePool1D(2, causal)(x)) == std::vector<float>{1, 10, 2, 15, 2.5, 40, 3.5, 55, 4.5, 45});
  CHECK(error_text([] { nn::MaxPool1D(0); }) == "[max_pool1d] the window must be at least 1, got 0");
  CHECK(error_text([] {
          nn::AveragePool1D(2)(zeros({2, 2}));
        }) == "[average_pool1d] the input must be sequences [N,T,C], got [2,2]");
}

TEST_CASE("global pooling: one value for each channel") {
  const Tensor x = tensor({{1, 10}, {3, 20}, {2, 60}, {6, 30}}).reshape({1, 2, 2, 2}), t = x.reshape({1, 4, 2});
  CHECK(floats(nn::GlobalMaxPool2D()(x)) == std::vector<float>{6, 60});
  CHECK(floats(nn::GlobalAveragePool2D()(x)) == std::vector<float>{3, 30});
  CHECK(floats(nn::GlobalMaxPool1D()(t)) == std::vector<float>{6, 60});
  CHECK(floats(nn::GlobalAveragePool1D()(t)) == std::vector<float>{3, 30});
  CHECK(nn::GlobalMaxPool2D()(zeros({0, 2, 2, 3})).shape() == Shape{0, 3});
  CHECK(error_text([&] { nn::GlobalMaxPool2D()(t); }) ==
        "[global_max_pool2d] the input must be images [N,H,W,C], got [1,4,2]");
  CHECK(error_text([&] { nn::GlobalAveragePool1D()(x); }) ==
        "[global_average_pool1d] the input must be sequences [N,T,C], got [1,2,2,2]");
}
