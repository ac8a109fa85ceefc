// Layers of several inputs.
#include "mica/nn/merge.h"

#include <doctest/doctest.h>

#include "nn/helpers.h"
#include "support/error_text.h"

using namespace mica;
using namespace mica::test;

namespace {

Tensor merged(const nn::Layer& layer, const Tensors& xs) {
  nn::CallScope scope;
  return layer.forward(std::span(xs), scope.call()).at(0);
}

}  // namespace

TEST_CASE("merging layers: the inputs folded from the left, element by element") {
  const Tensors xs = {tensor({8, 1}), tensor({2, 4}), tensor({1, 4})};
  CHECK(floats(merged(nn::Add(), xs)) == std::vector<float>{11, 9});
  CHECK(floats(merged(nn::Subtract(), xs)) == std::vector<float>{5, -7});
  CHECK(floats(merged(nn::Multiply(), xs)) == std::vector<float>{16, 16});
  CHECK(floats(merged(nn::Maximum(), xs)) == std::vector<float>{8, 4});
  CHECK(floats(merged(nn::Minimum(), xs)) == std::vector<float>{1, 1});
  CHECK(floats(merged(nn::Average(), xs)) == std::vector<float>{11.0f / 3, 3});
  CHECK(floats(merged(nn::Add(), {xs[0]})) == std::vector<float>{8, 1});
  CHECK(merged(nn::Add(), {zeros({2, 1, 3}), zeros({2, 4, 1})}).shape() == Shape{2, 4, 3});
}

TEST_CASE("concatenate: along the last axis, or the one that is named") {
  const Tensors xs = {ones({2, 3}), zeros({2, 3})};
  CHECK(merged(nn::Concatenate(), xs).shape() == Shape{2, 6});
  CHECK(merged(nn::Concatenate(0), xs).shape() == Shape{4, 3});
  CHECK(error_text([&] { merged(nn::Concatenate(2), xs); }) == "[concat] axis 2 is out of range for shape [2,3]");
  CHECK(error_text([] { nn::Concatenate(9); }) == "[concatenate] there is no axis 9");
}

TEST_CASE("merging layers: wrong use") {
  CHECK(error_text([] { merged(nn::Add(), {}); }) == "[add] there must be at least one input");
  CHECK(error_text([] {
          merged(nn::Multiply(), {zeros({2}), zeros({3})});
        }) == "[multiply] shapes do not broadcast: [2] and [3]");
}
