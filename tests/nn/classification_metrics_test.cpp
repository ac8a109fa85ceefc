// Metrics of classes: scikit-learn's values, and what happens over batches.
#include <doctest/doctest.h>

#include <cmath>

#include "mica/io/checkpoint.h"
#include "mica/nn/metrics.h"
#include "mica/nn/sequential.h"
#include "mica/ops/index.h"
#include "mica/optim/sgd.h"
#include "nn/helpers.h"
#include "support/golden.h"
#include "support/wrong_use.h"

using namespace mica;
using namespace mica::test;

namespace {

// The metric of all examples, given in batches of `size`.
double in_batches(metrics::Metric metric, const Tensor& prediction, const Tensor& target, int64_t size) {
  for (int epoch = 0; epoch < 2; ++epoch) {  // what the first leaves takes no part in the second
    metric.reset();
    for (int64_t i = 0; i < target.dim(0); i += size) {
      const int64_t end = std::min(i + size, target.dim(0));
      metric.update(prediction.slice(i, end), target.slice(i, end));
    }
  }
  return metric.result();
}

metrics::Metric metric_of(const GoldenCase& c) {
  if (c.op == "precision") return metrics::Precision{.threshold = c.number("threshold")};
  if (c.op == "recall") return metrics::Recall{.threshold = c.number("threshold")};
  if (c.op == "f1") return metrics::F1{.threshold = c.number("threshold")};
  if (c.op == "auc") return metrics::auc;
  check(c.op == "top_k_accuracy", "test", "unknown metric ", c.op);
  return metrics::TopKAccuracy{.k = static_cast<int64_t>(c.number("k"))};
}

}  // namespace

TEST_CASE("metrics of classes are scikit-learn's, in batches of any size and with one-hot targets") {
  int cases = 0;
  for (const GoldenCase& c : golden("metrics")) {
    CAPTURE(c.name);
    ++cases;
    const Tensor target = c.input("target", float32), expected = c.expected("y");
    for (const DType dtype : {float32, float64}) {
      const Tensor prediction = c.input("prediction", dtype);
      if (c.op == "confusion_matrix") {
        const Tensor counts = metrics::confusion_matrix(prediction, target, expected.dim(0));
        CHECK(same_bits(counts, expected));
        continue;
      }
      for (const int64_t size : {1000, 1, 7})
        CHECK(in_batches(metric_of(c), prediction, target, size) == doctest::Approx(expected.item()).epsilon(1e-12));
      if (prediction.rank() == 2)
        CHECK(in_batches(metric_of(c), prediction, one_hot(target, prediction.dim(-1)), 7) ==
              doctest::Approx(expected.item()).epsilon(1e-12));
      else
        CHECK(in_batches(metric_of(c), prediction.reshape({-1, 1}), target.reshape({-1, 1}).to(float32), 7) ==
              doctest::Approx(expected.item()).epsilon(1e-12));
    }
  }
  CHECK(cases > 50);
}

TEST_CASE("precision, recall and F1: by hand, of one batch") {
  const Tensor p = tensor({0.9, 0.8, 0.2, 0.6, 0.5}), t = tensor({1, 0, 1, 1, 1});
  CHECK(metrics::precision(p, t) == 2.0 / 3);
  CHECK(metrics::recall(p, t) == 0.5);
  CHECK(metrics::f1(p, t) == doctest::Approx(4.0 / 7));
  CHECK(metrics::Precision{.threshold = 0.85}(p, t) == 1);
  CHECK(metrics::precision(zeros({3}), zeros({3})) == 0);
  CHECK(metrics::recall(zeros({0}), zeros({0})) == 0);
}

TEST_CASE("AUC: all pairs right is 1, all wrong 0, equal ones a half; NaN without both classes or with NaN") {
  const auto auc = [](std::initializer_list<mica::detail::Number> p, std::initializer_list<mica::detail::Number> t) {
    return metrics::auc(tensor(p), tensor(t));
  };
  CHECK(auc({0.1, 0.4, 0.6}, {0, 0, 1}) == 1);
  CHECK(auc({0.1, 0.4, 0.6}, {1, 1, 0}) == 0);
  CHECK(auc({0.5, 0.5, 0.5}, {1, 0, 1}) == 0.5);
  CHECK(auc({0.1, 0.4, 0.4, 0.9}, {0, 1, 0, 1}) == 0.875);
  CHECK(std::isnan(auc({0.1, 0.4}, {1, 1})));
  CHECK(std::isnan(auc({0.1, 0.4}, {0, 0})));
  CHECK(std::isnan(auc({0.1, NAN, 0.4}, {0, 0, 1})));
  metrics::AUC once;
  once.update(tensor({NAN}), tensor({1}));
  once.reset();
  once.update(tensor({0.1, 0.2}), tensor({0, 1}));
  CHECK(once.result() == 1);
}

TEST_CASE("top-k accuracy: of equal predictions the first classes come first, and NaN is never right") {
  const Tensor even = zeros({3, 4}), labels = tensor({0, 1, 3}, {int64});
  CHECK(metrics::TopKAccuracy{.k = 1}(even, labels) == metrics::accuracy(even, labels));
  CHECK(metrics::TopKAccuracy{.k = 2}(even, labels) == 2.0 / 3);
  CHECK(metrics::TopKAccuracy{.k = 4}(even, labels) == 1);
  CHECK(metrics::TopKAccuracy{.k = 9}(even, labels) == 1);
  CHECK(metrics::TopKAccuracy{.k = 3}(tensor({{NAN, 1, 2}}), tensor({0}, {int64})) == 0);
  CHECK(metrics::Metric(metrics::top_k_accuracy).name() == "top_5_accuracy");
}

