// Losses: what training makes small. Each is an object that is called (prediction, target) and gives the mean over the
// batch as a scalar.
#pragma once

#include <memory>
#include <string>

#include "mica/core/tensor.h"

namespace MICA_EXPORT mica {
namespace losses {

/// The mean of (prediction - target)^2 over all elements. Shapes must be equal.
struct MeanSquaredError {
  static constexpr const char* kName = "mean_squared_error";
  Tensor operator()(const Tensor& prediction, const Tensor& target) const;
};

/// -mean(t log(p) + (1 - t) log(1 - p)) over all elements, from probabilities, or from logits. Stable either way:
/// logits through softplus; probabilities that a sigmoid made, under a tape, through its logits; others clamped to
/// [1e-7, 1 - 1e-7].
struct BinaryCrossentropy {
  static constexpr const char* kName = "binary_crossentropy";
  bool from_logits = false;
  Tensor operator()(const Tensor& prediction, const Tensor& target) const;
};

/// -mean over rows of sum(t log(p)), predictions and targets [..., classes]. Probabilities that a softmax made, under a
/// tape, are taken back to its logits, so that softmax and cross-entropy are one fused, stable op; others are clamped
/// to the smallest normal number.
struct CategoricalCrossentropy {
  static constexpr const char* kName = "categorical_crossentropy";
  bool from_logits = false;
  Tensor operator()(const Tensor& prediction, const Tensor& target) const;
};

/// The same with integer labels [...]. Throws Error for a label outside of [0, classes).
struct SparseCategoricalCrossentropy {
  static constexpr const char* kName = "sparse_categorical_crossentropy";
  bool from_logits = false;
  Tensor operator()(const Tensor& prediction, const Tensor& target) const;
};

inline constexpr MeanSquaredError mean_squared_error;
inline constexpr BinaryCrossentropy binary_crossentropy;
inline constexpr CategoricalCrossentropy categorical_crossentropy;
inline constexpr SparseCategoricalCrossentropy sparse_categorical_crossentropy;

/// Any loss, type-erased: one of the above or a callable of one's own.
class Loss {
 public:
  Loss() = default;
  template <class T>
    requires requires(const T& t, const Tensor& x) {
      { t(x, x) } -> std::convertible_to<Tensor>;
    }
  Loss(T loss) : held_(std::make_shared<Holder<T>>(std::move(loss))) {}

  bool defined() const { return held_ != nullptr; }
  Tensor operator()(const Tensor& prediction, const Tensor& target) const { return held_->call(prediction, target); }

 private:
  struct Held {
    virtual ~Held() = default;
    virtual Tensor call(const Tensor& prediction, const Tensor& target) const = 0;
  };
  template <class T>
  struct Holder final : Held {
    explicit Holder(T value) : loss(std::move(value)) {}
    Tensor call(const Tensor& prediction, const Tensor& target) const override { return loss(prediction, target); }
    T loss;
  };
  std::shared_ptr<const Held> held_;
};

}  // namespace losses
}  // namespace mica
