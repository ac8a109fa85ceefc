// Training that goes on from a checkpoint: the same bits as if it had never been stopped.
#include <doctest/doctest.h>

#include <filesystem>

#include "mica/autograd/tape.h"
#include "mica/core/threads.h"
#include "mica/data/batches.h"
#include "mica/io/checkpoint.h"
#include "mica/nn/augment.h"
#include "mica/nn/dropout.h"
#include "mica/nn/embedding.h"
#include "mica/nn/functional.h"
#include "mica/nn/merge.h"
#include "mica/nn/norm.h"
#include "mica/nn/recurrent.h"
#include "mica/nn/reshape.h"
#include "mica/nn/sequential.h"
#include "mica/ops/compare.h"
#include "mica/ops/reduce.h"
#include "mica/optim/adam.h"
#include "mica/optim/adamw.h"
#include "mica/optim/sgd.h"
#include "nn/helpers.h"
#include "support/error_text.h"
#include "support/temp_dir.h"

using namespace mica;
using namespace mica::test;

namespace {

const Task& task() {
  static const Task task = spiral(90, 3);
  return task;
}

nn::Sequential make_model(std::vector<metrics::Metric> metrics = {metrics::accuracy, metrics::f1},
                          const optim::LearningRate& rate = optim::cosine_decay(0.02, 40)) {
  nn::Sequential model{nn::Input({2}), nn::Dense(16, {.activation = relu}), nn::BatchNorm(), nn::Dropout(0.2),
                       nn::Dense(3)};
  model.compile({.optimizer = optim::Adam({.learning_rate = rate}),
                 .loss = losses::SparseCategoricalCrossentropy{.from_logits = true},
                 .metrics = std::move(metrics)});
  return model;
}

// Stops the training as a kill would: from outside, after a number of batches.
struct Killed {};
class KillAfter : public nn::Callback {
 public:
  explicit KillAfter(int64_t batches) : left_(batches) {}
  void on_batch_end(const nn::Progress&) override {
    if (left_-- == 0) throw Killed();
  }

 private:
  int64_t left_;
};

nn::FitOptions options(const std::string& folder, int64_t every = 0) {
  return {.epochs = 4, .batch_size = 16, .validation_split = 0.2, .checkpoint = {.folder = folder, .batches = every}};
}

// The weights, buffers and optimizer of a model, as its training ended.
Tensors bits(const std::string& folder) {
  Tensors all;
  const auto last = io::Checkpoints(folder).last();
  for (const auto& [name, tensor] : last.value().tensors)
    if (!name.starts_with("callbacks")) all.push_back(tensor);
  return all;
}

std::vector<double> numbers(const nn::History& history) {
  std::vector<double> all;
  for (const nn::Logs& logs : history.epochs())
    for (const auto& [name, value] : logs) all.push_back(value);
  return all;
}

}  // namespace

// A training with something of its own that must go on.
struct Setting {
  const char* name;
  nn::History (*fit)(nn::FitOptions options);
};

nn::History fit_small(nn::FitOptions options) { return make_model().fit(task().x, task().y, std::move(options)); }

// Weights of examples, validation data, one order; momentum, a rate of the program's own, and a frozen layer.
nn::History fit_weighted(nn::FitOptions options) {
  const ThreadScope threads(2);
  nn::Sequential model{nn::Input({2}), nn::Dense(16, {.activation = tanh}), nn::Dense(3)};
  model.parameter("dense.bias").set_trainable(false);
  model.compile({.optimizer = optim::SGD(
                     {.learning_rate = [](int64_t i) { return 0.1 / static_cast<double>(1 + i); }, .momentum = 0.9}),
                 .loss = losses::SparseCategoricalCrossentropy{.from_logits = true},
                 .metrics = {metrics::top_k_accuracy}});
  options.validation_split = 0;
  options.validation_data = {task().x.slice(0, 9), task().y.slice(0, 9)};
  options.shuffle = false;
  options.sample_weights = random_uniform({90}, 0, 2, {.stream = 5});
  return model.fit(task().x, task().y, std::move(options));
}

