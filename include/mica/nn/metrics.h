// Metrics: what people read during training. Each gathers over the batches of an epoch.
#pragma once

#include <concepts>
#include <memory>
#include <string>
#include <utility>

#include "mica/core/tensor.h"

namespace MICA_EXPORT mica {
namespace metrics {

namespace detail {
// A mean over examples; Derived::add(prediction, target) returns a total and how many examples are in it.
struct Total {
  double sum = 0, count = 0;
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
  /// The metric of one batch.
  double operator()(const Tensor& prediction, const Tensor& target) const {
    const Total t = Derived::of(prediction, target);
    return t.count > 0 ? t.sum / t.count : 0;
  }
};
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

inline constexpr Accuracy accuracy;
inline constexpr MeanAbsoluteError mean_absolute_error;
inline constexpr MeanSquaredError mean_squared_error;

/// What a metric is: copyable, with kName, reset(), update(prediction, target) and result().
template <class T>
concept MetricLike = std::copyable<T> && requires(T& t, const T& c, const Tensor& x) {
  t.reset();
  t.update(x, x);
  { c.result() } -> std::convertible_to<double>;
  { T::kName } -> std::convertible_to<std::string>;
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

 private:
  struct Held {
    virtual ~Held() = default;
    virtual std::string name() const = 0;
    virtual void reset() = 0;
    virtual void update(const Tensor& prediction, const Tensor& target) = 0;
    virtual double result() const = 0;
    virtual std::unique_ptr<Held> copy() const = 0;
  };
  template <class T>
  struct Holder final : Held {
    explicit Holder(T value) : metric(std::move(value)) {}
    std::string name() const override { return T::kName; }
    void reset() override { metric.reset(); }
    void update(const Tensor& prediction, const Tensor& target) override { metric.update(prediction, target); }
    double result() const override { return metric.result(); }
    std::unique_ptr<Held> copy() const override { return std::make_unique<Holder>(metric); }
    T metric;
  };
  std::unique_ptr<Held> held_;
};

}  // namespace metrics
}  // namespace mica
