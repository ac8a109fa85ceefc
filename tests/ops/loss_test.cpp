// Cross-entropy of logits, and the labels that it takes.
#include "mica/ops/loss.h"

#include <limits>

#include "mica/autograd/gradcheck.h"
#include "mica/nn/losses.h"
#include "mica/ops/index.h"
#include "mica/ops/softmax.h"
#include "support/devices.h"
#include "support/golden.h"
#include "support/wrong_use.h"

using namespace mica;
using namespace mica::test;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
const Shape kShapes[] = {{1, 1}, {3, 5}, {7}, {2, 3, 17}, {0, 3}, {4, 1}, {1, 100}};

Shape without_last(const Shape& shape) {
  return Shape(std::span<const int64_t>(shape.begin(), static_cast<size_t>(shape.rank() - 1)));
}

Tensor labels_for(const Shape& logits) {
  std::vector<int64_t> labels(static_cast<size_t>(without_last(logits).elements()));
  for (size_t i = 0; i < labels.size(); ++i) labels[i] = static_cast<int64_t>(i) * 7 % logits[-1];
  return tensor(labels, without_last(logits));
}

}  // namespace

TEST_CASE("losses and their gradients are PyTorch's") {
  for (const GoldenCase& c : golden("loss"))
    replay(c, kPointwise, [&](const Tensors& x) -> Tensor {
      const Tensor weights = x.size() > 2 ? x[2] : Tensor();
      if (c.op == "sparse_categorical_crossentropy") return mean(sparse_cross_entropy(x[0], x[1]));
      if (c.op == "categorical_crossentropy") return mean(cross_entropy(x[0], x[1]));
      if (c.op == "binary_crossentropy") return losses::BinaryCrossentropy{.from_logits = true}(x[0], x[1]);
      if (c.op == "mean_squared_error") return losses::mean_squared_error(x[0], x[1]);
      if (c.op == "mean_absolute_error") return losses::mean_absolute_error(x[0], x[1]);
      if (c.op == "huber") return losses::Huber{.delta = c.number("delta")}(x[0], x[1]);
      if (c.op == "weighted_mean_squared_error") return losses::mean_squared_error(x[0], x[1], weights);
      if (c.op == "weighted_mean_absolute_error") return losses::mean_absolute_error(x[0], x[1], weights);
      const double smoothing = c.number("label_smoothing");
      if (c.op == "weighted_binary_crossentropy")
        return losses::BinaryCrossentropy{true, smoothing}(x[0], x[1], weights);
      if (c.op == "weighted_categorical_crossentropy")
        return losses::CategoricalCrossentropy{true, smoothing}(x[0], x[1], weights);
      check(c.op == "weighted_sparse_categorical_crossentropy", "test", "unknown op ", c.op);
      return losses::SparseCategoricalCrossentropy{true, smoothing}(x[0], x[1], weights);
    });
}

TEST_CASE("cross-entropy passes a gradient check in its logits") {
  for (const Shape& shape : kShapes) {
    CAPTURE(shape);
    const Tensor logits = sample(shape, float64, 1, -3, 3), targets = sample(shape, float64, 2, 0, 1);
    CHECK(gradcheck([&](const Tensors& x) { return cross_entropy(x[0], targets); }, {logits}) <= 1e-6);
    const Tensor labels = labels_for(shape);
    for (const double smoothing : {0.0, 0.3, 1.0})
      CHECK(gradcheck([&](const Tensors& x) { return sparse_cross_entropy(x[0], labels, smoothing); }, {logits}) <=
            1e-6);
  }
}

TEST_CASE("cross-entropy of labels is that of their one-hot rows, and minus the logarithm of the softmax") {
  for (const DType dtype : {float32, float64})
    for (const Shape& shape : kShapes) {
      CAPTURE(shape);
      const Tensor logits = sample(shape, dtype, 1, -5, 5), labels = labels_for(shape);
      const Tensor loss = sparse_cross_entropy(logits, labels), hot = one_hot(labels, shape[-1]).to(dtype);
      CHECK(loss.shape() == without_last(shape));
      CHECK(close(loss, cross_entropy(logits, hot), tolerance_of(dtype, kPointwise)));
      CHECK(close(loss, -sum(log_softmax(logits) * hot, -1), tolerance_of(dtype, kPointwise)));
      for (const DType integer : {int32, uint8})
        CHECK(same_bits(sparse_cross_entropy(logits, labels.to(integer)), loss));
    }
}

TEST_CASE("the targets of cross-entropy get no gradient") {
  Tape tape;
  Tensor logits = sample({2, 3}), targets = sample({2, 3}, float64, 1);
  tape.watch(logits);
  tape.watch(targets);
  CHECK(close(tape.gradient(sum(cross_entropy(logits, targets)), {targets})[0], zeros({2, 3}), kExact));
}

TEST_CASE("a wrong label costs the whole distance however large the logits, and a right one nothing") {
  for (const DType dtype : {float32, float64}) {
    const Tensor logits = tensor({{1e4, 0, -1e4}, {1e4, 0, -1e4}, {1e4, 0, -1e4}}, {dtype});
    CHECK(close(sparse_cross_entropy(logits, tensor({0, 1, 2}, {int64})), {0, 1e4, 2e4}));
    CHECK(close(cross_entropy(logits, one_hot(tensor({0, 1, 2}, {int64}), 3).to(dtype)), {0, 1e4, 2e4}));
  }
}

