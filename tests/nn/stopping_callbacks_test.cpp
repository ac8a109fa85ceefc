// Early stopping and checkpoints: what is best, and what becomes of it.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "mica/nn/callbacks.h"
#include "mica/nn/sequential.h"
#include "mica/optim/sgd.h"
#include "nn/helpers.h"
#include "support/error_text.h"
#include "support/temp_dir.h"

using namespace mica;
using namespace mica::test;
using callbacks::EarlyStopping;
using callbacks::ModelCheckpoint;

namespace {

// A metric that says what it is told to, epoch by epoch; the parameter follows it, so that what is kept can be told.
struct Script {
  static constexpr const char* kName = "scripted";
  std::shared_ptr<std::vector<double>> values;
  std::shared_ptr<size_t> at = std::make_shared<size_t>(0);
  void reset() {}
  void update(const Tensor&, const Tensor&) {}
  double result() const { return (*values)[std::min(*at, values->size() - 1)]; }
};

class Advance : public nn::Callback {
 public:
  explicit Advance(std::shared_ptr<size_t> at) : at_(std::move(at)) {}
  void on_train_begin(const nn::Progress&) override { *at_ = 0; }
  void on_epoch_begin(const nn::Progress& p) override {
    *at_ = static_cast<size_t>(p.epoch);
    p.model.parameters()[0].value().fill(static_cast<double>(p.epoch + 1));
  }

 private:
  std::shared_ptr<size_t> at_;
};

// The number that the parameter was given in the epoch whose values the model has at the end, and how many there were.
struct Ran {
  size_t epochs;
  double kept;
  bool stopped;
};

Ran run(std::vector<double> values, const std::vector<std::shared_ptr<nn::Callback>>& callbacks) {
  nn::Sequential model{nn::Input({1}), nn::Dense(1)};
  const Script script{std::make_shared<std::vector<double>>(values)};
  model.compile(
      {.optimizer = optim::SGD({.learning_rate = 0}), .loss = losses::mean_squared_error, .metrics = {script}});
  nn::FitOptions options{.epochs = static_cast<int64_t>(values.size()),
                         .callbacks = {std::make_shared<Advance>(script.at)}};
  options.callbacks.insert(options.callbacks.end(), callbacks.begin(), callbacks.end());
  const auto history = model.fit(ones({2, 1}), ones({2, 1}), options);
  return {history.size(), model.parameters()[0].value().item(), history.stopped};
}

}  // namespace

TEST_CASE("early stopping ends training after so many epochs that were not better, and puts the best one back") {
  EarlyStopping early({.monitor = "scripted", .patience = 2, .mode = callbacks::Mode::min});
  const Ran ran = run({5, 3, 4, 3, 9, 9}, {early});
  CHECK(ran.epochs == 4);
  CHECK(ran.stopped);
  CHECK(ran.kept == 2);
  CHECK(early.best() == 3);
  CHECK(early.best_epoch() == 2);
}

TEST_CASE("early stopping waits anew after each better epoch; with more to be better, more is") {
  EarlyStopping early({.monitor = "scripted", .patience = 2, .mode = callbacks::Mode::max});
  CHECK(run({1, 0, 2, 0, 3, 0, 0, 9}, {early}).epochs == 7);
  CHECK(early.best() == 3);
}

TEST_CASE("better is by more than min_delta, and NaN is never better") {
  EarlyStopping early({.monitor = "scripted", .patience = 2, .min_delta = 0.5, .mode = callbacks::Mode::min});
  CHECK(run({3, 2.75, 2.5, 1}, {early}).epochs == 3);
  CHECK(run({NAN, 5, NAN, NAN, 1}, {early}).epochs == 4);
  CHECK(early.best() == 5);
  CHECK(run({NAN, NAN, 1}, {early}).epochs == 2);
  CHECK(std::isnan(early.best()));
  CHECK(early.best_epoch() == 0);
}

TEST_CASE("the best epoch is put back also where training was not stopped, unless restore_best is off") {
  CHECK(run({3, 1, 2}, {EarlyStopping({.monitor = "scripted", .mode = callbacks::Mode::min})}).kept == 2);
  const Ran ran =
      run({3, 1, 2, 2},
          {EarlyStopping({.monitor = "scripted", .patience = 1, .mode = callbacks::Mode::min, .restore_best = false})});
  CHECK(ran.epochs == 3);
  CHECK(ran.kept == 3);
}

TEST_CASE("options with early stopping in them serve one fit after another") {
  const Task task = line(8);
  nn::Sequential model{nn::Input({2}), nn::Dense(1)};
  model.compile({.optimizer = optim::SGD({.learning_rate = 0}), .loss = losses::mean_squared_error});
  const nn::FitOptions options{.epochs = 9, .callbacks = {EarlyStopping({.monitor = "loss", .patience = 2})}};
  CHECK(model.fit(task.x, task.y, options).size() == 3);
  CHECK(model.fit(task.x, task.y, options).size() == 3);
}

