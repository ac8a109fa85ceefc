// Learning rates that change with the number of updates.
#pragma once

#include <concepts>
#include <cstdint>
#include <type_traits>

#include "mica/core/macros.h"
#include "mica/core/state.h"

namespace MICA_EXPORT mica {
namespace optim {

/// What `.learning_rate` is: a number, one of the schedules below, or a function of one's own,
/// `[](int64_t iteration) { return 1e-3 / std::sqrt(1.0 + iteration); }`. A pure function of the iteration: the number
/// of updates made before, 0 at the first.
class LearningRate {
 public:
  using Function = double (*)(int64_t iteration);

  LearningRate(double rate) : rate_(rate) {}
  /// A function, or a lambda without captures.
  template <class F>
    requires(!std::is_arithmetic_v<F> && std::convertible_to<F, Function>)
  LearningRate(F function) : kind_(Kind::function), function_(function) {}

  /// The rate of the update that has `iteration` before it.
  double at(int64_t iteration) const;
  /// Whether the rates are the same; of functions, whether they are one.
  friend bool operator==(const LearningRate&, const LearningRate&) = default;
  /// What a checkpoint keeps of it. A function of one's own cannot be kept: the program's stays.
  void visit_state(StateVisitor& v);

 private:
  friend struct Schedules;
  enum class Kind : unsigned char { constant, step, exponential, cosine, function };

  Kind kind_ = Kind::constant;
  double rate_ = 0;
  double factor_ = 1, minimum_ = 0;
  int64_t steps_ = 1, warmup_ = 0;
  Function function_ = nullptr;
};

struct ScheduleOptions {
  /// For so many updates first, the rate grows linearly: update i (from 0) has rate * (i + 1) / (warmup + 1). The decay
  /// begins after them, at the whole rate.
  int64_t warmup = 0;
  double minimum = 0;  ///< the rate never decays below; PyTorch's eta_min
};

// In the formulas i counts from the end of the warmup. Each throws Error for a rate or minimum that is negative or not
// finite, a minimum above the rate, a factor outside of [0, 1], steps below 1, and a negative warmup.

/// rate * factor^floor(i / steps): falls by `factor` after each `steps` updates. PyTorch's StepLR(step_size, gamma).
LearningRate step_decay(double rate, int64_t steps, double factor = 0.1, ScheduleOptions options = {});

/// rate * factor^(i / steps): the same, smoothly. Keras' ExponentialDecay(rate, decay_steps, decay_rate); with steps of
/// 1, PyTorch's ExponentialLR(gamma).
LearningRate exponential_decay(double rate, int64_t steps, double factor, ScheduleOptions options = {});

/// minimum + (rate - minimum) * (1 + cos(pi * i / steps)) / 2, and the minimum from i = steps on: as Keras'
/// CosineDecay(rate, decay_steps), `steps` do not count the warmup. To i = steps it is PyTorch's
/// CosineAnnealingLR(T_max, eta_min), which then rises again. Loshchilov, Hutter, "SGDR", ICLR 2017, equation 5.
LearningRate cosine_decay(double rate, int64_t steps, ScheduleOptions options = {});

}  // namespace optim
}  // namespace mica
