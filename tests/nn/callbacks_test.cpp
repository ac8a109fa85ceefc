// Callbacks, logs and stop tokens: what fit tells, when, and how it ends.
#include "mica/nn/callbacks.h"

#include <doctest/doctest.h>

#include <functional>
#include <stdexcept>

#include "mica/nn/sequential.h"
#include "mica/optim/sgd.h"
#include "nn/helpers.h"
#include "support/error_text.h"

using namespace mica;
using namespace mica::test;

namespace {

using Lines = std::vector<std::string>;

// Writes down what it is told.
class Recorder : public nn::Callback {
 public:
  Lines lines;

 private:
  static std::string at(const nn::Progress& p) {
    std::string names;
    for (const auto& [name, value] : p.logs) names += " " + name;
    return " " + std::to_string(p.epoch) + "/" + std::to_string(p.epochs) + " batch " + std::to_string(p.batch) + "/" +
           std::to_string(p.batches) + " examples " + std::to_string(p.examples) + "/" + std::to_string(p.total) + ":" +
           names;
  }
  void on_train_begin(const nn::Progress& p) override { lines.push_back("train begin " + std::to_string(p.epochs)); }
  void on_epoch_begin(const nn::Progress& p) override { lines.push_back("epoch begin" + at(p)); }
  void on_batch_end(const nn::Progress& p) override { lines.push_back("batch end" + at(p)); }
  void on_epoch_end(const nn::Progress& p) override { lines.push_back("epoch end" + at(p)); }
  void on_train_end(const nn::Progress&, const nn::History& h) override {
    lines.push_back("train end after " + std::to_string(h.size()) + (h.stopped ? ", stopped" : ""));
  }
};

// Calls a function after each batch and each epoch.
class Each : public nn::Callback {
 public:
  explicit Each(std::function<void(const nn::Progress&)> batch, std::function<void(const nn::Progress&)> epoch = {})
      : batch_(std::move(batch)), epoch_(std::move(epoch)) {}
  void on_batch_end(const nn::Progress& p) override {
    if (batch_) batch_(p);
  }
  void on_epoch_end(const nn::Progress& p) override {
    if (epoch_) epoch_(p);
  }

 private:
  std::function<void(const nn::Progress&)> batch_, epoch_;
};

nn::Sequential compiled() {
  nn::Sequential model{nn::Input({2}), nn::Dense(1)};
  model.compile(
      {.optimizer = optim::SGD(), .loss = losses::mean_squared_error, .metrics = {metrics::mean_absolute_error}});
  return model;
}

}  // namespace

TEST_CASE("callbacks: told of the start, of each epoch and batch with the logs so far, and of the end") {
  const auto recorder = std::make_shared<Recorder>();
  const Task task = line(5);
  compiled().fit(task.x, task.y,
                 {.epochs = 2, .batch_size = 2, .validation_data = {task.x, task.y}, .callbacks = {recorder}});
  const std::string logs = " loss mean_absolute_error", all = logs + " val_loss val_mean_absolute_error";
  CHECK(recorder->lines == Lines{
                               "train begin 2",
                               "epoch begin 0/2 batch 0/3 examples 0/5:",
                               "batch end 0/2 batch 1/3 examples 2/5:" + logs,
                               "batch end 0/2 batch 2/3 examples 4/5:" + logs,
                               "batch end 0/2 batch 3/3 examples 5/5:" + logs,
                               "epoch end 0/2 batch 3/3 examples 5/5:" + all,
                               "epoch begin 1/2 batch 0/3 examples 0/5:",
                               "batch end 1/2 batch 1/3 examples 2/5:" + logs,
                               "batch end 1/2 batch 2/3 examples 4/5:" + logs,
                               "batch end 1/2 batch 3/3 examples 5/5:" + logs,
                               "epoch end 1/2 batch 3/3 examples 5/5:" + all,
                               "train end after 2",
                           });
}

TEST_CASE("callbacks: several are told in their order") {
  Lines order;
  const auto first = std::make_shared<Each>([&](const nn::Progress&) { order.push_back("first"); });
  const auto second = std::make_shared<Each>([&](const nn::Progress&) { order.push_back("second"); });
  compiled().fit(zeros({2, 2}), zeros({2, 1}), {.callbacks = {first, second}});
  CHECK(order == Lines{"first", "second"});
}

