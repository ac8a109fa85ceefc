// Metrics: what people read during training. Each gathers over the batches of an epoch.
#pragma once

#include <concepts>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "mica/core/state.h"

namespace MICA_EXPORT mica {
namespace metrics {

namespace detail {
// A mean over examples; Derived::add(prediction, target) returns a total and how many examples are in it.
struct Total {
  double sum = 0, count = 0;
  void visit_state(StateVisitor& v) { v("sum", sum), v("count", count); }
};
template <class Derived>
struct Mean {
  Total total{};
  void reset() { total = {}; }
  void update(const Tensor& prediction, const Tensor& target) {
    const Total t = Derived::of(prediction, target);
    total.sum += t.sum;
    total.count += t.count;
  }
  double result() const { return total.count > 0 ? total.sum / total.count : 0; }
  void visit_state(StateVisitor& v) { total.visit_state(v); }
  /// The metric of one batch.
  double operator()(const Tensor& prediction, const Tensor& target) const {
    const Total t = Derived::of(prediction, target);
    return t.count > 0 ? t.sum / t.count : 0;
  }
};

// Of each class, or of the positive one alone: how often it was predicted, was there, and both.
struct Counts {
  std::vector<int64_t> predicted, actual, right;
  void reset();
  void visit_state(StateVisitor& v);
  void update(const char* op, double threshold, const Tensor& prediction, const Tensor& target);
  /// The mean of f(right, predicted, actual) over the classes that were predicted or there; 0 when there are none.
  double mean(double (*f)(double right, double predicted, double actual)) const;
};

// The metric of one batch by itself.
template <class T>
double of_batch(T metric, const Tensor& prediction, const Tensor& target) {
  metric.reset();
  metric.update(prediction, target);
  return metric.result();
}
}  // namespace detail

/// The share of examples whose class is right. Predictions [..., classes] with targets one-hot [..., classes] or
/// integer labels [...] (the largest wins); predictions [..., 1] or [...] with targets [..., 1] or [...]: above one
/// half or not.
struct Accuracy : detail::Mean<Accuracy> {
  static constexpr const char* kName = "accuracy";
  static detail::Total of(const Tensor& prediction, const Tensor& target);
};

/// The mean of |prediction - target| / of its square, over all elements.
struct MeanAbsoluteError : detail::Mean<MeanAbsoluteError> {
  static constexpr const char* kName = "mean_absolute_error";
  static detail::Total of(const Tensor& prediction, const Tensor& target);
};
struct MeanSquaredError : detail::Mean<MeanSquaredError> {
  static constexpr const char* kName = "mean_squared_error";
  static detail::Total of(const Tensor& prediction, const Tensor& target);
};

/// The share of examples whose class is among the k that have the largest predictions; of equals the first come first,
/// so that with k = 1 it is the accuracy. Predictions [..., classes], targets as Accuracy's. Called "top_5_accuracy".
struct TopKAccuracy {
  int64_t k = 5;
  detail::Total total = {};
  std::string name() const { return "top_" + std::to_string(k) + "_accuracy"; }
  void reset() { total = {}; }
  /// Throws Error for k below 1, a label outside of the classes, and shapes that do not fit.
  void update(const Tensor& prediction, const Tensor& target);
  double result() const { return total.count > 0 ? total.sum / total.count : 0; }
  void visit_state(StateVisitor& v) { total.visit_state(v); }
  double operator()(const Tensor& prediction, const Tensor& target) const {
    return detail::of_batch(*this, prediction, target);
  }
};

// Precision, recall and F1 over all examples of an epoch. Of two classes in one number (predictions [..., 1] or [...])
// those of the positive class, which is predicted above `threshold`. Of predictions [..., classes] the macro average:
// each class by itself, the largest prediction wins, then the plain mean over the classes that were predicted or there.
// What would divide by 0 is 0. All as in scikit-learn (average="binary" or "macro", zero_division=0).

/// right / predicted: how much of what was predicted is so.
struct Precision {
  static constexpr const char* kName = "precision";
  double threshold = 0.5;
  detail::Counts counts = {};
  void reset() { counts.reset(); }
  void update(const Tensor& prediction, const Tensor& target) { counts.update(kName, threshold, prediction, target); }
  double result() const;
  void visit_state(StateVisitor& v) { counts.visit_state(v); }
  double operator()(const Tensor& prediction, const Tensor& target) const {
    return detail::of_batch(*this, prediction, target);
  }
};

/// right / actual: how much of what was there is found.
struct Recall {
  static constexpr const char* kName = "recall";
  double threshold = 0.5;
  detail::Counts counts = {};
  void reset() { counts.reset(); }
  void update(const Tensor& prediction, const Tensor& target) { counts.update(kName, threshold, prediction, target); }
  double result() const;
  void visit_state(StateVisitor& v) { counts.visit_state(v); }
  double operator()(const Tensor& prediction, const Tensor& target) const {
    return detail::of_batch(*this, prediction, target);
  }
};

/// 2 right / (predicted + actual): the harmonic mean of precision and recall.
struct F1 {
  static constexpr const char* kName = "f1";
  double threshold = 0.5;
  detail::Counts counts = {};
  void reset() { counts.reset(); }
  void update(const Tensor& prediction, const Tensor& target) { counts.update(kName, threshold, prediction, target); }
  double result() const;
  void visit_state(StateVisitor& v) { counts.visit_state(v); }
  double operator()(const Tensor& prediction, const Tensor& target) const {
    return detail::of_batch(*this, prediction, target);
  }
};

/// The area under the receiver operating characteristic of two classes, predictions [..., 1] or [...]: how often a
/// positive example has a larger prediction than a negative one, equal ones counting half. Exact, so it keeps 8 bytes
/// for each example of an epoch (and allocates no more in the next), and it is computed when the epoch ends: the logs
/// of a batch do not have it. NaN when a class is missing or a prediction is NaN. Hanley, McNeil, Radiology 143, 1982.
struct AUC {
  static constexpr const char* kName = "auc";
  static constexpr bool kAtEnd = true;
  mutable std::vector<double> positive = {}, negative = {};  // result() sorts them
  bool undefined = false;
  void reset();
  void update(const Tensor& prediction, const Tensor& target);
  double result() const;
  void visit_state(StateVisitor& v) { v("positive", positive), v("negative", negative), v("undefined", undefined); }
  double operator()(const Tensor& prediction, const Tensor& target) const {
    return detail::of_batch(*this, prediction, target);
  }
};

/// How often each class (row) was predicted as each (column): int64 [classes, classes]. Predictions are integer labels
/// like the targets, or what Accuracy takes. Throws Error for labels outside of [0, classes), and for more than 32,768
/// classes.
Tensor confusion_matrix(const Tensor& prediction, const Tensor& target, int64_t classes);

inline constexpr Accuracy accuracy;
inline constexpr MeanAbsoluteError mean_absolute_error;
inline constexpr MeanSquaredError mean_squared_error;
inline const TopKAccuracy top_k_accuracy;
inline const Precision precision;
inline const Recall recall;
inline const F1 f1;
inline const AUC auc;

namespace detail {
template <class T>
concept HasName = requires(const T& c) {
  { c.name() } -> std::convertible_to<std::string>;
};
template <class T>
concept HasStaticName = requires {
  { T::kName } -> std::convertible_to<std::string>;
};
}  // namespace detail

/// What a metric is: copyable, with name() or kName, reset(), update(prediction, target) and result(). With kAtEnd it
/// is asked for its result only at the end of an epoch, not after each batch; with visit_state() (core/state.h),
/// training can go on from a checkpoint within an epoch.
template <class T>
concept MetricLike = std::copyable<T> &&
    (detail::HasName<T> || detail::HasStaticName<T>)&&requires(T& t, const T& c, const Tensor& x) {
  t.reset();
  t.update(x, x);
  { c.result() } -> std::convertible_to<double>;
};

/// Any metric, type-erased. Copies are metrics of their own.
class Metric {
 public:
  template <class T>
    requires(!std::same_as<std::remove_cvref_t<T>, Metric> && MetricLike<std::remove_cvref_t<T>>)
  Metric(T&& metric) : held_(std::make_unique<Holder<std::remove_cvref_t<T>>>(std::forward<T>(metric))) {}
  Metric(const Metric& other) : held_(other.held_->copy()) {}
  Metric(Metric&&) noexcept = default;
  Metric& operator=(Metric other) noexcept {
    held_ = std::move(other.held_);
    return *this;
  }