TEST_CASE("a target of 0 takes no part, even against a logit of minus infinity") {
  for (const DType dtype : {float32, float64}) {
    const Tensor logits = tensor({{0, -kInfinity}, {-kInfinity, 0}}, {dtype});
    CHECK(close(cross_entropy(logits, tensor({{1, 0}, {1, 0}}, {dtype})), {0, kInfinity}));
    CHECK(close(sparse_cross_entropy(logits, tensor({0, 0}, {int64})), {0, kInfinity}));
  }
}

TEST_CASE("with label smoothing of 0 a label has the bits of one without; with 1, each class has the same share") {
  for (const DType dtype : {float32, float64}) {
    const Tensor logits = sample({3, 5}, dtype, 1, -5, 5), labels = tensor({0, 4, 2}, {int64});
    CHECK(same_bits(sparse_cross_entropy(logits, labels, 0), sparse_cross_entropy(logits, labels)));
    CHECK(close(sparse_cross_entropy(logits, labels, 1), cross_entropy(logits, full({3, 5}, 0.2, {dtype})),
                tolerance_of(dtype, kPointwise)));
    CHECK(close(sparse_cross_entropy(tensor({{-kInfinity, 0, 0}}, {dtype}), tensor({1}, {int64}), 0.5), {kInfinity}));
  }
}

TEST_CASE("one_hot has a 1 where the label is") {
  CHECK(close(one_hot(tensor({2, 0}, {int64}), 3), tensor({{0, 0, 1}, {1, 0, 0}}), kExact));
  CHECK(close(one_hot(tensor({1}, {uint8})[0], 2), tensor({0, 1}), kExact));
  CHECK(one_hot(zeros({2, 0}, {int32}), 5).shape() == Shape{2, 0, 5});
  CHECK(one_hot(tensor({1}, {int64}), 2).dtype() == float32);
}

TEST_CASE("losses refuse labels outside of the classes, and shapes that do not fit") {
  const Tensor logits = ones({2, 3});
  const auto labels = [](double a, double b, DType dtype = int64) { return tensor({a, b}, {dtype}); };
  check_wrong_use({
      {"[sparse_cross_entropy] label -1 at position 1 is outside of 0..2",
       [=] { sparse_cross_entropy(logits, labels(0, -1)); }},
      {"[sparse_cross_entropy] label 3 at position 0 is outside of 0..2",
       [=] { sparse_cross_entropy(logits, labels(3, 0)); }},
      {"[sparse_cross_entropy] label 255 at position 1 is outside of 0..2",
       [=] { sparse_cross_entropy(logits, labels(0, 255, uint8)); }},
      {"[sparse_cross_entropy] label_smoothing must be in [0, 1], got 1.5",
       [=] { sparse_cross_entropy(logits, labels(0, 1), 1.5); }},
      {"[sparse_cross_entropy] label_smoothing must be in [0, 1], got nan",
       [=] { sparse_cross_entropy(logits, labels(0, 1), std::numeric_limits<double>::quiet_NaN()); }},
      {"[sparse_cross_entropy] labels must be integers, got float32",
       [=] { sparse_cross_entropy(logits, labels(0, 1, float32)); }},
      {"[sparse_cross_entropy] labels must have the predictions' shape without its last axis: predictions [2,3], "
       "labels [3]",
       [=] { sparse_cross_entropy(logits, zeros({3}, {int64})); }},
      {"[sparse_cross_entropy] labels must have the predictions' shape without its last axis: predictions [2,3], "
       "labels [2,1]",
       [=] {
         sparse_cross_entropy(logits, zeros({2, 1}, {int64}));
       }},
      {"[sparse_cross_entropy] the labels must be on " + to_string(default_device()),
       [=] { sparse_cross_entropy(logits, {}); }},
      {"[sparse_cross_entropy] the logits must be float32 or float64, got int32",
       [=] { sparse_cross_entropy(logits.to(int32), labels(0, 0)); }},
      {"[sparse_cross_entropy] label 0 at position 0 is outside of 0..-1",
       [=] {
         sparse_cross_entropy(zeros({2, 0}), labels(0, 0));
       }},
      {"[cross_entropy] targets must have the predictions' shape: predictions [2,3], targets [2,1]",
       [=] {
         cross_entropy(logits, ones({2, 1}));
       }},
      {"[cross_entropy] targets must have the predictions' shape: predictions [], targets []",
       [=] { cross_entropy(ones({}), ones({})); }},
      {"[cross_entropy] there must be at least one class, shape [2,0]",
       [=] {
         cross_entropy(ones({2, 0}), ones({2, 0}));
       }},
      {"[cross_entropy] dtypes must match: float32 and float64 (the targets)",
       [=] {
         cross_entropy(logits, ones({2, 3}, {float64}));
       }},
      {"[cross_entropy] the logits is undefined", [=] { cross_entropy({}, logits); }},
      {"[one_hot] label 2 at position 1 is outside of 0..1", [=] { one_hot(labels(0, 2), 2); }},
      {"[one_hot] label -1 at position 0 is outside of 0..1", [=] { one_hot(labels(-1, 0), 2); }},
      {"[one_hot] there must be at least one class, got 0", [=] { one_hot(labels(0, 0), 0); }},
      {"[one_hot] labels must be integers, got float64", [=] { one_hot(labels(0, 1, float64), 2); }},
  });
}
