// Models in use: fit, evaluate, predict.
#include <algorithm>
#include <cmath>

#include "mica/autograd/tape.h"
#include "mica/core/threads.h"
#include "nn/training.h"
#include "nn/visitors.h"
#include "ops/common.h"

namespace MICA_EXPORT mica {
namespace nn {

namespace {

// The examples must be what the model was built for.
void check_examples(const char* op, const std::vector<Input>& inputs, const data::Columns& x) {
  check(x.defined() && std::all_of(x.begin(), x.end(), [](const data::Column& c) { return c.values().rank() >= 1; }),
        op, "the inputs must have a first axis of examples");
  check(x.count() == inputs.size(), op, "the model takes ", uint64_t{inputs.size()}, " inputs, got ",
        uint64_t{x.count()});
  for (size_t i = 0; i < inputs.size(); ++i) {
    check(x[i].example() == inputs[i].shape && x[i].dtype() == inputs[i].dtype, op, "the model takes examples of ",
          inputs[i].shape, " ", inputs[i].dtype, inputs.size() > 1 ? " for " + inputs[i].name : "", ", got ",
          x[i].example(), " ", x[i].dtype());
    check(x[i].size() == x.size(), op, "the inputs must be equal in number: ", x.size(), " and ", x[i].size());
  }
}

// And as many as the targets.
void check_examples(const char* op, const std::vector<Input>& inputs, const data::Columns& x, const data::Column& y) {
  check(y.defined() && x.size() == y.size(), op, "inputs and targets must be equal in number: ", x.size(), " and ",
        y.size());
  check_examples(op, inputs, x);
}

// The layer's result, on `device`, on examples [begin, end).
Tensor forward_rows(const Layer& layer, Device device, const data::Columns& x, int64_t begin, int64_t end, Call& call) {
  ops::Small<Tensor> inputs;
  for (const data::Column& column : x) inputs.add(column.rows(begin, end).to(device));
  return layer.join(inputs.span(), call);
}

}  // namespace

History Model::fit(const data::Columns& x, const data::Column& y, FitOptions options) {
  State& s = *state_;
  check(s.loss.defined(), "fit", "the model is not compiled: call compile() first");
  check(options.epochs >= 0, "fit", "epochs must not be negative, got ", options.epochs);
  check(options.batch_size >= 1, "fit", "the batch size must be at least 1, got ", options.batch_size);
  check(options.validation_split >= 0 && options.validation_split < 1, "fit",
        "validation_split must be in [0, 1), got ", options.validation_split);
  std::vector<Input> inputs = s.inputs;
  if (inputs.empty())
    for (const data::Column& column : x) {
      check(column.defined() && column.values().rank() >= 1, "fit", "the inputs must have a first axis of examples");
      inputs.emplace_back(column.example(), column.dtype());
    }
  check_examples("fit", inputs, x, y);
  check(x.size() > 0, "fit", "there are no examples");

  if (options.sample_weights.defined()) {
    const Tensor& w = options.sample_weights;
    check(w.rank() >= 1 && w.dim(0) == x.size(), "fit", "sample_weights must have one weight for each of the ",
          x.size(), " examples, got shape ", w.shape());
  }
  check(options.checkpoint.batches >= 0, "fit", "checkpoint.batches must not be negative, got ",
        options.checkpoint.batches);
  for (const double w : options.class_weights)
    check(std::isfinite(w) && w >= 0, "fit", "class_weights must be finite and not negative, got ", w);

  data::Examples train{x, y}, validation = options.validation_data;
  if (!validation.x.defined() && options.validation_split > 0) {
    const auto kept = static_cast<int64_t>(static_cast<double>(x.size()) * (1 - options.validation_split));
    check(kept > 0, "fit", "validation_split ", options.validation_split, " of ", x.size(),
          " examples leaves none to train on");
    train = {x.slice(0, kept), y.slice(0, kept)};
    validation = {x.slice(kept, x.size()), y.slice(kept, y.size())};
  }
  if (validation.x.defined()) {
    check_examples("fit", inputs, validation.x);
    check(validation.y.defined() && validation.y.size() == validation.x.size(), "fit",
          "inputs and targets to validate with must be equal in number: ", validation.x.size(), " and ",
          validation.y.size());
  }
  for (const metrics::Metric& m : s.metrics)
    check(options.checkpoint.batches == 0 || m.has_state(), "fit",
          "checkpoints within an epoch need the state of the metric \"", m.name(),
          "\": give it visit_state(), or leave checkpoint.batches 0");
  std::optional<io::Checkpoints> checkpoints;
  if (!options.checkpoint.folder.empty()) checkpoints.emplace(options.checkpoint.folder);
  if (!s.built) build(inputs);
  const std::vector<Parameter> all = parameters();
  check(std::any_of(all.begin(), all.end(), [](const Parameter& p) { return p.trainable(); }), "fit",
        "there is nothing to train: the model has no parameters, or all of them are frozen");
  s.optimizer.zero_grad();  // whatever was recorded before takes no part
  Tensor weights;
  if (options.sample_weights.defined()) weights = options.sample_weights.detach().to(float32).slice(0, train.x.size());
  return Training(*this, train, weights, std::move(validation), std::move(options), std::move(checkpoints)).run();
}

Logs Model::evaluate(const data::Columns& x, const data::Column& y, EvaluateOptions options) const {
  const State& s = *state_;
  check(s.built, "evaluate", "the model is not built: give it an Input, or fit it");
  check(s.loss.defined(), "evaluate", "the model is not compiled: call compile() first");
  check(options.batch_size >= 1, "evaluate", "the batch size must be at least 1, got ", options.batch_size);
  check_examples("evaluate", s.inputs, x, y);
  const ThreadScope threads(options.threads);
  const Tape::Pause pause;
  std::vector<metrics::Metric> metrics = s.metrics;
  Meter meter(metrics, s.metric_names);
  meter.reset();
  const WithoutCarry anew(s.layer);
  Layer layer = s.layer;
  const Tensor extra = nn::penalty(regularized_parameters(layer));
  const double added = extra.defined() ? extra.item() : 0;
  for (int64_t begin = 0; begin < x.size(); begin += options.batch_size) {
    const int64_t end = std::min(begin + options.batch_size, x.size());
    CallScope scope(CallScope::Inference{});
    const Tensor prediction = forward_rows(s.layer, s.device, x, begin, end, scope.call());
    const Tensor target = y.rows(begin, end);
    meter.update(s.loss(prediction, target.to(s.device)).item() + added, prediction, target);
  }
  Logs logs;
  meter.write(logs, true);
  return logs;
}

Tensor Model::predict(const data::Columns& x, PredictOptions options) const {
  const State& s = *state_;
  check(s.built, "predict", "the model is not built: give it an Input, or fit it");
  check(options.batch_size >= 1, "predict", "the batch size must be at least 1, got ", options.batch_size);
  check_examples("predict", s.inputs, x);
  const ThreadScope threads(options.threads);
  const Tape::Pause pause;
  const WithoutCarry anew(s.layer);
  Tensor result;
  for (int64_t begin = 0; begin == 0 || begin < x.size(); begin += options.batch_size) {
    const int64_t end = std::min(begin + options.batch_size, x.size());
    CallScope scope(CallScope::Inference{});
    Tensor y = forward_rows(s.layer, s.device, x, begin, end, scope.call()).to(x[0].values().device());
    if (end == x.size() && begin == 0) {  // a model that only reshapes returns what it was given
      const bool given =
          std::any_of(x.begin(), x.end(), [&](const auto& c) { return y.shares_storage_with(c.values()); });
      return given ? y.clone() : y.detach();
    }
    check(y.rank() >= 1 && y.dim(0) == end - begin, "predict", "the model must keep the batch axis: got ", y.shape());
    if (!result.defined()) result = empty(y.shape().tail().with_first(x.size()), {y.dtype(), y.device()});
    result.slice(begin, end).copy_from(y);
  }
  return result;
}

}  // namespace nn
}  // namespace mica
