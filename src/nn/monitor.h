// Monitor: the best epoch so far, by one of the logs.
#pragma once

#include <string>

#include "mica/nn/callbacks.h"

namespace mica::callbacks {

class Monitor {
 public:
  /// `op` must outlive this.
  Monitor(const char* op, std::string name, Mode mode, double min_delta)
      : op_(op), name_(std::move(name)), mode_(mode), min_delta_(min_delta) {}

  void reset();
  /// Whether this epoch is better than all before it; it is the best then. Throws Error when the logs lack the name.
  bool better(const nn::Logs& logs);
  double best() const { return best_; }
  void visit_state(StateVisitor& v) { v("best", best_), v("any", any_); }

 private:
  bool more_is_better() const;

  const char* op_;
  std::string name_;
  Mode mode_;
  double min_delta_;
  double best_ = 0;
  bool any_ = false;
};

}  // namespace mica::callbacks
