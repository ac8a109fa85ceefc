// Losses: values, the two ways of writing them, and extremes.
#include "mica/nn/losses.h"

#include <doctest/doctest.h>

#include <limits>

#include "mica/autograd/gradcheck.h"
#include "mica/autograd/tape.h"
#include "mica/ops/elementwise.h"
#include "mica/ops/index.h"
#include "mica/ops/reduce.h"
#include "mica/ops/softmax.h"
#include "nn/helpers.h"
#include "support/error_text.h"

using namespace mica;
using namespace mica::test;

namespace {

struct Result {
  double loss;
  Tensor dz;
};

// The loss of f(z) and its gradient to z.
template <class F>
Result loss_and_gradient(Tensor z, const F& f) {
  Tape tape;
  tape.watch(z);
  const Tensor loss = f(z);
  return {loss.item(), tape.gradient(loss, {z})[0]};
}

// The largest |gradient - central difference| of a loss of z, in float64.
template <class F>
double check_gradient(const Tensor& z, const F& f) {
  return gradcheck([&](const Tensors& x) { return f(x[0]); }, {z.to(float64)});
}

const double kLog2 = std::log(2.0);

}  // namespace

TEST_CASE("mean squared error: by hand") {
  const Tensor p = tensor({{1, 2}, {3, 4}}), t = tensor({{1, 0}, {2, 6}});
  CHECK(losses::mean_squared_error(p, t).item() == (0 + 4 + 1 + 4) / 4.0);
  CHECK(losses::mean_squared_error(p, t.to(int64)).item() == 9.0 / 4);
  const Result r = loss_and_gradient(p, [&](const Tensor& z) { return losses::mean_squared_error(z, t); });
  CHECK(floats(r.dz) == std::vector<float>{0, 1, 0.5, -1});
}

TEST_CASE("binary cross-entropy: by hand, from probabilities and from logits") {
  const Tensor t = tensor({1, 0, 1, 0});
  CHECK(losses::binary_crossentropy(full({4}, 0.5), t).item() == doctest::Approx(kLog2));
  CHECK(losses::binary_crossentropy(tensor({0.75, 0.25, 0.25, 0.75}), t).item() ==
        doctest::Approx(-(2 * std::log(0.75) + 2 * std::log(0.25)) / 4));
  CHECK(losses::BinaryCrossentropy{true}(zeros({4}), t).item() == doctest::Approx(kLog2));
  CHECK(losses::BinaryCrossentropy{true}(tensor({2, -1, 0.5, 3}), t).item() ==
        doctest::Approx((std::log1p(std::exp(-2.0)) + std::log1p(std::exp(-1.0)) + std::log1p(std::exp(-0.5)) +
                         std::log1p(std::exp(3.0))) /
                        4));
  CHECK(losses::binary_crossentropy(full({4}, 0.5), t.to(uint8)).item() == doctest::Approx(kLog2));
}

TEST_CASE("categorical cross-entropy: by hand, from probabilities and from logits, one-hot and labels") {
  const Tensor p = tensor({{0.5, 0.25, 0.25}, {0.1, 0.1, 0.8}}), t = tensor({{1, 0, 0}, {0, 0.5, 0.5}});
  const double expected = -(std::log(0.5) + 0.5 * std::log(0.1) + 0.5 * std::log(0.8)) / 2;
  CHECK(losses::categorical_crossentropy(p, t).item() == doctest::Approx(expected));
  CHECK(losses::CategoricalCrossentropy{true}(log(p), t).item() == doctest::Approx(expected));
  CHECK(losses::CategoricalCrossentropy{true}(log(p) + 5, t).item() == doctest::Approx(expected));
  CHECK(losses::CategoricalCrossentropy{true}(zeros({2, 3}), t).item() == doctest::Approx(std::log(3)));

  const Tensor labels = tensor({0, 2}, {int64});
  const double sparse = -(std::log(0.5) + std::log(0.8)) / 2;
  CHECK(losses::sparse_categorical_crossentropy(p, labels).item() == doctest::Approx(sparse));
  CHECK(losses::SparseCategoricalCrossentropy{true}(log(p) - 7, labels).item() == doctest::Approx(sparse));
  CHECK(losses::sparse_categorical_crossentropy(p, labels.to(uint8)).item() == doctest::Approx(sparse));
  CHECK(losses::sparse_categorical_crossentropy(p, labels.to(int32)).item() == doctest::Approx(sparse));
}