// Several inputs, augmented images among them; the second fit of its model.
nn::History fit_images(nn::FitOptions options) {
  const nn::Symbol image = nn::Input({5, 5, 1}), kind = nn::Input(Shape{}, int64);
  const nn::Symbol moved = nn::RandomTranslation(1)(nn::RandomFlip()(image));
  const nn::Symbol both = nn::Concatenate()({nn::Flatten()(moved), nn::Embedding(3, 2)(kind)});
  nn::Functional model({image, kind}, nn::Dense(1, {.activation = sigmoid})(both));
  model.compile({.optimizer = optim::AdamW(), .loss = losses::binary_crossentropy, .metrics = {metrics::auc}});
  const Tensor x = random_uniform({50, 5, 5, 1}, -1, 1, {.stream = 6}), y = greater(sum(x, {1, 2}), 0.0).to(float32);
  const data::Columns columns{x, random_bernoulli({50}, 0.5, {.stream = 7}).to(int64)};
  model.fit(columns, y, {.batch_size = 25});
  return model.fit(columns, y, std::move(options));
}

// A state that goes from batch to batch, and random numbers within the steps.
nn::History fit_stateful(nn::FitOptions options) {
  nn::Sequential model{nn::Input({4, 2}), nn::LSTM(5, {.stateful = true, .recurrent_dropout = 0.3}), nn::Dense(1)};
  model.compile({.optimizer = optim::Adam(), .loss = losses::mean_squared_error});
  const Tensor x = random_uniform({96, 4, 2}, -1, 1, {.stream = 8});
  options.validation_split = 0;
  options.shuffle = false;
  return model.fit(x, mean(x, {1, 2}).reshape({96, 1}), std::move(options));
}

TEST_CASE("resume: a training that is killed after any batch goes on to the same weights, optimizer and history") {
  for (const Setting& setting :
       {Setting{"small", fit_small}, {"weighted", fit_weighted}, {"images", fit_images}, {"stateful", fit_stateful}}) {
    CAPTURE(setting.name);
    const auto fit = setting.fit;
    const TempDir dir;
    const nn::History whole = fit(options(dir.file("whole")));
    const Tensors expected = bits(dir.file("whole"));
    CHECK(numbers(whole) == numbers(fit(options(""))));  // checkpoints change nothing
    for (const int64_t every : {0, 1, 3})
      for (int64_t kill = 0; kill < 12; kill += 3) {
        INFO("a checkpoint every " << every << " batches, killed after " << kill);
        const TempDir own;
        nn::FitOptions killed = options(own.file("run"), every);
        killed.callbacks = {std::make_shared<KillAfter>(kill)};
        CHECK_THROWS_AS(fit(killed), Killed);
        CHECK(numbers(fit(options(own.file("run"), every))) == numbers(whole));
        CHECK(same_bits(bits(own.file("run")), expected));
      }
  }
}

TEST_CASE("resume: layers that a callback unfroze stay so, and validation may begin on the way") {
  const TempDir dir;
  class Unfreeze : public nn::Callback {
   public:
    void on_epoch_begin(const nn::Progress& p) override {
      if (p.epoch == 1) p.model.set_trainable(true);
    }
  };
  const auto fit = [&](const std::string& run, int64_t kill) {
    nn::FitOptions o = options(dir.file(run));
    o.callbacks = {std::make_shared<Unfreeze>()};
    if (kill > 0) o.callbacks.push_back(std::make_shared<KillAfter>(kill));
    nn::Sequential model = make_model();
    model.parameter("dense.kernel").set_trainable(false);
    return model.fit(task().x, task().y, o);
  };
  fit("whole", 0);
  CHECK_THROWS_AS(fit("run", 13), Killed);
  fit("run", 0);
  CHECK(same_bits(bits(dir.file("run")), bits(dir.file("whole"))));

  nn::FitOptions plain{.epochs = 2, .checkpoint = {.folder = dir.file("late")}}, validated = plain;
  validated.epochs = 4;
  validated.validation_data = {task().x, task().y};
  make_model().fit(task().x, task().y, plain);
  const nn::History late = make_model().fit(task().x, task().y, validated);
  REQUIRE(late.size() == 4);
  CHECK_FALSE(late.epochs()[1].contains("val_loss"));
  CHECK(late.epochs()[2]["val_loss"] > 0);
  CHECK(numbers(make_model().fit(task().x, task().y, plain)) == numbers(late));
}

