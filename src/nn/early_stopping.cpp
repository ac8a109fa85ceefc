// Early stopping.
#include <cmath>

#include "core/counts.h"
#include "mica/core/error.h"
#include "mica/nn/callbacks.h"
#include "mica/nn/model.h"
#include "nn/monitor.h"
#include "nn/visitors.h"

namespace MICA_EXPORT mica {
namespace callbacks {

namespace {

class EarlyStoppingCallback final : public nn::Callback {
 public:
  explicit EarlyStoppingCallback(const EarlyStoppingOptions& options)
      : options_(options), monitor_("early_stopping", options.monitor, options.mode, options.min_delta) {
    monitor_.reset();
  }

  void on_train_begin(const nn::Progress&) override {
    monitor_.reset();
    best_epoch_ = waited_ = 0;
    kept_.clear();
  }

  void on_epoch_end(const nn::Progress& p) override {
    if (monitor_.better(p.logs)) {
      best_epoch_ = p.epoch + 1;
      waited_ = 0;
      if (options_.restore_best) keep(p.model);
    } else if (++waited_ >= options_.patience) {
      p.stop.request_stop();
    }
  }

  void on_train_end(const nn::Progress& p, const nn::History&) override {
    if (kept_.empty()) return;
    size_t i = 0;
    nn::for_tensors(p.model.layer(), [&](const std::string&, Tensor& value) {
      check(i < kept_.size(), "early_stopping", "there are values of another model to be put back");
      value.copy_from(kept_[i++]);
    });
    kept_.clear();
  }

  void visit_state(StateVisitor& v) override {
    v("early_stopping", monitor_);
    v("best_epoch", best_epoch_);
    v("waited", waited_);
    v("kept", kept_);
    check(countable(waited_) && countable(best_epoch_), "early_stopping", "it cannot have waited for ", waited_,
          " epochs since epoch ", best_epoch_);
  }

  double best() const { return monitor_.best(); }
  int64_t best_epoch() const { return best_epoch_; }

 private:
  void keep(nn::Model& model) {
    size_t i = 0;
    nn::for_tensors(model.layer(), [&](const std::string&, Tensor& value) {
      if (i == kept_.size())
        kept_.push_back(value.detach().clone());
      else
        kept_[i].copy_from(value);
      ++i;
    });
  }

  EarlyStoppingOptions options_;
  Monitor monitor_;
  Tensors kept_;
  int64_t best_epoch_ = 0, waited_ = 0;
};

std::shared_ptr<nn::Callback> checked(const EarlyStoppingOptions& options) {
  check(options.patience >= 1, "early_stopping", "patience must be at least 1, got ", options.patience);
  check(std::isfinite(options.min_delta) && options.min_delta >= 0, "early_stopping",
        "min_delta must be finite and not negative, got ", options.min_delta);
  return std::make_shared<EarlyStoppingCallback>(options);
}

}  // namespace

EarlyStopping::EarlyStopping(EarlyStoppingOptions options) : Handle(checked(options)) {}
double EarlyStopping::best() const { return static_cast<const EarlyStoppingCallback&>(*callback_).best(); }
int64_t EarlyStopping::best_epoch() const { return static_cast<const EarlyStoppingCallback&>(*callback_).best_epoch(); }

}  // namespace callbacks
}  // namespace mica
