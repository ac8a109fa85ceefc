// Metrics.
#include "mica/nn/metrics.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/counts.h"
#include "mica/autograd/tape.h"
#include "mica/ops/index.h"
#include "mica/ops/reduce.h"
#include "nn/targets.h"
#include "ops/common.h"

namespace MICA_EXPORT mica {
namespace metrics {

namespace {

Tensor on_cpu(const Tensor& x, DType dtype) { return x.detach().to(Device::cpu()).to(dtype); }

template <class F>
detail::Total over_elements(const char* name, const Tensor& prediction, const Tensor& target, const F& f) {
  Tape::Pause pause;
  check(prediction.defined() && target.defined() && prediction.shape() == target.shape(), name,
        "prediction and target must have one shape: prediction ", prediction.shape(), ", target ", target.shape());
  const DType dtype = prediction.dtype() == float64 ? float64 : float32;
  const Tensor p = on_cpu(prediction, dtype), t = on_cpu(target, dtype);
  detail::Total total{0, static_cast<double>(p.elements())};
  for (int64_t i = 0; i < p.elements(); ++i)
    total.sum += dtype == float64 ? f(p.data<double>()[i], t.data<double>()[i])
                                  : f(static_cast<double>(p.data<float>()[i]), static_cast<double>(t.data<float>()[i]));
  return total;
}

}  // namespace

detail::Total Accuracy::of(const Tensor& prediction, const Tensor& target) {
  Tape::Pause pause;
  const nn::Targets kind = nn::checked_targets(kName, prediction, target);
  if (kind == nn::Targets::binary)
    return over_elements(kName, prediction.reshape(target.shape()), target,
                         [](double p, double t) { return (p > 0.5) == (t > 0.5) ? 1.0 : 0.0; });
  if (prediction.elements() == 0) return {};
  const Tensor guess = argmax(on_cpu(prediction, prediction.dtype())), truth = nn::classes_of(kind, target);
  detail::Total total{0, static_cast<double>(guess.elements())};
  for (int64_t i = 0; i < guess.elements(); ++i) total.sum += guess.data<int64_t>()[i] == truth.data<int64_t>()[i];
  return total;
}

detail::Total MeanAbsoluteError::of(const Tensor& prediction, const Tensor& target) {
  return over_elements(kName, prediction, target, [](double p, double t) { return std::fabs(p - t); });
}

detail::Total MeanSquaredError::of(const Tensor& prediction, const Tensor& target) {
  return over_elements(kName, prediction, target, [](double p, double t) { return (p - t) * (p - t); });
}

void TopKAccuracy::update(const Tensor& prediction, const Tensor& target) {
  constexpr const char* kOp = "top_k_accuracy";
  Tape::Pause pause;
  check(k >= 1, kOp, "k must be at least 1, got ", k);
  const nn::Targets kind = nn::checked_targets(kOp, prediction, target);
  check(kind != nn::Targets::binary, kOp, "predictions must have a class axis: prediction ", prediction.shape(),
        ", target ", target.shape());
  const int64_t classes = prediction.dim(-1);
  if (prediction.elements() == 0) return;
  const Tensor scores = on_cpu(prediction, float64),
               labels = ops::checked_labels(kOp, nn::classes_of(kind, target), classes);
  for (int64_t row = 0; row < labels.elements(); ++row) {
    const double* score = scores.data<double>() + row * classes;
    const int64_t label = labels.data<int64_t>()[row];
    int64_t before = std::isnan(score[label]) ? classes : 0;  // that come before the right one
    for (int64_t c = 0; c < classes; ++c)
      before += score[c] > score[label] || (score[c] == score[label] && c < label) || std::isnan(score[c]);
    total.sum += before < k;
    total.count += 1;
  }
}

void detail::Counts::reset() {
  predicted.clear();
  actual.clear();
  right.clear();
}

void detail::Counts::visit_state(StateVisitor& v) {
  Counts read = *this;
  v("predicted", read.predicted);
  v("actual", read.actual);
  v("right", read.right);
  check(read.actual.size() == read.predicted.size() && read.right.size() == read.predicted.size(), "metrics",
        "the counts must be of as many classes each");
  for (const std::vector<int64_t>* counts : {&read.predicted, &read.actual, &read.right})
    for (const int64_t count : *counts) check(countable(count), "metrics", "there cannot be a count of ", count);
  *this = std::move(read);
}

void detail::Counts::update(const char* op, double threshold, const Tensor& prediction, const Tensor& target) {
  Tape::Pause pause;
  check(threshold >= 0 && threshold <= 1, op, "the threshold must be in [0, 1], got ", threshold);
  const nn::Targets kind = nn::checked_targets(op, prediction, target);
  const bool binary = kind == nn::Targets::binary;
  const int64_t classes = binary ? 1 : prediction.dim(-1);
  const auto size = static_cast<size_t>(classes);
  check(predicted.empty() || predicted.size() == size, op,
        "the number of classes has changed since the last batch: ", static_cast<int64_t>(predicted.size()), ", now ",
        classes);
  if (prediction.elements() == 0) return;
  const Tensor truth = ops::checked_labels(op, nn::classes_of(kind, target), binary ? 2 : classes);
  const Tensor scores = on_cpu(prediction, prediction.dtype() == float64 ? float64 : float32);
  const Tensor guess = binary ? Tensor() : argmax(scores);
  predicted.resize(size);
  actual.resize(size);
  right.resize(size);
  for (int64_t i = 0; i < truth.elements(); ++i) {
    const int64_t is = truth.data<int64_t>()[i];
    if (binary) {
      const double p = scores.dtype() == float64 ? scores.data<double>()[i] : scores.data<float>()[i];
      predicted[0] += p > threshold;
      actual[0] += is;
      right[0] += p > threshold && is == 1;
      continue;
    }
    const int64_t says = guess.data<int64_t>()[i];
    ++predicted[static_cast<size_t>(says)];
    ++actual[static_cast<size_t>(is)];
    right[static_cast<size_t>(is)] += says == is;
  }
}

double detail::Counts::mean(double (*f)(double, double, double)) const {
  double sum = 0, classes = 0;
  for (size_t c = 0; c < predicted.size(); ++c) {
    if (predicted[c] + actual[c] == 0) continue;
    sum += f(static_cast<double>(right[c]), static_cast<double>(predicted[c]), static_cast<double>(actual[c]));
    classes += 1;
  }
  return classes > 0 ? sum / classes : 0;
}

double Precision::result() const {
  return counts.mean([](double right, double predicted, double) { return predicted > 0 ? right / predicted : 0; });
}

double Recall::result() const {
  return counts.mean([](double right, double, double actual) { return actual > 0 ? right / actual : 0; });
}

double F1::result() const {
  return counts.mean([](double right, double predicted, double actual) { return 2 * right / (predicted + actual); });
}

void AUC::reset() {
  positive.clear();  // the memory stays
  negative.clear();
  undefined = false;
}

void AUC::update(const Tensor& prediction, const Tensor& target) {
  Tape::Pause pause;
  const nn::Targets kind = nn::checked_targets(kName, prediction, target);
  check(kind == nn::Targets::binary, kName,
        "predictions must be one number for each example of two classes: prediction ", prediction.shape(), ", target ",
        target.shape());
  const Tensor scores = on_cpu(prediction, float64), truth = nn::classes_of(kind, target);
  for (int64_t i = 0; i < scores.elements(); ++i) {
    const double score = scores.data<double>()[i];
    undefined = undefined || std::isnan(score);
    (truth.data<int64_t>()[i] == 1 ? positive : negative).push_back(score);
  }
}

double AUC::result() const {
  if (undefined || positive.empty() || negative.empty()) return std::numeric_limits<double>::quiet_NaN();
  std::sort(positive.begin(), positive.end());
  std::sort(negative.begin(), negative.end());
  double halves = 0;  // each pair in the right order counts two, each pair of equals one
  size_t below = 0, equal = 0;
  for (const double score : positive) {
    while (below < negative.size() && negative[below] < score) ++below;
    equal = std::max(equal, below);
    while (equal < negative.size() && negative[equal] == score) ++equal;
    halves += static_cast<double>(below + equal);
  }
  return halves / 2 / static_cast<double>(positive.size()) / static_cast<double>(negative.size());
}

Tensor confusion_matrix(const Tensor& prediction, const Tensor& target, int64_t classes) {
  constexpr const char* kOp = "confusion_matrix";
  Tape::Pause pause;
  check(classes >= 1 && classes <= 32768, kOp, "classes must be in 1..32768, got ", classes);
  check(prediction.defined() && target.defined(), kOp, "prediction and target must be defined");
  Tensor guess, truth;
  if (!is_floating(prediction.dtype())) {
    check(prediction.shape() == target.shape(), kOp, "labels must have one shape: prediction ", prediction.shape(),
          ", target ", target.shape());
    guess = nn::classes_of(nn::Targets::labels, prediction);
    truth = target.detach().to(Device::cpu()).to(int64);
  } else {
    const nn::Targets kind = nn::checked_targets(kOp, prediction, target);
    truth = nn::classes_of(kind, target);
    guess = nn::classes_of(kind == nn::Targets::binary ? kind : nn::Targets::one_hot, prediction);
  }
  guess = ops::checked_labels(kOp, guess, classes);
  truth = ops::checked_labels(kOp, truth, classes);
  Tensor counts = zeros({classes, classes}, {int64, Device::cpu()});
  int64_t* out = counts.mutable_data<int64_t>();
  for (int64_t i = 0; i < truth.elements(); ++i) ++out[truth.data<int64_t>()[i] * classes + guess.data<int64_t>()[i]];
  return counts;
}

}  // namespace metrics
}  // namespace mica