  std::string name() const { return held_->name(); }
  void reset() { held_->reset(); }
  void update(const Tensor& prediction, const Tensor& target) { held_->update(prediction, target); }
  double result() const { return held_->result(); }
  /// Whether result() is for the end of an epoch.
  bool at_end() const { return held_->at_end(); }
  /// Whether it says what it has gathered.
  bool has_state() const { return held_->has_state(); }
  void visit_state(StateVisitor& v) { held_->visit_state(v); }

 private:
  struct Held {
    virtual ~Held() = default;
    virtual std::string name() const = 0;
    virtual void reset() = 0;
    virtual void update(const Tensor& prediction, const Tensor& target) = 0;
    virtual double result() const = 0;
    virtual bool at_end() const = 0;
    virtual bool has_state() const = 0;
    virtual void visit_state(StateVisitor& v) = 0;
    virtual std::unique_ptr<Held> copy() const = 0;
  };
  template <class T>
  struct Holder final : Held {
    explicit Holder(T value) : metric(std::move(value)) {}
    std::string name() const override {
      if constexpr (detail::HasName<T>)
        return metric.name();
      else
        return T::kName;
    }
    bool at_end() const override {
      if constexpr (requires { T::kAtEnd; })
        return T::kAtEnd;
      else
        return false;
    }
    void reset() override { metric.reset(); }
    void update(const Tensor& prediction, const Tensor& target) override { metric.update(prediction, target); }
    double result() const override { return metric.result(); }
    bool has_state() const override { return HasState<T>; }
    void visit_state(StateVisitor& v) override {
      if constexpr (HasState<T>) metric.visit_state(v);
    }
    std::unique_ptr<Held> copy() const override { return std::make_unique<Holder>(metric); }
    T metric;
  };
  std::unique_ptr<Held> held_;
};

}  // namespace metrics
}  // namespace mica
