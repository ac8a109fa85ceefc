// Flatten and Rescaling.
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
