// Checkpoints.
#include "mica/core/error.h"
#include "mica/nn/callbacks.h"
#include "mica/nn/model.h"
#include "nn/monitor.h"

namespace MICA_EXPORT mica {
namespace callbacks {

namespace {

constexpr std::string_view kEpoch = "{epoch}";

class ModelCheckpointCallback final : public nn::Callback {
 public:
  ModelCheckpointCallback(std::string path, const ModelCheckpointOptions& options)
      : path_(std::move(path)), every_(!options.save_best_only),
        monitor_("model_checkpoint", options.monitor, options.mode, 0) {}

  void on_train_begin(const nn::Progress&) override { monitor_.reset(); }
  void on_epoch_end(const nn::Progress& p) override {
    if (every_ || monitor_.better(p.logs)) p.model.save(path(p.epoch + 1));
  }
  void visit_state(StateVisitor& v) override { v("model_checkpoint", monitor_); }

 private:
  std::string path(int64_t epoch) const {
    std::string path = path_;
    const std::string number = std::to_string(epoch);
    for (size_t at = 0; (at = path.find(kEpoch, at)) != path.npos; at += number.size())
      path.replace(at, kEpoch.size(), number);
    return path;
  }

  std::string path_;
  bool every_;
  Monitor monitor_;
};

std::shared_ptr<nn::Callback> checked(std::string path, const ModelCheckpointOptions& options) {
  check(!path.empty(), "model_checkpoint", "the path is empty");
  for (size_t at = 0; (at = path.find('{', at)) != path.npos; ++at)
    check(path.compare(at, kEpoch.size(), kEpoch) == 0, "model_checkpoint",
          "the path may contain {epoch} alone in braces: ", path);
  return std::make_shared<ModelCheckpointCallback>(std::move(path), options);
}

}  // namespace

ModelCheckpoint::ModelCheckpoint(std::string path, ModelCheckpointOptions options)
    : Handle(checked(std::move(path), options)) {}

}  // namespace callbacks
}  // namespace mica
