// Meter: the running mean of a loss, and the metrics, over the batches of an epoch.
#pragma once

#include <string>
#include <vector>

#include "mica/nn/callbacks.h"
#include "mica/nn/metrics.h"

namespace mica::nn {

class Meter {
 public:
  Meter(std::vector<metrics::Metric>& metrics, const std::vector<std::string>& names)
      : metrics_(metrics), names_(names) {}

  /// To be called first.
  void reset() {
    loss_ = count_ = 0;
    for (metrics::Metric& m : metrics_) m.reset();
  }

  void update(double loss, const Tensor& prediction, const Tensor& target) {
    const auto n = static_cast<double>(prediction.dim(0));
    loss_ += loss * n;
    count_ += n;
    for (metrics::Metric& m : metrics_) m.update(prediction, target);
  }

  /// `whole`: at the end, when all metrics have a result.
  void write(Logs& logs, bool whole) const {
    static const std::string kLoss = "loss";
    logs.set(kLoss, count_ > 0 ? loss_ / count_ : 0);
    for (size_t i = 0; i < metrics_.size(); ++i)
      if (whole || !metrics_[i].at_end()) logs.set(names_[i], metrics_[i].result());
  }

  void visit_state(StateVisitor& v) {
    v("loss", loss_);
    v("count", count_);
    for (size_t i = 0; i < metrics_.size(); ++i) v(names_[i], metrics_[i]);
  }

 private:
  std::vector<metrics::Metric>& metrics_;
  const std::vector<std::string>& names_;
  double loss_ = 0, count_ = 0;
};

}  // namespace mica::nn
