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

TEST_CASE("Huber: half of the square up to delta, a line beyond, and the slope runs on") {
  const Tensor p = tensor({0, 0.5, -0.5, 1, 3, -3}), t = zeros({6});
  const losses::Huber loss{.delta = 1};
  CHECK(floats(loss.unreduced(p, t)) == std::vector<float>{0, 0.125, 0.125, 0.5, 2.5, 2.5});
  const Result r = loss_and_gradient(p, [&](const Tensor& z) { return loss(z, t) * 6; });
  CHECK(largest_difference(r.dz, tensor({0, 0.5, -0.5, 1, 1, -1})) < 1e-6);
}

TEST_CASE("label smoothing moves targets toward each class alike, whichever way the loss is computed") {
  const Tensor z = random_normal({4, 3}, 0, 2, {.stream = 20}), labels = tensor({0, 2, 1, 1}, {int64});
  const Tensor hot = one_hot(labels, 3), moved = hot * 0.7 + 0.1;
  const double expected = losses::CategoricalCrossentropy{true}(z, moved).item();
  const losses::CategoricalCrossentropy dense{.label_smoothing = 0.3};
  const losses::SparseCategoricalCrossentropy sparse{.label_smoothing = 0.3};
  CHECK(dense(softmax(z), hot).item() == doctest::Approx(expected).epsilon(1e-6));
  CHECK(sparse(softmax(z), labels).item() == doctest::Approx(expected).epsilon(1e-6));
  const Result fused = loss_and_gradient(z, [&](const Tensor& x) { return sparse(softmax(x), labels); });
  CHECK(fused.loss == doctest::Approx(expected).epsilon(1e-6));
  CHECK(largest_difference(fused.dz, (softmax(z) - moved) / 4) < 1e-6);
  const Tensor yes = tensor({1, 0}), logits = tensor({2, -1});
  CHECK(losses::BinaryCrossentropy{true, 0.2}(logits, yes).item() ==
        doctest::Approx(losses::BinaryCrossentropy{true}(logits, tensor({0.9, 0.1})).item()));
}

TEST_CASE("weights multiply each example's loss; the sum is divided by the number of examples") {
  const Tensor p = tensor({{1, 2}, {3, 4}}), t = tensor({{1, 0}, {2, 6}});
  CHECK(losses::mean_squared_error(p, t, tensor({1, 10})).item() == (1 * (0 + 4) / 2.0 + 10 * (1 + 4) / 2.0) / 2);
  CHECK(losses::mean_squared_error(p, t, tensor({{1, 10}, {0, 2}})).item() == (0 + 10 * 4 + 0 + 2 * 4) / 4.0);
  CHECK(losses::mean_squared_error(p, t, tensor({1, 10}, {int64})).item() == 13.5);
  CHECK(losses::mean_absolute_error(p, t, tensor({0, 4})).item() == 4 * (1 + 2) / 2.0 / 2);
}

TEST_CASE("weights of 1 are no weights, and a weight of 2 counts as the example twice, of every loss") {
  const Tensor z = random_normal({3, 4}, 0, 1, {.stream = 21}), t = random_uniform({3, 4}, 0, 1, {.stream = 22});
  const Tensor labels = tensor({3, 0, 2}, {int64});
  const auto check_loss = [&](const losses::Loss& loss, const Tensor& p, const Tensor& target) {
    CHECK(loss(p, target, ones({3})).item() == doctest::Approx(loss(p, target).item()).epsilon(1e-6));
    const double each[] = {loss(p.slice(0, 1), target.slice(0, 1)).item(),
                           loss(p.slice(1, 2), target.slice(1, 2)).item(),
                           loss(p.slice(2, 3), target.slice(2, 3)).item()};
    CHECK(loss(p, target, tensor({2, 0, 0.5})).item() ==
          doctest::Approx((2 * each[0] + 0.5 * each[2]) / 3).epsilon(1e-6));
  };
  check_loss(losses::mean_squared_error, z, t);
  check_loss(losses::mean_absolute_error, z, t);
  check_loss(losses::huber, z, t);
  check_loss(losses::binary_crossentropy, sigmoid(z), t);
  check_loss(losses::categorical_crossentropy, softmax(z), t);
  check_loss(losses::sparse_categorical_crossentropy, softmax(z), labels);
}

