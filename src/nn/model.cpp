// Models: what they are made of, and compile. Their use is in fit.cpp, saving in saved_model.cpp, the table in
// summary.cpp.
#include "mica/nn/model.h"

#include <algorithm>

#include "core/counts.h"
#include "core/device_runtime.h"
#include "mica/autograd/tape.h"
#include "mica/nn/key_value_cache.h"
#include "nn/model_state.h"
#include "nn/names.h"
#include "nn/visitors.h"

namespace MICA_EXPORT mica {
namespace nn {

std::vector<Input> named_inputs(std::span<const Input> inputs) {
  check(!inputs.empty(), "model", "there must be an input");
  check(inputs.size() <= 1000, "model", "there may be at most 1,000 inputs, got ", uint64_t{inputs.size()});
  std::vector<Input> named(inputs.begin(), inputs.end());
  const auto taken = [&](const std::string& name) {
    return std::any_of(named.begin(), named.end(), [&](const Input& input) { return input.name == name; });
  };
  for (size_t i = 0; i < inputs.size(); ++i) {
    const std::string& name = inputs[i].name;
    for (const char c : name)
      check(c >= ' ' && c <= '~' && c != ':', "model",
            "an input's name must be printable ASCII without a colon: ", name);
    for (size_t j = 0; j < i && !name.empty(); ++j)
      check(inputs[j].name != name, "model", "two inputs are called \"", name, "\"");
  }
  std::string next = "input";
  int64_t number = 0;
  for (Input& input : named)
    if (input.name.empty()) {
      while (taken(next)) next = "input_" + std::to_string(++number);
      input.name = next;
    }
  return named;
}

namespace {

class Mover final : public Visitor {
 public:
  explicit Mover(Device device) : device_(device) {}
  /// All or nothing: what throws is behind us.
  void commit() {
    for (const Parameter& p : parameters_) p.zero_gradient();
    for (auto& [tensor, moved] : tensors_) *tensor = std::move(moved);
  }

 private:
  void add(Tensor& tensor) {
    if (tensor.defined() && tensor.device() != device_) tensors_.emplace_back(&tensor, tensor.to(device_));
  }
  void parameter(const char*, Parameter& p) override {
    if (p.defined() && p.value().device() != device_) parameters_.push_back(p), add(p.value());
  }
  void buffer(const char*, Buffer& b) override { add(b.value()); }
  void carry(const char*, Carry& c) override {
    for (Tensor& kept : c.value()) add(kept);
  }

