// Losses: what training makes small. Each is an object that is called (prediction, target) and gives the mean over the
// batch as a scalar; with weights as well, (prediction, target, weights), the weighted one.
#pragma once

#include <concepts>
#include <memory>
#include <string>

#include "mica/core/tensor.h"

namespace MICA_EXPORT mica {
/// With weights a loss is sum_i(w_i * l_i) / N over the N examples, as Keras' sum_over_batch_size: weights of 1 change
/// nothing, and they are not divided by their sum. l_i is the mean of what unreduced() gives for example i. Weights are
/// [N], or any beginning of the shape of unreduced() ([N, time], a weight for each step); no weights, 1 for each.
namespace losses {

/// The mean of (prediction - target)^2 over all elements. Shapes must be equal.
struct MeanSquaredError {
  static constexpr const char* kName = "mean_squared_error";
  Tensor operator()(const Tensor& prediction, const Tensor& target, const Tensor& weights = {}) const;
  /// One number an element (`reduction="none"`).
  Tensor unreduced(const Tensor& prediction, const Tensor& target) const;
};

/// The mean of |prediction - target| over all elements. Shapes must be equal.
struct MeanAbsoluteError {
  static constexpr const char* kName = "mean_absolute_error";
  Tensor operator()(const Tensor& prediction, const Tensor& target, const Tensor& weights = {}) const;
  /// One number an element.
  Tensor unreduced(const Tensor& prediction, const Tensor& target) const;
};

/// The mean over all elements of r^2 / 2 where |r| <= delta, and delta * (|r| - delta / 2) beyond, r = prediction -
/// target: squared for small errors, linear for outliers. Shapes must be equal. Huber, "Robust estimation of a location
/// parameter", 1964.
struct Huber {
  static constexpr const char* kName = "huber";
  double delta = 1;  ///< above 0
  Tensor operator()(const Tensor& prediction, const Tensor& target, const Tensor& weights = {}) const;
  /// One number an element.
  Tensor unreduced(const Tensor& prediction, const Tensor& target) const;
};

/// -mean(t log(p) + (1 - t) log(1 - p)) over all elements, from probabilities, or from logits. Stable either way:
/// logits through softplus; probabilities that a sigmoid made, under a tape, through its logits; others clamped to
/// [1e-7, 1 - 1e-7].
struct BinaryCrossentropy {
  static constexpr const char* kName = "binary_crossentropy";
  bool from_logits = false;
  double label_smoothing = 0;  ///< s in [0, 1]: targets become t * (1 - s) + s / 2
  Tensor operator()(const Tensor& prediction, const Tensor& target, const Tensor& weights = {}) const;
  /// One number an element.
  Tensor unreduced(const Tensor& prediction, const Tensor& target) const;
};

/// -mean over rows of sum(t log(p)), predictions and targets [..., classes]. Probabilities that a softmax made, under a
/// tape, are taken back to its logits, so that softmax and cross-entropy are one fused, stable op; others are clamped
/// to the smallest normal number.
struct CategoricalCrossentropy {
  static constexpr const char* kName = "categorical_crossentropy";
  bool from_logits = false;
  /// s in [0, 1]: targets become t * (1 - s) + s / classes. Szegedy et al., "Rethinking the inception architecture",
  /// 2016, section 7.
  double label_smoothing = 0;
  Tensor operator()(const Tensor& prediction, const Tensor& target, const Tensor& weights = {}) const;
  /// One number a row: [...].
  Tensor unreduced(const Tensor& prediction, const Tensor& target) const;
};

/// The same with integer labels [...]. Throws Error for a label outside of [0, classes).
struct SparseCategoricalCrossentropy {
  static constexpr const char* kName = "sparse_categorical_crossentropy";
  bool from_logits = false;
  double label_smoothing = 0;  ///< as CategoricalCrossentropy's, of the labels' one-hot rows, which are never made
  Tensor operator()(const Tensor& prediction, const Tensor& target, const Tensor& weights = {}) const;
  /// One number a row: [...].
  Tensor unreduced(const Tensor& prediction, const Tensor& target) const;
};

inline constexpr MeanSquaredError mean_squared_error;
inline constexpr MeanAbsoluteError mean_absolute_error;
inline constexpr Huber huber;
inline constexpr BinaryCrossentropy binary_crossentropy;
inline constexpr CategoricalCrossentropy categorical_crossentropy;
inline constexpr SparseCategoricalCrossentropy sparse_categorical_crossentropy;

namespace detail {
// The scalar that a loss of one's own means by what it returned.
Tensor reduced(const Tensor& values, const Tensor& weights);

template <class T>
concept Weighted = requires(const T& t, const Tensor& x) {
  { t(x, x, x) } -> std::convertible_to<Tensor>;
};
template <class T>
concept Unweighted = requires(const T& t, const Tensor& x) {
  { t(x, x) } -> std::convertible_to<Tensor>;
};
}  // namespace detail

/// Any loss, type-erased: one of the above or a callable of one's own. One's own (prediction, target) returns a scalar,
/// or a value for each example, [N] or [N, ...], which is reduced as said above; weights need the latter, and throw
/// Error on a scalar. One that is called (prediction, target, weights) sees to its weights, undefined or not, itself.
class Loss {
 public:
  Loss() = default;
  template <class T>
    requires(!std::same_as<T, Loss> && (detail::Weighted<T> || detail::Unweighted<T>))
  Loss(T loss) : held_(std::make_shared<Holder<T>>(std::move(loss))) {}

  bool defined() const { return held_ != nullptr; }
  Tensor operator()(const Tensor& prediction, const Tensor& target, const Tensor& weights = {}) const {
    return held_->call(prediction, target, weights);
  }

 private:
  struct Held {
    virtual ~Held() = default;
    virtual Tensor call(const Tensor& prediction, const Tensor& target, const Tensor& weights) const = 0;
  };
  template <class T>
  struct Holder final : Held {
    explicit Holder(T value) : loss(std::move(value)) {}
    Tensor call(const Tensor& prediction, const Tensor& target, const Tensor& weights) const override {
      if constexpr (detail::Weighted<T>)
        return detail::reduced(loss(prediction, target, weights), {});
      else
        return detail::reduced(loss(prediction, target), weights);
    }
    T loss;
  };
  std::shared_ptr<const Held> held_;
};

}  // namespace losses
}  // namespace mica