TEST_CASE("with weights softmax and cross-entropy are still computed from the logits") {
  const Tensor z = tensor({{1e4, -1e4}, {-1e4, 1e4}}), labels = tensor({1, 1}, {int64}), w = tensor({2, 1});
  const Result r = loss_and_gradient(
      z, [&](const Tensor& x) { return losses::sparse_categorical_crossentropy(softmax(x), labels, w); });
  CHECK(r.loss == 2e4);
  CHECK(floats(r.dz) == std::vector<float>{1, -1, 0, 0});
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
  const Tensor w = tensor({0.5, 0, 3}, {float64});
  CHECK(check_gradient(z, [&](const Tensor& x) { return losses::mean_absolute_error(x, t, w); }) < 1e-6);
  CHECK(check_gradient(z, [&](const Tensor& x) { return losses::Huber{.delta = 0.4}(x, t, w); }) < 1e-6);
  CHECK(check_gradient(z, [&](const Tensor& x) { return losses::BinaryCrossentropy{true, 0.1}(x, t, w); }) < 1e-6);
  CHECK(check_gradient(z, [&](const Tensor& x) { return losses::CategoricalCrossentropy{true, 0.1}(x, t, w); }) < 1e-6);
  CHECK(check_gradient(z, [&](const Tensor& x) {
          return losses::SparseCategoricalCrossentropy{true, 0.1}(x, labels, w);
        }) < 1e-6);
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

TEST_CASE("losses: the parameters' gradients are the same however the last layer is written") {
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
  CHECK(error_text([&] {
          losses::mean_absolute_error(p, zeros({4, 2}));
        }) == "[mean_absolute_error] prediction and target must have one shape: prediction [4,3], target [4,2]");
  CHECK(error_text([&] {
          losses::huber(p, zeros({4, 2}));
        }) == "[huber] prediction and target must have one shape: prediction [4,3], target [4,2]");
  CHECK(error_text([&] { losses::Huber{.delta = 0}(p, p); }) == "[huber] delta must be finite and above 0, got 0");
  CHECK(error_text([&] { losses::BinaryCrossentropy{.label_smoothing = -1}(p, p); }) ==
        "[binary_crossentropy] label_smoothing must be in [0, 1], got -1");
  CHECK(error_text([&] { losses::CategoricalCrossentropy{.label_smoothing = 2}(p, p); }) ==
        "[categorical_crossentropy] label_smoothing must be in [0, 1], got 2");
  CHECK(error_text([&] { losses::mean_squared_error(p, p, zeros({3})); }) ==
        "[mean_squared_error] weights must have the losses' shape or a beginning of it: weights [3], losses [4,3]");
  CHECK(error_text([&] { losses::mean_squared_error(p, p, Tensor(1.0)); }) ==
        "[mean_squared_error] weights must have the losses' shape or a beginning of it: weights [], losses [4,3]");
  CHECK(sparse({}) == "[sparse_categorical_crossentropy] prediction and target must be defined");
}

TEST_CASE("losses: pointwise ones pass a gradient check in many shapes") {
  for (const Shape& shape : {Shape{1}, {7}, {0}, {3, 5}, {2, 3, 1}, {4, 0}}) {
    CAPTURE(to_string(shape));
    const Tensor x = sample(shape, float64, 1), t = sample(shape, float64, 2), w = sample({shape[0]}, float64, 3, 0, 2);
    const auto passes = [&](const auto& loss) {
      return gradcheck([&](const Tensors& xs) { return sum(loss.unreduced(xs[0], t)); }, {x}) < 1e-6 &&
             (shape.elements() == 0 || gradcheck([&](const Tensors& xs) { return loss(xs[0], t, w); }, {x}) < 1e-6);
    };
    CHECK(passes(losses::mean_squared_error));
    CHECK(passes(losses::mean_absolute_error));
    CHECK(passes(losses::Huber{.delta = 0.5}));
  }
}

TEST_CASE("losses: one's own returns a scalar, or a value for each example, which weights need") {
  const Tensor p = tensor({1, 2}), t = tensor({3, -1}), w = tensor({10, 1});
  const losses::Loss each = [](const Tensor& x, const Tensor& y) { return abs(x - y); };
  CHECK(each(p, t).item() == 2.5);
  CHECK(each(p, t, w).item() == (10 * 2 + 3) / 2.0);
  const losses::Loss scalar = [](const Tensor& x, const Tensor& y) { return sum(abs(x - y)); };
  CHECK(error_text([&] { scalar(p, t, w); }) ==
        "[loss] weights need a loss that returns a value for each example: this one returned one number for the batch");
  CHECK(error_text([&] { each(p, t, ones({3})); }) ==
        "[loss] weights must have the losses' shape or a beginning of it: weights [3], losses [2]");
  const losses::Loss own_weights = [](const Tensor& x, const Tensor& y, const Tensor& weights) {
    return sum(abs(x - y) * (weights.defined() ? weights : ones({2}))) / 7;
  };
  CHECK(own_weights(p, t).item() == doctest::Approx(5.0 / 7));
  CHECK(own_weights(p, t, w).item() == doctest::Approx(23.0 / 7));
  const losses::Loss nothing = [](const Tensor&, const Tensor&) { return Tensor(); };
  CHECK(error_text([&] { nothing(p, t); }) == "[loss] the loss returned an undefined tensor");
}

TEST_CASE("losses: any callable is one") {
  const losses::Loss own = [](const Tensor& p, const Tensor& t) { return sum(abs(p - t)); };
  CHECK(own.defined());
  CHECK_FALSE(losses::Loss().defined());
  CHECK(own(tensor({1, 2}), tensor({3, -1})).item() == 5);
  const losses::Loss mica_own = losses::mean_squared_error;
  CHECK(mica_own(tensor({1, 2}), tensor({3, 2})).item() == 2);
}