TEST_CASE("resume: parameters are called as in the model that is trained, whatever a part of it was saved as") {
  const TempDir dir;
  nn::Sequential base{nn::Input({2}), nn::Dense(4)};
  nn::Sequential model{nn::Input({2}), base, nn::Dense(3)};
  base.save(dir.file("base.safetensors"));  // in which the parameter is "dense.kernel", as the head's
  model.compile({.optimizer = optim::SGD(), .loss = losses::SparseCategoricalCrossentropy{.from_logits = true}});
  CHECK(model.fit(task().x, task().y, options(dir.file("run"))).size() == 4);
}

TEST_CASE("resume: a loop written by hand goes on from its own checkpoints") {
  struct Run {
    nn::Model& model;
    optim::Optimizer& optimizer;
    int64_t epoch = 0;
    void visit_state(StateVisitor& v) { v("model", model), v("optimizer", optimizer), v("epoch", epoch); }
  };
  const auto train = [](const std::string& folder, int64_t epochs) {
    nn::Sequential model = make_model();
    optim::Optimizer optimizer = optim::SGD(model.parameters(), {.learning_rate = 0.1, .momentum = 0.9});
    io::Checkpoints checkpoints(folder);
    Run run{model, optimizer};
    if (const auto last = checkpoints.last()) io::set_state(run, last->tensors);
    while (run.epoch < epochs) {
      for (auto [x, y] : data::batches(task().x, task().y, {.batch_size = 16, .shuffle = true, .epoch = run.epoch})) {
        Tape tape;
        tape.backward(losses::SparseCategoricalCrossentropy{.from_logits = true}(model(x), y));
        optimizer.step();
        optimizer.zero_grad();
      }
      ++run.epoch;
      checkpoints.save(run.epoch, io::state_tensors(run));
    }
    return snapshot(model.parameters());
  };
  const TempDir dir;
  train(dir.file("run"), 2);
  CHECK(same_bits(train(dir.file("run"), 5), train(dir.file("whole"), 5)));
}

TEST_CASE("fit: one batch of everything, however large the batch size") {
  nn::Sequential model = make_model();
  const nn::History history = model.fit(task().x, task().y, {.batch_size = INT64_MAX});
  CHECK(history["loss"][0] > 0.1);
  CHECK(model.optimizer().iterations() == 1);
}

TEST_CASE("resume: a training that has ended is returned at once, and more epochs add to it") {
  const TempDir dir;
  nn::FitOptions six = options(dir.file("six"));
  six.epochs = 6;
  const nn::History expected = make_model().fit(task().x, task().y, six);
  make_model().fit(task().x, task().y, options(dir.file("run")));
  nn::Sequential model = make_model();
  nn::FitOptions again = options(dir.file("run"));
  again.callbacks = {std::make_shared<KillAfter>(0)};  // which no batch wakes
  CHECK(model.fit(task().x, task().y, again).size() == 4);
  six.checkpoint.folder = dir.file("run");
  CHECK(numbers(make_model().fit(task().x, task().y, six)) == numbers(expected));
  CHECK(same_bits(bits(dir.file("run")), bits(dir.file("six"))));
}