TEST_CASE("what is monitored must be among the logs, and known to be better as more or less") {
  const auto monitored = [](const char* name, callbacks::Mode mode) {
    return error_text([&] { run({1, 2}, {EarlyStopping({.monitor = name, .mode = mode})}); });
  };
  using callbacks::Mode;
  CHECK(monitored("val_loss", Mode::automatic) ==
        "[early_stopping] there is no \"val_loss\" to monitor, but loss, scripted (those of validation need validation "
        "data)");
  CHECK(monitored("acuracy", Mode::max) == "[early_stopping] there is no \"acuracy\" to monitor, but loss, scripted");
  CHECK(monitored("scripted", Mode::automatic) ==
        "[early_stopping] whether more or less of \"scripted\" is better is not known: give .mode = "
        "callbacks::Mode::min or max");
  CHECK(monitored("loss", Mode::automatic) == "no error");
  CHECK(error_text([] { EarlyStopping({.patience = 0}); }) == "[early_stopping] patience must be at least 1, got 0");
  CHECK(error_text([] { EarlyStopping({.min_delta = -1}); }) ==
        "[early_stopping] min_delta must be finite and not negative, got -1");
}

TEST_CASE("automatic knows that less loss and more accuracy is better, in training and validation") {
  const Task task = spiral(40, 2);
  nn::Sequential model{nn::Input({2}), nn::Dense(2, {.activation = softmax})};
  model.compile({.optimizer = optim::SGD({.learning_rate = 0.5}),
                 .loss = losses::sparse_categorical_crossentropy,
                 .metrics = {metrics::accuracy}});
  EarlyStopping loss({.monitor = "val_loss", .patience = 100, .restore_best = false});
  EarlyStopping accuracy({.monitor = "val_accuracy", .patience = 100, .restore_best = false});
  const auto h = model.fit(task.x, task.y, {.epochs = 5, .validation_split = 0.5, .callbacks = {loss, accuracy}});
  const auto losses = h["val_loss"], accuracies = h["val_accuracy"];
  CHECK(loss.best() == *std::min_element(losses.begin(), losses.end()));
  CHECK(accuracy.best() == *std::max_element(accuracies.begin(), accuracies.end()));
}

TEST_CASE("early stopping keeps buffers too") {
  struct Counting : nn::Module<Counting> {
    nn::Buffer calls{zeros({1})};
    nn::Dense dense{1};
    Tensor forward(const Tensor& x, nn::Call& call) const {
      if (call.training()) calls.value().fill(calls.value().item() + 1);
      return dense.forward(x, call);
    }
    void visit(nn::Visitor& v) {
      v("calls", calls);
      v("dense", dense);
    }
  };
  const Counting counting;
  nn::Model model(counting, nn::Input({1}));
  model.compile({.optimizer = optim::SGD({.learning_rate = 0}), .loss = losses::mean_squared_error});
  model.fit(ones({1, 1}), ones({1, 1}),
            {.epochs = 5, .callbacks = {EarlyStopping({.monitor = "loss", .patience = 3})}});
  CHECK(counting.calls.value().item() == 1);  // of the first epoch, the best
}

TEST_CASE("a checkpoint holds the best epoch, and each epoch where that is asked for") {
  TempDir dir;
  const std::string best = dir.file("best.safetensors");
  run({3, 1, 2}, {ModelCheckpoint(best, {.monitor = "scripted", .mode = callbacks::Mode::min})});
  CHECK(nn::Model::load(best).parameters()[0].value().item() == 2);
  run({3, 1, 2}, {ModelCheckpoint(dir.file("{epoch}-of-{epoch}.safetensors"), {.save_best_only = false})});
  CHECK(dir.size() == 4);
  CHECK(nn::Model::load(dir.file("3-of-3.safetensors")).parameters()[0].value().item() == 3);
  run({3, 1, 2},
      {ModelCheckpoint(dir.file("best{epoch}.safetensors"), {.monitor = "scripted", .mode = callbacks::Mode::max})});
  CHECK(dir.size() == 5);
  CHECK(std::filesystem::exists(dir.file("best1.safetensors")));
}

TEST_CASE("a checkpoint refuses paths with other names in braces, and what it cannot monitor") {
  CHECK(error_text([] { ModelCheckpoint("a{epoch:02d}.safetensors"); }) ==
        "[model_checkpoint] the path may contain {epoch} alone in braces: a{epoch:02d}.safetensors");
  CHECK(error_text([] { ModelCheckpoint(""); }) == "[model_checkpoint] the path is empty");
  CHECK(error_text([] { run({1}, {ModelCheckpoint("unused.safetensors")}); }) ==
        "[model_checkpoint] there is no \"val_loss\" to monitor, but loss, scripted (those of validation need "
        "validation data)");
}