TEST_CASE("softmax, then cross-entropy: under a tape the same loss and gradient to the bit as from logits") {
  const Tensor z = random_normal({6, 5}, 0, 3, {.stream = 3});
  const Tensor labels = tensor({0, 4, 2, 2, 1, 3}, {int64}), t = one_hot(labels, 5);
  const Result probabilities =
      loss_and_gradient(z, [&](const Tensor& x) { return losses::categorical_crossentropy(softmax(x), t); });
  const Result logits =
      loss_and_gradient(z, [&](const Tensor& x) { return losses::CategoricalCrossentropy{true}(x, t); });
  CHECK(probabilities.loss == logits.loss);
  CHECK(same_bits(probabilities.dz, logits.dz));

  const Result sparse = loss_and_gradient(
      z, [&](const Tensor& x) { return losses::sparse_categorical_crossentropy(softmax(x), labels); });
  const Result sparse_logits =
      loss_and_gradient(z, [&](const Tensor& x) { return losses::SparseCategoricalCrossentropy{true}(x, labels); });
  CHECK(sparse.loss == sparse_logits.loss);
  CHECK(same_bits(sparse.dz, sparse_logits.dz));
  CHECK(sparse.loss == doctest::Approx(logits.loss).epsilon(1e-6));

  // (softmax(z) - t) / n
  CHECK(largest_difference(logits.dz, (softmax(z) - t) / 6) < 1e-6);
}

TEST_CASE("sigmoid, then cross-entropy: under a tape the same loss and gradient to the bit as from logits") {
  const Tensor z = random_normal({7, 3}, 0, 3, {.stream = 4});
  const Tensor t = random_uniform({7, 3}, 0, 1, {.stream = 5});
  const Result probabilities =
      loss_and_gradient(z, [&](const Tensor& x) { return losses::binary_crossentropy(sigmoid(x), t); });
  const Result logits = loss_and_gradient(z, [&](const Tensor& x) { return losses::BinaryCrossentropy{true}(x, t); });
  CHECK(probabilities.loss == logits.loss);
  CHECK(same_bits(probabilities.dz, logits.dz));
  CHECK(largest_difference(logits.dz, (sigmoid(z) - t) / 21) < 1e-6);
}

TEST_CASE("losses: gradients against differences, from probabilities and logits") {
  const Tensor z = random_normal({3, 4}, 0, 1, {.stream = 6}), other = random_uniform({3, 4}, 0, 1, {.stream = 7});
  const Tensor t = other.to(float64), labels = tensor({3, 0, 2}, {int64});
  CHECK(check_gradient(z, [&](const Tensor& x) { return losses::mean_squared_error(x, t); }) < 1e-6);
  CHECK(check_gradient(z, [&](const Tensor& x) { return losses::BinaryCrossentropy{true}(x, t); }) < 1e-6);
  CHECK(check_gradient(z, [&](const Tensor& x) { return losses::binary_crossentropy(sigmoid(x), t); }) < 1e-6);
  CHECK(check_gradient(z, [&](const Tensor& x) { return losses::CategoricalCrossentropy{true}(x, t); }) < 1e-6);
  CHECK(check_gradient(z, [&](const Tensor& x) { return losses::categorical_crossentropy(softmax(x), t); }) < 1e-6);
  CHECK(check_gradient(z, [&](const Tensor& x) { return losses::SparseCategoricalCrossentropy{true}(x, labels); }) <
        1e-6);
  CHECK(check_gradient(
            z, [&](const Tensor& x) { return losses::sparse_categorical_crossentropy(softmax(x), labels); }) < 1e-6);
  // Probabilities that nothing made of logits.
  const Tensor p = random_uniform({3, 4}, 0.1, 0.9, {.stream = 8});
  CHECK(check_gradient(p, [&](const Tensor& x) { return losses::binary_crossentropy(x, t); }) < 1e-6);
  CHECK(check_gradient(p, [&](const Tensor& x) { return losses::categorical_crossentropy(x, t); }) < 1e-6);
  CHECK(check_gradient(p, [&](const Tensor& x) { return losses::sparse_categorical_crossentropy(x, labels); }) < 1e-6);
}

TEST_CASE("losses: finite and right at logits of +-10,000") {
  const Tensor z = tensor({{1e4, -1e4}, {-1e4, 1e4}, {1e4, 1e4}}), t = tensor({{0, 1}, {0, 1}, {1, 0}});
  const Tensor labels = tensor({1, 1, 0}, {int64});
  const double softmax_loss = (2e4 + 0 + kLog2) / 3, sigmoid_loss = (1e4 + 1e4 + 0 + 0 + 0 + 1e4) / 6;
  const auto check_extreme = [&](double expected, const auto& f) {
    const Result r = loss_and_gradient(z, f);
    CHECK(r.loss == doctest::Approx(expected));
    for (const float v : floats(r.dz)) CHECK(std::isfinite(v));
    CHECK(largest_difference(r.dz, zeros({3, 2})) > 0.1);  // wrong answers are still told so
  };
  check_extreme(softmax_loss, [&](const Tensor& x) { return losses::CategoricalCrossentropy{true}(x, t); });
  check_extreme(softmax_loss, [&](const Tensor& x) { return losses::categorical_crossentropy(softmax(x), t); });
  check_extreme(softmax_loss,
                [&](const Tensor& x) { return losses::sparse_categorical_crossentropy(softmax(x), labels); });
  check_extreme(sigmoid_loss, [&](const Tensor& x) { return losses::BinaryCrossentropy{true}(x, t); });
  check_extreme(sigmoid_loss, [&](const Tensor& x) { return losses::binary_crossentropy(sigmoid(x), t); });
  // Without a tape the probabilities are all that is left: clamped, and finite.
  CHECK(std::isfinite(losses::categorical_crossentropy(softmax(z), t).item()));
  CHECK(std::isfinite(losses::sparse_categorical_crossentropy(softmax(z), labels).item()));
  CHECK(std::isfinite(losses::binary_crossentropy(sigmoid(z), t).item()));
}

