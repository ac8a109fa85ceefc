// Layers that lay values out anew.
#include "mica/nn/reshape.h"

#include <doctest/doctest.h>

#include "nn/helpers.h"
#include "support/error_text.h"

using namespace mica;
using namespace mica::test;

TEST_CASE("flatten: all axes but the first become one, as a view") {
  const nn::Flatten flatten;
  const Tensor x = zeros({4, 2, 3, 5});
  CHECK(flatten(x).shape() == Shape{4, 30});
  CHECK(flatten(x).shares_storage_with(x));
  CHECK(flatten(zeros({0, 2, 3})).shape() == Shape{0, 6});
  CHECK(flatten(zeros({4})).shape() == Shape{4, 1});
  CHECK(flatten(zeros({4, 0, 3})).shape() == Shape{4, 0});
  CHECK(error_text([&] { flatten(Tensor(1.0)); }) == "[flatten] the input must have a batch axis, shape []");
}

TEST_CASE("rescaling: x * scale + offset, from integers too") {
  CHECK(floats(nn::Rescaling(2, -1)(tensor({0, 0.5, 1}))) == std::vector<float>{-1, 0, 1});
  CHECK(floats(nn::Rescaling(0.5)(tensor({2, 4}))) == std::vector<float>{1, 2});
  const Tensor pixels = tensor(std::vector<uint8_t>{0, 51, 255}, {3});
  CHECK(floats(nn::Rescaling(0.5, 1)(pixels)) == std::vector<float>{1, 26.5, 128.5});
  CHECK(nn::Rescaling(2)(zeros({2}, {float64})).dtype() == float64);
}

TEST_CASE("reshape: examples under another shape, one size of which may be left out") {
  CHECK(nn::Reshape({3, 4})(zeros({5, 12})).shape() == Shape{5, 3, 4});
  CHECK(nn::Reshape({-1, 4})(zeros({5, 2, 6})).shape() == Shape{5, 3, 4});
  CHECK(nn::Reshape({-1, 4})(zeros({0, 12})).shape() == Shape{0, 3, 4});  // inferred without an example
  CHECK(nn::Reshape(Shape{})(zeros({5, 1})).shape() == Shape{5});
  const Tensor x = zeros({5, 12});
  CHECK(nn::Reshape({12})(x).shares_storage_with(x));
  CHECK(error_text([] {
          nn::Reshape({5})(zeros({2, 12}));
        }) == "[reshape] the number of elements must stay the same: examples of [12] to [5]");
  CHECK(error_text([] {
          nn::Reshape({5, -1})(zeros({2, 12}));
        }) == "[reshape] cannot infer the -1: examples of [12] to [5,-1]");
  CHECK(error_text([] { nn::Reshape({-1, -1}); }) == "[reshape] only one size may be -1: [-1,-1]");
  CHECK(error_text([] { nn::Reshape({-2}); }) == "[reshape] sizes must not be negative: [-2]");
}

TEST_CASE("zero padding: a border of its own width on each side") {
  const Tensor x = ones({1, 1, 2, 1});
  CHECK(floats(nn::ZeroPadding2D({1, 0}, {0, 2})(x)) == std::vector<float>{0, 0, 0, 0, 1, 1, 0, 0});
  CHECK(nn::ZeroPadding2D(2)(x).shape() == Shape{1, 5, 6, 1});
  CHECK(nn::ZeroPadding2D({1, 2}, {3, 4})(x).shape() == Shape{1, 4, 9, 1});
  CHECK(error_text([] { nn::ZeroPadding2D(-1); }) == "[zero_padding2d] widths must not be negative, got -1");
  CHECK(error_text([] {
          nn::ZeroPadding2D(1)(zeros({2, 2}));
        }) == "[zero_padding2d] the input must be images [N,H,W,C], got [2,2]");
}

TEST_CASE("up-sampling: pixels repeated, or blended") {
  const Tensor x = tensor({{0, 4}}).reshape({1, 1, 2, 1});
  CHECK(floats(nn::UpSampling2D({2, 2})(x)) == std::vector<float>{0, 0, 4, 4, 0, 0, 4, 4});
  CHECK(floats(nn::UpSampling2D({1, 2}, {.interpolation = Interpolation::bilinear})(x)) ==
        std::vector<float>{0, 1, 3, 4});
  CHECK(nn::UpSampling2D({2, 3})(zeros({0, 4, 5, 6})).shape() == Shape{0, 8, 15, 6});
  CHECK(error_text([] {
          nn::UpSampling2D({0, 1});
        }) == "[up_sampling2d] factors must be at least 1 and not huge, got 0 and 1");
  CHECK(error_text([] {
          nn::UpSampling2D(2)(zeros({2, 2}));
        }) == "[up_sampling2d] the input must be images [N,H,W,C], got [2,2]");
}