TEST_CASE("callbacks: seconds begin anew with each epoch, and only grow in it") {
  double last = 0;
  int64_t epoch = 0;
  const auto each = std::make_shared<Each>([&](const nn::Progress& p) {
    if (p.epoch != epoch) last = 0;
    epoch = p.epoch;
    CHECK(p.seconds >= last);
    last = p.seconds;
  });
  compiled().fit(zeros({8, 2}), zeros({8, 1}), {.epochs = 2, .batch_size = 1, .callbacks = {each}});
  CHECK(epoch == 1);
}

TEST_CASE("callbacks: an exception ends fit, and the model can be used again") {
  nn::Sequential model = compiled();
  const auto throws = std::make_shared<Each>([](const nn::Progress& p) {
    if (p.batch == 2) throw std::runtime_error("enough");
  });
  CHECK_THROWS_WITH(model.fit(zeros({80, 2}), zeros({80, 1}), {.batch_size = 1, .callbacks = {throws}}), "enough");
  CHECK(model.fit(zeros({4, 2}), zeros({4, 1})).size() == 1);
}

TEST_CASE("stop token: fit ends after the current batch; an epoch that is not whole is not in the history") {
  nn::StopToken stop;
  const auto recorder = std::make_shared<Recorder>();
  const auto asks = std::make_shared<Each>([&](const nn::Progress& p) {
    if (p.epoch == 1 && p.batch == 2) stop.request_stop();
  });
  const auto history = compiled().fit(zeros({6, 2}), zeros({6, 1}),
                                      {.epochs = 5, .batch_size = 2, .callbacks = {asks, recorder}, .stop = stop});
  CHECK(history.stopped);
  CHECK(history.size() == 1);
  CHECK(recorder->lines.back() == "train end after 1, stopped");
  CHECK(contains(recorder->lines[recorder->lines.size() - 2], "batch end 1/5 batch 2/3"));
}

TEST_CASE("stop token: asked for at the end of an epoch, no other begins") {
  nn::StopToken stop;
  int64_t batches = 0;
  const auto early = std::make_shared<Each>([&](const nn::Progress&) { ++batches; },
                                            [&](const nn::Progress& p) {
                                              if (p.epoch == 1) stop.request_stop();
                                            });
  const auto history =
      compiled().fit(zeros({6, 2}), zeros({6, 1}), {.epochs = 5, .batch_size = 2, .callbacks = {early}, .stop = stop});
  CHECK(history.stopped);
  CHECK(history.size() == 2);
  CHECK(batches == 6);
}

TEST_CASE("stop token: asked for in the last batch of all, nothing was cut short") {
  nn::StopToken stop;
  const auto last = std::make_shared<Each>([&](const nn::Progress& p) {
    if (p.batch == 3) stop.request_stop();
  });
  const auto history =
      compiled().fit(zeros({6, 2}), zeros({6, 1}), {.batch_size = 2, .callbacks = {last}, .stop = stop});
  CHECK_FALSE(history.stopped);
  CHECK(history.size() == 1);
}

TEST_CASE("stop token: copies share the request, and before fit it lets nothing begin") {
  nn::StopToken stop;
  nn::StopToken copy = stop;
  CHECK_FALSE(stop.stop_requested());
  copy.request_stop();
  CHECK(stop.stop_requested());
  nn::Sequential model = compiled();
  const Tensors before = snapshot(model.parameters());
  CHECK(model.fit(ones({6, 2}), zeros({6, 1}), {.stop = stop}).stopped);
  CHECK(same_bits(before, snapshot(model.parameters())));
}

TEST_CASE("logs: numbers by name, in order") {
  nn::Logs logs;
  CHECK(logs.size() == 0);
  logs.set("loss", 1);
  logs.set("accuracy", 0.5);
  logs.set("loss", 2);
  CHECK(logs.size() == 2);
  CHECK(logs["loss"] == 2);
  CHECK(logs.begin()->first == "loss");
  CHECK(logs.contains("accuracy"));
  CHECK_FALSE(logs.contains("val_loss"));
  CHECK(error_text([&] { logs["val_loss"]; }) == "[logs] there is no \"val_loss\"");
}

TEST_CASE("history: one number an epoch by name") {
  const Task task = line(32);
  const auto history = compiled().fit(task.x, task.y, {.epochs = 3});
  CHECK(history.size() == 3);
  CHECK(history["loss"].size() == 3);
  CHECK(history["loss"][2] < history["loss"][0]);
  CHECK(history.epochs()[1]["loss"] == history["loss"][1]);
  CHECK(error_text([&] { history["val_loss"]; }) == "[logs] there is no \"val_loss\"");
}