TEST_CASE("losses: without a tape the value is the same but for rounding") {
  const Tensor z = random_normal({6, 5}, 0, 3, {.stream = 9}), t = one_hot(tensor({0, 4, 2, 2, 1, 3}, {int64}), 5);
  CHECK(losses::categorical_crossentropy(softmax(z), t).item() ==
        doctest::Approx(losses::CategoricalCrossentropy{true}(z, t).item()).epsilon(1e-5));
  CHECK(losses::binary_crossentropy(sigmoid(z), t).item() ==
        doctest::Approx(losses::BinaryCrossentropy{true}(z, t).item()).epsilon(1e-5));
}

TEST_CASE("losses: only Mica's own softmax is taken back to its logits, not an op of that name") {
  const Tensor z = tensor({{1, 2}}), t = tensor({{1, 0}});
  const auto half = [&](const Tensor& x) {
    return custom_op(
        "softmax", {x},
        [&] {
          return full({1, 2}, 0.5);
        },
        [](const Tensor& dy) { return dy; });
  };
  const Result r = loss_and_gradient(z, [&](const Tensor& x) { return losses::categorical_crossentropy(half(x), t); });
  CHECK(r.loss == doctest::Approx(kLog2));
  CHECK(floats(r.dz) == std::vector<float>{-2, 0});
}

TEST_CASE("losses: the parameters' gradients are the sam' however the last layer is written") {
  const Tensor x = random_normal({8, 3}, 0, 1, {.stream = 10});
  const Tensor t = one_hot(tensor({0, 1, 2, 3, 3, 2, 1, 0}, {int64}), 4);
  const auto gradient = [&](nn::Activation activation, bool from_logits) {
    nn::Dense layer(4, {.activation = activation});
    nn::build(layer, {3}, 1);
    Tape tape;
    tape.backward(losses::CategoricalCrossentropy{from_logits}(layer(x), t));
    return layer.kernel().gradient().clone();
  };
  CHECK(same_bits(gradient(softmax, false), gradient({}, true)));
}

TEST_CASE("losses: wrong use") {
  const Tensor p = zeros({4, 3});
  CHECK(error_text([&] {
          losses::mean_squared_error(p, zeros({4, 2}));
        }) == "[mean_squared_error] prediction and target must have one shape: prediction [4,3], target [4,2]");
  CHECK(error_text([&] {
          losses::mean_squared_error(zeros({4}), zeros({4, 1}));
        }) == "[mean_squared_error] prediction and target must have one shape: prediction [4], target [4,1]");
  CHECK(error_text([&] { losses::binary_crossentropy(p, zeros({4})); }) ==
        "[binary_crossentropy] prediction and target must have one shape: prediction [4,3], target [4]");
  CHECK(error_text([&] { losses::categorical_crossentropy(p, zeros({4}, {int64})); }) ==
        "[categorical_crossentropy] prediction and target must have one shape: prediction [4,3], target [4]");
  CHECK(error_text([&] { losses::categorical_crossentropy(p, {}); }) ==
        "[categorical_crossentropy] prediction and target must be defined");
  CHECK(error_text([&] { losses::categorical_crossentropy(Tensor(1.0), Tensor(1.0)); }) ==
        "[categorical_crossentropy] predictions must have a class axis, shape []");
  const auto sparse = [&](const Tensor& labels) {
    return error_text([&] { losses::sparse_categorical_crossentropy(p, labels); });
  };
  CHECK(sparse(tensor({0, 1, 2, 3}, {int64})) == "[sparse_cross_entropy] label 3 at position 3 is outside of 0..2");
  CHECK(sparse(tensor({0, -1, 2, 3}, {int64})) == "[sparse_cross_entropy] label -1 at position 1 is outside of 0..2");
  CHECK(sparse(tensor({0, 1, 2, 0})) == "[sparse_cross_entropy] labels must be integers, got float32");
  CHECK(sparse(tensor({0, 1}, {int64})) ==
        "[sparse_cross_entropy] labels must have the predictions' shape without its last axis: predictions [4,3], "
        "labels [2]");
  CHECK(sparse({}) == "[sparse_categorical_crossentropy] prediction and target must be defined");
}

TEST_CASE("losses: any callable is one") {
  const losses::Loss own = [](const Tensor& p, const Tensor& t) { return sum(abs(p - t)); };
  CHECK(own.defined());
  CHECK_FALSE(losses::Loss().defined());
  CHECK(own(tensor({1, 2}), tensor({3, -1})).item() == 5);
  const losses::Loss mica_own = losses::mean_squared_error;
  CHECK(mica_own(tensor({1, 2}), tensor({3, 2})).item() == 2);
}
