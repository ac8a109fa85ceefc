// Models in use: fit, evaluate, predict.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>

#include "core/finite.h"
#include "mica/autograd/tape.h"
#include "mica/core/threads.h"
#include "mica/data/batches.h"
#include "mica/nn/model.h"
#include "nn/model_state.h"
#include "nn/targets.h"

namespace MICA_EXPORT mica {
namespace nn {

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

  void update(double loss, const Tensor& prediction, const Tensor& target) {
    const auto n = static_cast<double>(prediction.dim(0));
    loss_ += loss * n;
    count_ += n;
    for (metrics::Metric& m : metrics_) m.update(prediction, target);
  }

  // `whole`: at the end, when all metrics have a result.
  void write(Logs& logs, bool whole) const {
    static const std::string kLoss = "loss";
    logs.set(kLoss, count_ > 0 ? loss_ / count_ : 0);
    for (size_t i = 0; i < metrics_.size(); ++i)
      if (whole || !metrics_[i].at_end()) logs.set(names_[i], metrics_[i].result());
  }

 private:
  std::vector<metrics::Metric>& metrics_;
  const std::vector<std::string>& names_;
  double loss_ = 0, count_ = 0;
};

// A training step whose loss is not finite; it can be run once more.
class FailedStep final : public NonfiniteLoss {
 public:
  FailedStep(double value, CallScope::Training training, const Layer& layer, const losses::Loss& function,
             const std::vector<Parameter>& parameters, const data::Batch& batch, const Tensor& weights)
      : training_(training), layer_(layer), function_(function), parameters_(parameters), batch_(batch),
        weights_(weights) {
    loss = value;
    step = training.step;
  }

  std::string origin() const override {
    const std::pair<const char*, const Tensor&> data[] = {
        {"the inputs", batch_.x}, {"the targets", batch_.y}, {"the weights", weights_}};
    for (const auto& [what, x] : data)
      if (const int64_t bad = first_nonfinite(x); bad >= 0)
        return mica::detail::concat(what, " are not finite: ", nonfinite_text(x, bad));
    for (const Parameter& p : parameters_)
      if (const int64_t bad = first_nonfinite(p.value()); bad >= 0)
        return mica::detail::concat("the parameter ", p.name(),
                                    " was not finite before this step: ", nonfinite_text(p.value(), bad));
    try {
      Tape tape;
      tape.set_detect_anomaly(true);
      CallScope scope(training_);
      function_(layer_.forward(batch_.x, scope.call()), batch_.y, weights_);
    } catch (const Error& e) {
      return e.what();
    }
    return "it was made by something that the tape does not record";
  }

 private:
  CallScope::Training training_;
  const Layer& layer_;
  const losses::Loss& function_;
  const std::vector<Parameter>& parameters_;
  const data::Batch& batch_;
  const Tensor& weights_;
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
  const std::vector<RegularizedParameter> regularized = regularized_parameters(s.layer);

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
  StopToken stop;  // the callbacks' own: what they ask for ends with this fit, whose options may serve another
  const auto stopping = [&] { return options.stop.stop_requested() || stop.stop_requested(); };
  Progress at{.model = *this,
              .stop = stop,
              .epochs = options.epochs,
              .batches = batches.per_epoch(),
              .total = train_x.size(),
              .logs = logs};
  for (const auto& c : options.callbacks) c->on_train_begin(at);
  for (; at.epoch < options.epochs; ++at.epoch) {
    history.stopped = stopping();  // a callback may have asked at the end of the last epoch
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
        const CallScope::Training step{s.step.fetch_add(1, std::memory_order_relaxed), options.seed};
        Tape tape;
        CallScope scope(step);
        const Tensor prediction = s.layer.forward(batch.x, scope.call());
        const Tensor weights = options.class_weights.empty()
                                   ? weight.x
                                   : weights_by_class(prediction, batch.y, weight.x, options.class_weights);
        const Tensor plain = s.loss(prediction, batch.y, weights), extra = nn::penalty(regularized);
        const Tensor loss = extra.defined() ? plain + extra : plain;
        const double value = loss.item();
        if (!std::isfinite(value)) {
          const FailedStep failed(value, step, s.layer, s.loss, all, batch, weights);
          for (const auto& c : options.callbacks) c->on_nonfinite_loss(at, failed);
        }
        meter.update(value, prediction, batch.y);  // a metric that throws leaves the weights as they were
        tape.backward(loss);
        s.optimizer.step();
        s.optimizer.zero_grad();
      }
      ++at.batch;
      at.examples += batch.x.dim(0);
      at.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      meter.write(logs, false);
      for (const auto& c : options.callbacks) c->on_batch_end(at);
      history.stopped = stopping() && at.batch < at.batches;
    }
    if (history.stopped) break;
    meter.write(logs = {}, true);
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
  Layer layer = s.layer;
  const Tensor extra = nn::penalty(regularized_parameters(layer));
  const double added = extra.defined() ? extra.item() : 0;
  for (int64_t begin = 0; begin < x.size(); begin += options.batch_size) {
    const int64_t end = std::min(begin + options.batch_size, x.size());
    CallScope scope(CallScope::Inference{});
    const Tensor prediction = s.layer.forward(x.rows(begin, end), scope.call()), target = y.rows(begin, end);
    meter.update(s.loss(prediction, target).item() + added, prediction, target);
  }
  Logs logs;
  meter.write(logs, true);
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
