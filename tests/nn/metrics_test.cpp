// Metrics: what is counted, and over how many batches.
#include "mica/nn/metrics.h"

#include <doctest/doctest.h>

#include "mica/ops/index.h"
#include "support/error_text.h"
#include "support/tensors.h"

using namespace mica;
using mica::test::error_text;

namespace {

struct Largest {
  static constexpr const char* kName = "largest";
  double value = 0;
  void reset() { value = 0; }
  void update(const Tensor& p, const Tensor&) {
    for (const double v : test::doubles(p)) value = std::max(value, v);
  }
  double result() const { return value; }
};

}  // namespace

TEST_CASE("accuracy: the largest wins, against labels of any integer type and one-hot targets") {
  const Tensor p = tensor({{0.1, 0.7, 0.2}, {0.5, 0.3, 0.2}, {0.2, 0.2, 0.6}, {0.4, 0.4, 0.2}});
  const Tensor labels = tensor({1, 2, 2, 0}, {int64});  // of equals the first wins
  CHECK(metrics::accuracy(p, labels) == 0.75);
  CHECK(metrics::accuracy(p, labels.to(uint8)) == 0.75);
  CHECK(metrics::accuracy(p, labels.to(int32)) == 0.75);
  CHECK(metrics::accuracy(p, one_hot(labels, 3)) == 0.75);
  CHECK(metrics::accuracy(p, one_hot(labels, 3).to(uint8)) == 0.75);
}

TEST_CASE("accuracy: of sequences, each step counts") {
  const Tensor p = tensor({{1, 0}, {0, 1}, {1, 0}, {0, 1}}).reshape({2, 2, 2});
  CHECK(metrics::accuracy(p, tensor({{0, 1}, {1, 1}}, {int64})) == 0.75);
}

TEST_CASE("accuracy: two classes in one number, above one half or not") {
  CHECK(metrics::accuracy(tensor({0.9, 0.4, 0.5, 0.6}), tensor({1, 0, 0, 0})) == 0.75);
  CHECK(metrics::accuracy(tensor({0.9, 0.4, 0.5, 0.6}).reshape({4, 1}),
                          tensor({1, 0, 1, 0}, {uint8}).reshape({4, 1})) == 0.5);
  CHECK(metrics::accuracy(tensor({0.9, 0.4, 0.5, 0.6}).reshape({4, 1}), tensor({1, 0, 1, 0}, {int64})) == 0.5);
}

TEST_CASE("mean absolute and squared error: over all elements, in either precision") {
  const Tensor p = tensor({{1, 2}, {3, 4}}), t = tensor({{1, 0}, {2, 7}});
  CHECK(metrics::mean_absolute_error(p, t) == 1.5);
  CHECK(metrics::mean_squared_error(p, t) == 3.5);
  CHECK(metrics::mean_absolute_error(p.to(float64), t.to(float64)) == 1.5);
  CHECK(metrics::mean_squared_error(p, t.to(int64)) == 3.5);
}

TEST_CASE("metrics: batches of different sizes count by their examples; reset begins anew") {
  metrics::Accuracy metric;
  CHECK(metric.result() == 0);
  metric.update(tensor({0.9, 0.9, 0.9}), tensor({1, 1, 1}));
  metric.update(tensor({0.9}), tensor({0}));
  CHECK(metric.result() == 0.75);
  metric.update(zeros({0}), zeros({0}));
  CHECK(metric.result() == 0.75);
  metric.reset();
  CHECK(metric.result() == 0);
}

TEST_CASE("metrics: of nothing they are 0") {
  CHECK(metrics::accuracy(zeros({0, 10}), zeros({0}, {int64})) == 0);
  CHECK(metrics::accuracy(zeros({0, 10}), zeros({0, 10})) == 0);
  CHECK(metrics::mean_absolute_error(zeros({0, 2}), zeros({0, 2})) == 0);
}

TEST_CASE("metrics: shapes that do not fit are refused") {
  CHECK(error_text([] {
          metrics::accuracy(zeros({4, 3}), zeros({4, 2}));
        }) == "[accuracy] targets must be one-hot or labels of the predictions: prediction [4,3], target [4,2]");
  CHECK(error_text([] {
          metrics::accuracy(zeros({4, 3}), zeros({3}, {int64}));
        }) == "[accuracy] targets must be one-hot or labels of the predictions: prediction [4,3], target [3]");
  CHECK(error_text([] {
          metrics::mean_squared_error(zeros({4, 3}), zeros({4}));
        }) == "[mean_squared_error] prediction and target must have one shape: prediction [4,3], target [4]");
  CHECK(error_text([] { metrics::accuracy({}, zeros({4})); }) == "[accuracy] prediction and target must be defined");
}

TEST_CASE("metrics: a type-erased metric is one of its own, and so is each copy") {
  metrics::Metric a = metrics::accuracy;
  a.update(tensor({0.9}), tensor({1}));
  metrics::Metric b = a;
  b.update(tensor({0.9}), tensor({0}));
  CHECK(a.result() == 1);
  CHECK(b.result() == 0.5);
  CHECK(a.name() == "accuracy");
  CHECK(metrics::Metric(metrics::mean_absolute_error).name() == "mean_absolute_error");
}

TEST_CASE("metrics: any type with a name, reset, update and result is one") {
  metrics::Metric metric = Largest();
  metric.update(tensor({1, 5}), {});
  metric.update(tensor({3}), {});
  CHECK(metric.name() == "largest");
  CHECK(metric.result() == 5);
}