TEST_CASE("resume: what a person stopped goes on; what a callback stopped has ended") {
  const TempDir dir;
  const nn::History whole = make_model().fit(task().x, task().y, options(""));
  {
    nn::FitOptions stopped = options(dir.file("person"), 100);  // which fit never reaches: it is the stop that saves
    class Stop : public nn::Callback {
     public:
      explicit Stop(nn::StopToken token) : token_(std::move(token)) {}
      void on_batch_end(const nn::Progress& p) override {
        if (p.epoch == 1 && p.batch == 2) token_.request_stop();
      }

     private:
      nn::StopToken token_;
    };
    stopped.callbacks = {std::make_shared<Stop>(stopped.stop)};
    CHECK(make_model().fit(task().x, task().y, stopped).stopped);
    CHECK(io::Checkpoints(dir.file("person")).last()->number == 5 + 2);
    const nn::History history = make_model().fit(task().x, task().y, options(dir.file("person")));
    CHECK(!history.stopped);
    CHECK(numbers(history) == numbers(whole));
  }
  for (int run = 0; run < 2; ++run) {
    nn::FitOptions early = options(dir.file("early"));
    const callbacks::EarlyStopping stopping({.monitor = "loss", .patience = 1, .min_delta = 100});
    early.callbacks = {stopping};
    nn::Sequential model = make_model();
    const nn::History history = model.fit(task().x, task().y, early);
    CHECK(history.stopped);
    CHECK(history.size() == 2);
    CHECK(stopping.best_epoch() == 1);
    static Tensors first;
    if (run == 0) first = snapshot(model.parameters());
    CHECK(same_bits(snapshot(model.parameters()), first));  // the best epoch's
  }
}

TEST_CASE("resume: callbacks remember what they have seen") {
  const TempDir dir;
  const auto fit = [&](const std::string& run, std::vector<std::shared_ptr<nn::Callback>> more) {
    nn::FitOptions o = options(dir.file(run), 1);
    o.epochs = 8;
    const callbacks::EarlyStopping stopping({.patience = 2});
    o.callbacks = {callbacks::CSVLogger(dir.file(run + ".csv")), stopping,
                   callbacks::ModelCheckpoint(dir.file(run + ".safetensors"))};
    o.callbacks.insert(o.callbacks.end(), more.begin(), more.end());
    nn::Sequential model = make_model();
    const nn::History history = model.fit(task().x, task().y, o);
    return std::make_tuple(numbers(history), snapshot(model.parameters()), stopping.best(), stopping.best_epoch());
  };
  const auto [history, weights, best, best_epoch] = fit("whole", {});
  for (const int64_t kill : {7, 4}) CHECK_THROWS_AS(fit("run", {std::make_shared<KillAfter>(kill)}), Killed);
  const auto [history2, weights2, best2, best_epoch2] = fit("run", {});
  CHECK(history2 == history);
  CHECK(same_bits(weights2, weights));
  CHECK(best2 == best);
  CHECK(best_epoch2 == best_epoch);
  CHECK(read_file(dir.file("run.csv")) == read_file(dir.file("whole.csv")));
  CHECK(read_file(dir.file("run.safetensors")) == read_file(dir.file("whole.safetensors")));
}

TEST_CASE("resume: the learning rate goes on as it was, unless the program gives another") {
  const TempDir dir;
  class Halve : public nn::Callback {
   public:
    void on_epoch_end(const nn::Progress& p) override {
      if (p.epoch == 0) optim::Optimizer(p.model.optimizer()).set_learning_rate(0.001);
    }
  };
  nn::FitOptions one = options(dir.file("run"));
  one.epochs = 1;
  one.callbacks = {std::make_shared<Halve>()};
  make_model().fit(task().x, task().y, one);
  nn::Sequential same = make_model(), other = make_model({metrics::accuracy, metrics::f1}, 0.5);
  same.fit(task().x, task().y, one);
  CHECK(same.optimizer().learning_rate() == 0.001);
  other.fit(task().x, task().y, one);
  CHECK(other.optimizer().learning_rate() == 0.5);
}

