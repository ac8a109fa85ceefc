// Models: compile, fit, evaluate, predict. Saving is in saved_model.cpp, the table in summary.cpp.
#include "mica/nn/model.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <optional>

#include "core/tensor_access.h"
#include "mica/autograd/tape.h"
#include "mica/core/threads.h"
#include "mica/data/batches.h"
#include "nn/model_state.h"
#include "nn/targets.h"

namespace MICA_EXPORT mica {
namespace nn {

Model::Model(Layer layer) : state_(std::make_shared<State>()) {
  check(layer.defined(), "model", "the layer is empty");
  state_->layer = std::move(layer);
}

Model::Model(Layer layer, Input input) : Model(std::move(layer)) { build(input); }

void Model::build(const Input& input, uint64_t seed) {
  nn::build(state_->layer, input, seed);
  state_->input = input;
  state_->built = true;
  if (state_->optimizer.defined()) state_->optimizer.attach(parameters());
}

bool Model::built() const { return state_->built; }
Layer& Model::layer() const { return state_->layer; }

const Input& Model::input() const {
  check(state_->input.has_value(), "model", "the model has no input yet: give it an Input, or build it");
  return *state_->input;
}

void Model::compile(CompileOptions options) {
  check(options.optimizer.defined(), "compile", "an optimizer is needed: .optimizer = optim::Adam()");
  check(options.loss.defined(), "compile", "a loss is needed: .loss = losses::mean_squared_error");
  const std::vector<Parameter>& others = options.optimizer.parameters();
  check(others.empty() || others == parameters(), "compile",
        "the optimizer updates other parameters already: give each model one of its own (fresh() copies the settings)");
  std::vector<std::string> names;
  for (const metrics::Metric& m : options.metrics) {
    check(m.name() != "loss" && std::find(names.begin(), names.end(), m.name()) == names.end(), "compile",
          "the name \"", m.name(), "\" is taken: metrics must have different names");
    names.push_back(m.name());
  }
  state_->optimizer = options.optimizer;
  state_->loss = options.loss;
  state_->metrics = options.metrics;
  state_->metric_names = std::move(names);
  if (state_->built) state_->optimizer.attach(parameters());
}

Tensor Model::operator()(const Tensor& x) const {
  CallScope scope(state_->step);
  return forward(x, scope.call());
}

Tensor Model::forward(const Tensor& x, Call& call) const { return state_->layer.forward(x, call); }

void Model::visit(Visitor& v) {
  if (v.clones()) {
    const auto own = std::make_shared<State>();
    own->layer = state_->layer.copy();
    own->input = state_->input;
    own->built = state_->built;
    own->step = state_->step.load(std::memory_order_relaxed);
    own->epochs = state_->epochs;
    state_ = own;
  }
  state_->layer.visit(v);
}

std::vector<Parameter> Model::parameters() const { return nn::parameters(state_->layer); }

Parameter Model::parameter(const std::string& name) const {
  for (const Parameter& p : parameters())
    if (p.name() == name) return p;
  fail("model", "there is no parameter \"", name, "\"");
}

void Model::set_trainable(bool trainable) {
  for (const Parameter& p : parameters()) p.set_trainable(trainable);
}

namespace {
class Mover final : public Visitor {
 public:
  explicit Mover(Device device) : device_(device) {}

 private:
  void buffer(const char*, Buffer& b) override {
    if (b.value().defined()) b.value() = b.value().to(device_);
  }
  Device device_;
};
}  // namespace

void Model::to(Device device) {
  check(!state_->optimizer.defined(), "to", "the model is compiled: move it before, since the optimizer's state stays");
  for (const Parameter& p : parameters()) {
    p.zero_gradient();
    if (p.defined()) p.value() = p.value().to(device);
  }
  Mover mover(device);
  state_->layer.visit(mover);
  pack(parameters());
}

namespace {

// The examples must be what the model was built for.
void check_examples(const char* op, const Input& input, const data::Column& x) {
  check(x.defined() && x.values().rank() >= 1, op, "the inputs must have a first axis of examples");
  check(x.example() == input.shape && x.dtype() == input.dtype, op, "the model takes examples of ", input.shape, " ",
        input.dtype, ", got ", x.example(), " ", x.dtype());
}

// A running mean of the loss, and the metrics.
class Meter {
 public:
  Meter(std::vector<metrics::Metric>& metrics, const std::vector<std::string>& names)
      : metrics_(metrics), names_(names) {
    for (metrics::Metric& m : metrics_) m.reset();
  }