TEST_CASE("confusion matrix: rows are what was there, columns what was predicted") {
  const Tensor t = tensor({0, 0, 1, 2}, {int64}), p = tensor({0, 2, 1, 2}, {int64});
  const Tensor expected = tensor({{1, 0, 1}, {0, 1, 0}, {0, 0, 1}}, {int64});
  CHECK(same_bits(metrics::confusion_matrix(p, t, 3), expected));
  CHECK(same_bits(metrics::confusion_matrix(p.to(uint8), t.to(int32), 3), expected));
  CHECK(same_bits(metrics::confusion_matrix(one_hot(p, 3), one_hot(t, 3), 3), expected));
  CHECK(same_bits(metrics::confusion_matrix(tensor({0.9, 0.2, 0.7}), tensor({1, 1, 0}), 2),
                  tensor({{0, 1}, {1, 1}}, {int64})));
}

TEST_CASE("fit shows a metric of the whole epoch when the epoch ends, in its place") {
  struct Names : nn::Callback {
    std::string batch, epoch;
    static std::string of(const nn::Logs& logs) {
      std::string text;
      for (const auto& [name, value] : logs) text += name + " ";
      return text;
    }
    void on_batch_end(const nn::Progress& p) override { batch = of(p.logs); }
    void on_epoch_end(const nn::Progress& p) override { epoch = of(p.logs); }
  };
  const auto names = std::make_shared<Names>();
  const Task task = spiral(20, 2);
  nn::Sequential model{nn::Input({2}), nn::Dense(1, {.activation = sigmoid})};
  model.compile({.optimizer = optim::SGD({.learning_rate = 0}),
                 .loss = losses::binary_crossentropy,
                 .metrics = {metrics::auc, metrics::recall}});
  const Tensor y = task.y.to(float32).reshape({20, 1});
  const auto history =
      model.fit(task.x, y, {.epochs = 2, .batch_size = 8, .validation_data = {task.x, y}, .callbacks = {names}});
  CHECK(names->batch == "loss recall ");
  CHECK(names->epoch == "loss auc recall val_loss val_auc val_recall ");
  CHECK(history["auc"][1] == metrics::auc(model.predict(task.x), y));
  CHECK(history["val_auc"][1] == history["auc"][1]);
}

TEST_CASE("metrics of classes refuse what does not fit") {
  const Tensor p = zeros({4, 3}), t = zeros({4}, {int64});
  check_wrong_use({
      {"[precision] targets must be one-hot or labels of the predictions: prediction [4,3], target [3]",
       [=] { metrics::precision(p, zeros({3}, {int64})); }},
      {"[recall] label 3 at position 0 is outside of 0..2", [=] { metrics::recall(p, full({4}, 3, {int64})); }},
      {"[f1] the threshold must be in [0, 1], got 2", [=] { metrics::F1{.threshold = 2}(p, t); }},
      {"[f1] prediction and target must be defined", [=] { metrics::f1({}, t); }},
      {"[precision] the number of classes has changed since the last batch: 3, now 2",
       [=] {
         metrics::Precision metric;
         metric.update(p, t);
         metric.update(zeros({4, 2}), t);
       }},
      {"[auc] predictions must be one number for each example of two classes: prediction [4,3], target [4]",
       [=] { metrics::auc(p, t); }},
      {"[top_k_accuracy] k must be at least 1, got 0", [=] { metrics::TopKAccuracy{.k = 0}(p, t); }},
      {"[top_k_accuracy] label -1 at position 0 is outside of 0..2",
       [=] { metrics::top_k_accuracy(p, full({4}, -1, {int64})); }},
      {"[top_k_accuracy] predictions must have a class axis: prediction [4], target [4]",
       [=] { metrics::top_k_accuracy(zeros({4}), t); }},
      {"[confusion_matrix] classes must be in 1..32768, got 0", [=] { metrics::confusion_matrix(t, t, 0); }},
      {"[confusion_matrix] classes must be in 1..32768, got 1000000",
       [=] { metrics::confusion_matrix(t, t, 1000000); }},
      {"[confusion_matrix] labels must have one shape: prediction [4], target [3]",
       [=] { metrics::confusion_matrix(t, zeros({3}, {int64}), 2); }},
      {"[confusion_matrix] label 2 at position 0 is outside of 0..1",
       [=] { metrics::confusion_matrix(t + full({4}, 2, {int64}), t, 2); }},
  });
}

TEST_CASE("metrics: counts that no epoch can have are refused where a state is set") {
  metrics::Precision from, to;
  from.update(tensor({{0.1, 0.9}, {0.8, 0.2}}), tensor({1, 0}).to(int64));
  io::NamedTensors state = io::state_tensors(from);
  io::set_state(to, state);
  CHECK(to.result() == 1);
  state[0].second = zeros({3}, {int64});
  CHECK(error_text([&] { io::set_state(to, state); }) == "[metrics] the counts must be of as many classes each");
  state[0].second = full({2}, -1, {int64});
  CHECK(error_text([&] { io::set_state(to, state); }) == "[metrics] there cannot be a count of -1");
}
