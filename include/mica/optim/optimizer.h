// Optimizer: updates parameters from their gradients.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "mica/autograd/parameter.h"
#include "mica/core/state.h"
#include "mica/optim/schedule.h"

namespace MICA_EXPORT mica {
namespace optim {

namespace detail {

// What an algorithm is: a number of state values beside each parameter, and one update of a flat run of them.
struct Rule {
  virtual ~Rule() = default;
  virtual const char* name() const = 0;
  virtual int states() const = 0;
  /// Updates `n` values at `w` from gradients `g`; `step` counts from 1; states[i] points to the run's i-th state.
  virtual void update(Device device, DType dtype, int64_t n, int64_t step, double learning_rate, const void* g, void* w,
                      void* const* states) const = 0;
  virtual std::shared_ptr<Rule> copy() const = 0;
};

// How a step clips the gradients before it uses them: at most one of the two is not 0.
struct Clip {
  double value = 0, norm = 0;
};

void check_rate(const char* op, const char* what, double value);
void check_fraction(const char* op, const char* what, double value);

}  // namespace detail

/// A handle on an algorithm, its state and the parameters that it updates; copies share them. Parameters that were
/// packed together (models do) are updated in one pass.
class Optimizer {
 public:
  Optimizer() = default;

  /// The parameters to update from now on, each once; the state starts anew. Throws Error for one that has no value
  /// yet.
  void attach(std::vector<Parameter> parameters);
  /// One update of every parameter that has a gradient. With clip_norm or clip_value the gradients themselves are
  /// clipped first, as clip_gradients does. Throws Error, before anything is changed, when there are no parameters, for
  /// a rate of one's own schedule that is negative or not finite, and for gradients to be clipped whose norm is NaN or
  /// infinite. (By value, NaN stays NaN and infinity is cut.)
  void step();
  /// Forgets the gradients.
  void zero_grad();

  /// The rate of the next update.
  double learning_rate() const;
  /// What it is computed from.
  const LearningRate& schedule() const;
  /// A number, or a schedule, in place of what was there. Throws Error unless finite and not negative.
  void set_learning_rate(const LearningRate& rate);
  /// How many updates there have been. Adam's bias correction counts them, for a parameter that joins late as well.
  int64_t iterations() const;
  std::string name() const;
  bool defined() const { return state_ != nullptr; }
  /// What it updates.
  const std::vector<Parameter>& parameters() const;
  /// The same algorithm with no parameters and no state yet.
  Optimizer fresh() const;
  /// What a checkpoint keeps: the number of updates, the learning rate, unless that is a function of one's own, and the
  /// state beside each parameter.
  void visit_state(StateVisitor& v);

 protected:
  Optimizer(std::shared_ptr<detail::Rule> rule, const LearningRate& learning_rate, detail::Clip clip);

 private:
  struct State;
  State& state() const;
  std::shared_ptr<State> state_;
};

}  // namespace optim
}  // namespace mica
