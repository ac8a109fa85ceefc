// Learning rates that change with the number of updates.
#include "mica/optim/schedule.h"

#include <algorithm>
#include <cmath>

#include "mica/core/error.h"
#include "mica/optim/optimizer.h"

namespace MICA_EXPORT mica {
namespace optim {

struct Schedules {
  static LearningRate make(const char* op, LearningRate::Kind kind, double rate, int64_t steps, double factor,
                           const ScheduleOptions& options) {
    detail::check_rate(op, "the rate", rate);
    detail::check_rate(op, "the minimum", options.minimum);
    check(options.minimum <= rate, op, "the minimum must not be above the rate: ", options.minimum, " and ", rate);
    check(factor >= 0 && factor <= 1, op, "the factor must be in [0, 1], got ", factor);
    check(steps >= 1, op, "steps must be at least 1, got ", steps);
    check(options.warmup >= 0, op, "the warmup must not be negative, got ", options.warmup);
    LearningRate result(rate);
    result.kind_ = kind;
    result.steps_ = steps;
    result.factor_ = factor;
    result.minimum_ = options.minimum;
    result.warmup_ = options.warmup;
    return result;
  }
  using Kind = LearningRate::Kind;
};

double LearningRate::at(int64_t iteration) const {
  if (kind_ == Kind::function) {
    check(function_ != nullptr, "learning_rate", "the function is null");
    return function_(iteration);
  }
  if (iteration < warmup_) return rate_ * (static_cast<double>(iteration) + 1) / (static_cast<double>(warmup_) + 1);
  const int64_t i = iteration - warmup_;
  const double share = static_cast<double>(i) / static_cast<double>(steps_);
  switch (kind_) {
    case Kind::step: return std::max(minimum_, rate_ * std::pow(factor_, static_cast<double>(i / steps_)));
    case Kind::exponential: return std::max(minimum_, rate_ * std::pow(factor_, share));
    case Kind::cosine:
      if (i >= steps_) return minimum_;
      return minimum_ + (rate_ - minimum_) * (1 + std::cos(3.14159265358979323846 * share)) / 2;
    default: return rate_;
  }
}

void LearningRate::visit_state(StateVisitor& v) {
  LearningRate read = *this;
  auto kind = static_cast<int64_t>(kind_);
  v("kind", kind);
  v("rate", read.rate_);
  v("factor", read.factor_);
  v("minimum", read.minimum_);
  v("steps", read.steps_);
  v("warmup", read.warmup_);
  check(kind >= 0 && kind <= static_cast<int64_t>(Kind::function), "learning_rate", "there is no kind ", kind);
  read.kind_ = static_cast<Kind>(kind);
  if (read.kind_ == Kind::function) return;
  *this = Schedules::make("learning_rate", read.kind_, read.rate_, read.steps_, read.factor_,
                          {.warmup = read.warmup_, .minimum = read.minimum_});
}

LearningRate step_decay(double rate, int64_t steps, double factor, ScheduleOptions options) {
  return Schedules::make("step_decay", Schedules::Kind::step, rate, steps, factor, options);
}

LearningRate exponential_decay(double rate, int64_t steps, double factor, ScheduleOptions options) {
  return Schedules::make("exponential_decay", Schedules::Kind::exponential, rate, steps, factor, options);
}

LearningRate cosine_decay(double rate, int64_t steps, ScheduleOptions options) {
  return Schedules::make("cosine_decay", Schedules::Kind::cosine, rate, steps, 1, options);
}

}  // namespace optim
}  // namespace mica