TEST_CASE(
    "resume: a metric that does not say what it has gathered is refused within an epoch, and serves between epochs") {
  struct Mute {
    std::string name() const { return "mute"; }
    void reset() {}
    void update(const Tensor&, const Tensor&) {}
    double result() const { return 1; }
  };
  const TempDir dir;
  CHECK(error_text([&] { make_model({Mute{}}).fit(task().x, task().y, options(dir.file("a"), 2)); }) ==
        "[fit] checkpoints within an epoch need the state of the metric \"mute\": give it visit_state(), or leave "
        "checkpoint.batches 0");
  make_model({Mute{}}).fit(task().x, task().y, options(dir.file("a")));
  CHECK(make_model({Mute{}}).fit(task().x, task().y, options(dir.file("a"))).size() == 4);
}

TEST_CASE("resume: a checkpoint of another training is refused, and nothing is changed") {
  const TempDir dir;
  make_model().fit(task().x, task().y, options(dir.file("run")));
  const std::string path = dir.file("run") + "/checkpoint-000000000020.safetensors";
  const auto refused = [&](nn::Model model, const nn::FitOptions& o, const Task& data = task()) {
    const Tensors before = snapshot(model.parameters());
    const std::string text = error_text<FileError>([&] { model.fit(data.x, data.y, o); });
    CHECK(same_bits(snapshot(model.parameters()), before));
    CHECK(text.starts_with("[fit] " + path + ": "));
    return text.substr(std::min(text.size(), path.size() + 8));
  };
  const nn::FitOptions good = options(dir.file("run"));
  const auto with = [&](auto change) {
    nn::FitOptions o = good;
    change(o);
    return o;
  };
  CHECK(refused(make_model(), with([](auto& o) { o.batch_size = 17; })) ==
        "[checkpoint] it is of another training, whose batch_size was 16, not 17");
  CHECK(refused(make_model(), with([](auto& o) { o.seed += 1; })) ==
        "[checkpoint] it is of another training, whose seed was " + std::to_string(seed()) + ", not " +
            std::to_string(seed() + 1));
  CHECK(refused(make_model(), with([](auto& o) { o.shuffle = false; })) ==
        "[checkpoint] it is of another training, whose shuffle was 1, not 0");
  CHECK(refused(make_model({metrics::accuracy}), good) ==
        "[checkpoint] it is of another training, whose metrics was accuracy, f1, not accuracy");
  CHECK(refused(make_model(), good, {task().x.slice(0, 80), task().y.slice(0, 80)}) ==
        "[checkpoint] it is of another training, whose number of examples was 72, not 64");
  nn::Sequential other{nn::Input({2}), nn::Dense(16), nn::Dense(3)};
  other.compile({.optimizer = optim::SGD(), .loss = losses::SparseCategoricalCrossentropy{.from_logits = true}});
  CHECK(refused(other, good) == "[checkpoint] it is of another training, whose optimizer was adam, not sgd");
  nn::Sequential smaller{nn::Input({2}), nn::Dense(16), nn::BatchNorm(), nn::Dropout(0.2),
                         nn::Dense(3, {.use_bias = false})};
  smaller.compile({.optimizer = optim::Adam(),
                   .loss = losses::SparseCategoricalCrossentropy{.from_logits = true},
                   .metrics = {metrics::accuracy, metrics::f1}});
  CHECK(refused(smaller, good) == "[set_state] \"model.trainable\" must have shape [5], got [6]");
  nn::Sequential twice{nn::Input({2}),   nn::Dense(16, {.activation = relu}),
                       nn::BatchNorm(),  nn::Dropout(0.2),
                       nn::Dropout(0.2), nn::Dense(3)};
  twice.compile({.optimizer = optim::Adam(),
                 .loss = losses::SparseCategoricalCrossentropy{.from_logits = true},
                 .metrics = {metrics::accuracy, metrics::f1}});
  CHECK(refused(twice, good) == "[set_state] \"model.streams\" must have shape [2], got [1]");
  const callbacks::EarlyStopping stopping;
  CHECK(refused(make_model(), with([&](auto& o) { o.callbacks = {stopping}; })) ==
        "[set_state] there is no \"callbacks.0.early_stopping.best\"");
  CHECK(error_text([&] { make_model().fit(task().x, task().y, options(dir.file("b"), -1)); }) ==
        "[fit] checkpoint.batches must not be negative, got -1");
}
