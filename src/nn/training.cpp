// Training: the loop of fit, and its checkpoints.
#include "nn/training.h"

#include <chrono>
#include <cmath>

#include "core/counts.h"
#include "core/finite.h"
#include "mica/autograd/tape.h"
#include "nn/targets.h"
#include "nn/visitors.h"

namespace mica::nn {

namespace {

// A training step whose loss is not finite; it can be run once more.
class FailedStep final : public NonfiniteLoss {
 public:
  FailedStep(double value, CallScope::Training training, const Layer& layer, const losses::Loss& function,
             const std::vector<Parameter>& parameters, std::span<const Tensor> xs, const Tensor& y,
             const Tensor& weights)
      : training_(training), layer_(layer), function_(function), parameters_(parameters), xs_(xs), y_(y),
        weights_(weights) {
    loss = value;
    step = training.step;
  }

  std::string origin() const override {
    std::vector<std::pair<const char*, Tensor>> data;
    for (const Tensor& x : xs_) data.emplace_back("the inputs", x);
    data.emplace_back("the targets", y_);
    data.emplace_back("the weights", weights_);
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
      function_(layer_.join(xs_, scope.call()), y_, weights_);
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
  std::span<const Tensor> xs_;
  const Tensor &y_, &weights_;
};

// Whether an object has any state.
class Probe final : public StateVisitor {
 public:
  bool found = false;
  void operator()(std::string_view, bool&) override { found = true; }
  void operator()(std::string_view, int64_t&) override { found = true; }
  void operator()(std::string_view, uint64_t&) override { found = true; }
  void operator()(std::string_view, double&) override { found = true; }
  void operator()(std::string_view, std::string&) override { found = true; }
  void operator()(std::string_view, std::vector<int64_t>&) override { found = true; }
  void operator()(std::string_view, std::vector<double>&) override { found = true; }
  void operator()(std::string_view, Tensor&) override { found = true; }
  void operator()(std::string_view, Tensors&) override { found = true; }
  void enter(std::string_view) override {}
  void leave() override {}
};

// The tensors of one part, called as in it.
io::NamedTensors part(const io::NamedTensors& tensors, std::string_view name) {
  io::NamedTensors own;
  for (const auto& [path, tensor] : tensors)
    if (path.size() > name.size() && path.starts_with(name) && path[name.size()] == '.')
      own.emplace_back(path.substr(name.size() + 1), tensor);
  return own;
}

template <class T>
void check_same(const char* what, const T& was, const T& is) {
  check(was == is, "checkpoint", "it is of another training, whose ", what, " was ", was, ", not ", is);
}

}  // namespace

void Training::Identity::visit_state(StateVisitor& v) {
  v("examples", examples);
  v("batch_size", batch_size);
  v("shuffle", shuffle);
  v("seed", seed);
  v("optimizer", optimizer);
  v("metrics", metrics);
  v("learning_rate", learning_rate);
}

void Training::Position::visit_state(StateVisitor& v) {
  v("epoch", epoch);
  v("batch", batch);
  v("examples", examples);
  v("seconds", seconds);
}

void Training::Whole::visit_state(StateVisitor& v) {
  Identity identity = t.identity_;
  v("training", identity);
  v("position", t.position_);
  v("finished", t.finished_);
  v("history", t.history_);
  if (t.position_.batch > 0) v("meter", t.meter_);
  v("optimizer", t.s_.optimizer);
  v("model", t.model_);
  Callbacks callbacks{t};
  v("callbacks", callbacks);
}

void Training::Callbacks::visit_state(StateVisitor& v) {
  size_t number = 0;
  for (const auto& c : t.options_.callbacks) {
    Probe probe;
    c->visit_state(probe);
    if (!probe.found) continue;
    v.enter(std::to_string(number++));
    c->visit_state(v);
    v.leave();
  }
}

Training::Training(Model& model, const data::Examples& train, const Tensor& weights, data::Examples validation,
                   FitOptions options, std::optional<io::Checkpoints> checkpoints)
    : model_(model), s_(*model.state_), columns_(train.x.begin(), train.x.end()), inputs_(train.x.count()),
      validation_(std::move(validation)), options_(std::move(options)), parameters_(model.parameters()),
      regularized_(regularized_parameters(s_.layer)), checkpoints_(std::move(checkpoints)),
      meter_(s_.metrics, s_.metric_names), at_{.model = model,
                                               .stop = stop_,
                                               .epochs = options_.epochs,
                                               .total = train.x.size(),
                                               .logs = logs_,
                                               .history = history_} {
  columns_.push_back(train.y);
  if (weights.defined()) columns_.emplace_back(weights);
  at_.batches = at_.total / options_.batch_size + (at_.total % options_.batch_size != 0);
  identity_ = {.examples = at_.total,
               .batch_size = options_.batch_size,
               .shuffle = options_.shuffle,
               .seed = options_.seed,
               .optimizer = s_.optimizer.name(),
               .metrics = {},
               .learning_rate = s_.optimizer.schedule()};
  for (const std::string& name : s_.metric_names) identity_.metrics += (identity_.metrics.empty() ? "" : ", ") + name;
}

bool Training::stopping() const { return finished_ || options_.stop.stop_requested() || stop_.stop_requested(); }

History Training::run() {
  std::optional<io::Checkpoint> last = checkpoints_ ? checkpoints_->last() : std::nullopt;
  if (last) open(*last);
  at_.epoch = position_.epoch;
  for (const auto& c : options_.callbacks) c->on_train_begin(at_);
  if (last) go_on_from(*last);
  last.reset();  // it is as large as the model and its optimizer
  data::Loader loader(columns_, {.batch_size = options_.batch_size,
                                 .shuffle = options_.shuffle,
                                 .seed = options_.seed,
                                 .epoch = s_.epochs,
                                 .epochs = options_.epochs - position_.epoch,
                                 .batch = position_.batch});
  for (; at_.epoch < options_.epochs; ++at_.epoch) {
    history_.stopped = stopping();  // a callback may have asked at the end of the last epoch
    if (history_.stopped) break;
    train_epoch(loader);
    if (history_.stopped) break;
  }
  for (const auto& c : options_.callbacks) c->on_train_end(at_, history_);
  return history_;
}

void Training::train_epoch(data::Loader& loader) {
  const Position from = std::exchange(position_, {});
  const auto begin = std::chrono::steady_clock::now();
  logs_ = {};
  at_.batch = from.batch;
  at_.examples = from.examples;
  at_.seconds = from.seconds;
  if (from.batch == 0) {
    meter_.reset();
    model_.reset_state();
  }
  for (const auto& c : options_.callbacks) c->on_epoch_begin(at_);
  while (at_.batch < at_.batches && !history_.stopped) {
    loader.next(batch_);
    train_batch();
    ++at_.batch;
    at_.examples += batch_[0].dim(0);
    at_.seconds = from.seconds + std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    meter_.write(logs_, false);
    for (const auto& c : options_.callbacks) c->on_batch_end(at_);
    history_.stopped = stopping() && at_.batch < at_.batches;
    const int64_t every = options_.checkpoint.batches;
    if (every > 0 && at_.batch < at_.batches && (history_.stopped || at_.batch % every == 0))
      save({at_.epoch, at_.batch, at_.examples, at_.seconds});
  }
  if (history_.stopped) return;
  meter_.write(logs_ = {}, true);
  if (validation_.x.defined())
    for (const auto& [name, value] : model_.evaluate(validation_.x, validation_.y, {.batch_size = options_.batch_size}))
      logs_.set("val_" + name, value);
  ++s_.epochs;
  history_.epochs_.push_back(logs_);
  for (const auto& c : options_.callbacks) c->on_epoch_end(at_);
  save({.epoch = at_.epoch + 1});
}

void Training::train_batch() {
  for (size_t i = 0; i < inputs_; ++i) batch_[i] = batch_[i].to(s_.device);
  const std::span<const Tensor> xs(batch_.data(), inputs_);
  const Tensor& target = batch_[inputs_];
  const Tensor y = target.to(s_.device);
  const CallScope::Training step{s_.step.fetch_add(1, std::memory_order_relaxed), options_.seed};
  Tape tape;
  CallScope scope(step);
  const Tensor prediction = s_.layer.join(xs, scope.call());
  Tensor weights = batch_.size() > inputs_ + 1 ? batch_[inputs_ + 1] : Tensor();
  if (!options_.class_weights.empty()) weights = weights_by_class(prediction, target, weights, options_.class_weights);
  if (weights.defined()) weights = weights.to(s_.device);
  const Tensor plain = s_.loss(prediction, y, weights), extra = penalty(regularized_);
  const Tensor loss = extra.defined() ? plain + extra : plain;
  const double value = loss.item();
  if (!std::isfinite(value)) {
    const FailedStep failed(value, step, s_.layer, s_.loss, parameters_, xs, y, weights);
    for (const auto& c : options_.callbacks) c->on_nonfinite_loss(at_, failed);
  }
  meter_.update(value, prediction, target);  // a metric that throws leaves the weights as they were
  tape.backward(loss);
  s_.optimizer.step();
  s_.optimizer.zero_grad();
}

void Training::save(const Position& position) {
  if (!checkpoints_) return;
  position_ = position;
  finished_ = stop_.stop_requested();
  Whole whole{*this};
  checkpoints_->save(position.epoch * at_.batches + position.batch, io::state_tensors(whole));
  position_ = {};
}

void Training::open(const io::Checkpoint& checkpoint) {
  try {
    Identity was = identity_;
    io::set_state(was, part(checkpoint.tensors, "training"));
    check_same("number of examples", was.examples, identity_.examples);
    check_same("batch_size", was.batch_size, identity_.batch_size);
    check_same("shuffle", was.shuffle, identity_.shuffle);
    check_same("seed", was.seed, identity_.seed);
    check_same("optimizer", was.optimizer, identity_.optimizer);
    check_same("metrics", was.metrics, identity_.metrics);
    Position at;
    io::set_state(at, part(checkpoint.tensors, "position"));
    check(countable(at.epoch) && at.batch >= 0 && at.batch < std::max<int64_t>(1, at_.batches) && at.examples >= 0 &&
              at.examples <= at_.total && std::isfinite(at.seconds),
          "checkpoint", "there is no epoch ", at.epoch, ", batch ", at.batch, ", example ", at.examples);
    position_ = at;
    Whole whole{*this};
    io::check_state(whole, checkpoint.tensors);
    io::set_state(history_, part(checkpoint.tensors, "history"));
    rate_changed_ = !(was.learning_rate == identity_.learning_rate);
  } catch (const Error& e) {
    fail<FileError>("fit", checkpoint.path, ": ", e.what());
  }
}

void Training::go_on_from(const io::Checkpoint& checkpoint) {
  try {
    Whole whole{*this};
    io::set_state(whole, checkpoint.tensors);
    if (rate_changed_) s_.optimizer.set_learning_rate(identity_.learning_rate);
  } catch (const Error& e) {
    fail<FileError>("fit", checkpoint.path, ": ", e.what());
  }
}

}  // namespace mica::nn