  Device device_;
  std::vector<Parameter> parameters_;
  std::vector<std::pair<Tensor*, Tensor>> tensors_;
};

void move(Layer& layer, Device device) {
  const std::vector<Parameter> all = parameters(layer);
  const auto there = [&](const Parameter& p) { return p.value().device() == device; };
  Mover mover(device);
  const bool stay = std::all_of(all.begin(), all.end(), there);
  layer.visit(mover);
  mover.commit();
  if (!stay) pack(all);
}

}  // namespace

Model::Model(Layer layer) : state_(std::make_shared<State>()) {
  check(layer.defined(), "model", "the layer is empty");
  state_->layer = std::move(layer);
}

Model::Model(Layer layer, const Input& input) : Model(std::move(layer)) { build(input); }

void Model::build(const Input& input, uint64_t seed) { build({&input, 1}, seed); }

void Model::build(std::span<const Input> inputs, uint64_t seed) {
  std::vector<Input> named = named_inputs(inputs);
  nn::build(state_->layer, named, seed);
  move(state_->layer, state_->device);
  state_->inputs = std::move(named);
  state_->built = true;
  if (state_->optimizer.defined()) state_->optimizer.attach(parameters());
}

bool Model::built() const { return state_->built; }
Layer& Model::layer() const { return state_->layer; }
const optim::Optimizer& Model::optimizer() const { return state_->optimizer; }

const std::vector<Input>& Model::inputs() const {
  check(!state_->inputs.empty(), "model", "the model has no input yet: give it an Input, or build it");
  return state_->inputs;
}

const Input& Model::input() const {
  check(inputs().size() == 1, "model", "the model has ", uint64_t{inputs().size()}, " inputs: ask for inputs()");
  return inputs()[0];
}

void Model::compile(CompileOptions options) {
  check(options.optimizer.defined(), "compile", "an optimizer is needed: .optimizer = optim::Adam()");
  check(options.loss.defined(), "compile", "a loss is needed: .loss = losses::mean_squared_error");
  const std::vector<Parameter>& others = options.optimizer.parameters();
  check(others.empty() || others == parameters(), "compile",
        "the optimizer updates other parameters already: give each model one of its own (fresh() copies the settings)");
  std::vector<std::string> names;
  for (const metrics::Metric& m : options.metrics) {
    check(!m.name().empty(), "compile", "a metric has no name");
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

Tensor Model::operator()(std::span<const Tensor> xs) const {
  CallScope scope(state_->step);
  return forward(xs, scope.call());
}

Tensor Model::operator()(std::span<const Tensor> xs, KeyValueCache& cache) const {
  check(!xs.empty(), "model", "there must be at least one input");
  const Tape::Pause pause;
  CallScope scope(cache);
  cache.begin_call(xs[0]);
  Tensor y = forward(xs, scope.call());
  cache.end_call();
  return y;
}

Tensor Model::forward(const Tensor& x, Call& call) const { return state_->layer.forward(x, call); }
Tensor Model::forward(std::span<const Tensor> xs, Call& call) const { return state_->layer.join(xs, call); }

void Model::visit(Visitor& v) {
  if (v.clones()) {
    const auto own = std::make_shared<State>();
    own->layer = state_->layer.copy();
    own->inputs = state_->inputs;
    own->built = state_->built;
    own->device = state_->device;
    own->preprocess = state_->preprocess;
    own->step = state_->step.load(std::memory_order_relaxed);
    own->epochs = state_->epochs;
    state_ = own;
  }
  state_->layer.visit(v);
}

namespace {
class Streams final : public Visitor {
 public:
  std::vector<RandomStream> found;
  std::vector<Carry> carries;

 private:
  void stream(const char*, RandomStream& s) override { found.push_back(s); }
  void carry(const char*, Carry& c) override { carries.push_back(c); }
};
}  // namespace

namespace {
class Emptier final : public Visitor {
  void carry(const char*, Carry& c) override {
    if (!c.value().empty()) c.value().clear();
  }
};
}  // namespace

void Model::reset_state() const {
  Emptier emptier;
  state_->layer.visit(emptier);
}

void Model::visit_state(StateVisitor& v) {
  State& s = *state_;
  check(s.built, "model", "the model is not built: give it an Input, or build it");
  name_parameters(s.layer);  // as they are called in this model
  Streams streams;
  s.layer.visit(streams);
  const std::vector<Parameter> all = parameters();
  // Tensors, whose shapes are checked before anything is set.
  Tensor keys = empty({static_cast<int64_t>(streams.found.size())}, {int64, Device::cpu()});
  Tensor trainable = empty({static_cast<int64_t>(all.size())}, {uint8, Device::cpu()});
  for (size_t i = 0; i < streams.found.size(); ++i)
    keys.mutable_data<int64_t>()[i] = static_cast<int64_t>(streams.found[i].key(0).stream);
  for (size_t i = 0; i < all.size(); ++i) trainable.mutable_data<uint8_t>()[i] = all[i].trainable();
  uint64_t step = s.step.load(std::memory_order_relaxed);
  int64_t epochs = s.epochs;
  v("streams", keys);
  v("trainable", trainable);
  v("step", step);
  v("epochs", epochs);
  check(countable(epochs), "model", "it cannot have been trained for ", epochs, " epochs");
  v.enter("carried");
  for (size_t i = 0; i < streams.carries.size(); ++i) {
    Tensors& kept = streams.carries[i].value();
    v(std::to_string(i), kept);
    for (Tensor& t : kept) t = t.to(s.device);  // what is read lies on the CPU
  }
  v.leave();
  v.enter("values");
  for_tensors(s.layer, [&](const std::string& name, Tensor& value) { v(name, value); });
  v.leave();
  for (size_t i = 0; i < streams.found.size(); ++i)
    streams.found[i].set(static_cast<uint64_t>(keys.data<int64_t>()[i]));
  for (size_t i = 0; i < all.size(); ++i) all[i].set_trainable(trainable.data<uint8_t>()[i] != 0);
  s.step.store(step, std::memory_order_relaxed);
  s.epochs = epochs;
}

std::vector<Parameter> Model::parameters() const { return nn::parameters(state_->layer); }

Parameter Model::parameter(const std::string& name) const {
  for (const Parameter& p : parameters())
    if (p.name() == name) return p;
  fail("model", "there is no parameter \"", name, "\"");
}

Tensor Model::penalty() const { return nn::penalty(regularized_parameters(state_->layer)); }

void Model::set_trainable(bool trainable) {
  for (const Parameter& p : parameters()) p.set_trainable(trainable);
}

void Model::to(Device device) {
  check(!state_->optimizer.defined(), "to", "the model is compiled: move it before, since the optimizer's state stays");
  mica::detail::check_usable(device);
  if (state_->built) move(state_->layer, device);
  state_->device = device;
}

Device Model::device() const { return state_->device; }

}  // namespace nn
}  // namespace mica