  void update(const Tensor& loss, const Tensor& prediction, const Tensor& target) {
    const auto n = static_cast<double>(prediction.dim(0));
    loss_ += loss.item() * n;
    count_ += n;
    for (metrics::Metric& m : metrics_) m.update(prediction, target);
  }

  void write(Logs& logs) const {
    static const std::string kLoss = "loss";
    logs.set(kLoss, count_ > 0 ? loss_ / count_ : 0);
    for (size_t i = 0; i < metrics_.size(); ++i) logs.set(names_[i], metrics_[i].result());
  }

 private:
  std::vector<metrics::Metric>& metrics_;
  const std::vector<std::string>& names_;
  double loss_ = 0, count_ = 0;
};

}  // namespace

History Model::fit(const data::Column& x, const data::Column& y, FitOptions options) {
  State& s = *state_;
  check(s.loss.defined(), "fit", "the model is not compiled: call compile() first");
  check(options.epochs >= 0, "fit", "epochs must not be negative, got ", options.epochs);
  check(options.batch_size >= 1, "fit", "the batch size must be at least 1, got ", options.batch_size);
  check(options.validation_split >= 0 && options.validation_split < 1, "fit",
        "validation_split must be in [0, 1), got ", options.validation_split);
  check(x.defined() && y.defined() && x.size() == y.size(), "fit",
        "inputs and targets must be equal in number: ", x.size(), " and ", y.size());
  check(x.size() > 0, "fit", "there are no examples");
  const Input input = s.input ? *s.input : Input{x.example(), x.dtype()};
  check_examples("fit", input, x);

  if (options.sample_weights.defined()) {
    const Tensor& w = options.sample_weights;
    check(w.rank() >= 1 && w.dim(0) == x.size(), "fit", "sample_weights must have one weight for each of the ",
          x.size(), " examples, got shape ", w.shape());
  }
  for (const double w : options.class_weights)
    check(std::isfinite(w) && w >= 0, "fit", "class_weights must be finite and not negative, got ", w);

  data::Column train_x = x, train_y = y;
  data::Dataset validation = options.validation_data;
  if (!validation.images.defined() && options.validation_split > 0) {
    const auto kept = static_cast<int64_t>(static_cast<double>(x.size()) * (1 - options.validation_split));
    check(kept > 0, "fit", "validation_split ", options.validation_split, " of ", x.size(),
          " examples leaves none to train on");
    train_x = x.slice(0, kept);
    train_y = y.slice(0, kept);
    validation = {x.slice(kept, x.size()), y.slice(kept, y.size())};
  }
  if (validation.images.defined()) {
    check_examples("fit", input, validation.images);
    check(validation.labels.defined() && validation.labels.size() == validation.size(), "fit",
          "inputs and targets to validate with must be equal in number: ", validation.size(), " and ",
          validation.labels.size());
  }
  if (!s.built) build(input);
  const std::vector<Parameter> all = parameters();
  check(std::any_of(all.begin(), all.end(), [](const Parameter& p) { return p.trainable(); }), "fit",
        "there is nothing to train: the model has no parameters, or all of them are frozen");
  s.optimizer.zero_grad();  // whatever was recorded before takes no part

  History history;
  const data::BatchOptions order{.batch_size = options.batch_size,
                                 .shuffle = options.shuffle,
                                 .seed = options.seed,
                                 .epoch = s.epochs,
                                 .epochs = options.epochs};
  data::Batches batches(train_x, train_y, order);
  std::optional<data::Batches> weight_batches;  // in the same order
  if (options.sample_weights.defined())
    weight_batches.emplace(options.sample_weights.detach().to(float32).slice(0, train_x.size()), data::Column(), order);
  Logs logs;
  Progress at{.model = *this,
              .stop = options.stop,
              .epochs = options.epochs,
              .batches = batches.per_epoch(),
              .total = train_x.size(),
              .logs = logs};
  for (const auto& c : options.callbacks) c->on_train_begin(at);
  for (; at.epoch < options.epochs; ++at.epoch) {
    history.stopped = options.stop.stop_requested();  // a callback may have asked at the end of the last epoch
    if (history.stopped) break;
    const auto start = std::chrono::steady_clock::now();
    logs = {};
    at.batch = at.examples = 0;
    at.seconds = 0;
    for (const auto& c : options.callbacks) c->on_epoch_begin(at);
    Meter meter(s.metrics, s.metric_names);
    data::Batch batch, weight;
    while (at.batch < at.batches && !history.stopped) {
      batch = {};
      batches.next(batch);
      if (weight_batches) weight_batches->next(weight = {});
      {
        Tape tape;
        CallScope scope(CallScope::Training{s.step.fetch_add(1, std::memory_order_relaxed), options.seed});
        const Tensor prediction = s.layer.forward(batch.x, scope.call());
        const Tensor weights = options.class_weights.empty()
                                   ? weight.x
                                   : weights_by_class(prediction, batch.y, weight.x, options.class_weights);
        const Tensor loss = s.loss(prediction, batch.y, weights);
        meter.update(loss, prediction, batch.y);  // a metric that throws leaves the weights as they were
        tape.backward(loss);
        s.optimizer.step();
        s.optimizer.zero_grad();
      }
      ++at.batch;
      at.examples += batch.x.dim(0);
      at.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      meter.write(logs);
      for (const auto& c : options.callbacks) c->on_batch_end(at);
      history.stopped = options.stop.stop_requested() && at.batch < at.batches;
    }
    if (history.stopped) break;
    if (validation.images.defined())
      for (const auto& [name, value] :
           evaluate(validation.images, validation.labels, {.batch_size = options.batch_size}))
        logs.set("val_" + name, value);
    ++s.epochs;
    history.epochs_.push_back(logs);
    for (const auto& c : options.callbacks) c->on_epoch_end(at);
  }
  for (const auto& c : options.callbacks) c->on_train_end(at, history);
  return history;
}

Logs Model::evaluate(const data::Column& x, const data::Column& y, EvaluateOptions options) const {
  const State& s = *state_;
  check(s.built, "evaluate", "the model is not built: give it an Input, or fit it");
  check(s.loss.defined(), "evaluate", "the model is not compiled: call compile() first");
  check(x.defined() && y.defined() && x.size() == y.size(), "evaluate",
        "inputs and targets must be equal in number: ", x.size(), " and ", y.size());
  check(options.batch_size >= 1, "evaluate", "the batch size must be at least 1, got ", options.batch_size);
  check_examples("evaluate", *s.input, x);
  const ThreadScope threads(options.threads);
  const Tape::Pause pause;
  std::vector<metrics::Metric> metrics = s.metrics;
  Meter meter(metrics, s.metric_names);
  for (int64_t begin = 0; begin < x.size(); begin += options.batch_size) {
    const int64_t end = std::min(begin + options.batch_size, x.size());
    CallScope scope(CallScope::Inference{});
    const Tensor prediction = s.layer.forward(x.rows(begin, end), scope.call()), target = y.rows(begin, end);
    meter.update(s.loss(prediction, target), prediction, target);
  }
  Logs logs;
  meter.write(logs);
  return logs;
}

Tensor Model::predict(const data::Column& x, PredictOptions options) const {
  const State& s = *state_;
  check(s.built, "predict", "the model is not built: give it an Input, or fit it");
  check(options.batch_size >= 1, "predict", "the batch size must be at least 1, got ", options.batch_size);
  check_examples("predict", *s.input, x);
  const ThreadScope threads(options.threads);
  const Tape::Pause pause;
  Tensor result;
  for (int64_t begin = 0; begin == 0 || begin < x.size(); begin += options.batch_size) {
    const int64_t end = std::min(begin + options.batch_size, x.size());
    CallScope scope(CallScope::Inference{});
    Tensor y = s.layer.forward(x.rows(begin, end), scope.call());
    if (end == x.size() && begin == 0)  // a model that only reshapes returns what it was given
      return y.shares_storage_with(x.values()) ? y.clone() : y.detach();
    check(y.rank() >= 1 && y.dim(0) == end - begin, "predict", "the model must keep the batch axis: got ", y.shape());
    if (!result.defined()) result = empty(y.shape().tail().with_first(x.size()), {y.dtype(), y.device()});
    result.slice(begin, end).copy_from(y);
  }
  return result;
}

}  // namespace nn
}  // namespace mica
