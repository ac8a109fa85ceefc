// Calls, visitors, and building: naming parameters by their position and making them in one call.
#include "mica/nn/layer.h"

#include <cxxabi.h>

#include <algorithm>
#include <cstdlib>
#include <unordered_set>

#include "mica/autograd/tape.h"
#include "mica/nn/key_value_cache.h"
#include "nn/visitors.h"

namespace MICA_EXPORT mica {
namespace nn {

namespace {
thread_local Mode current_mode = Mode::automatic;
thread_local Call* current_call = nullptr;
thread_local std::atomic<uint64_t> loose_steps =
    0;  // training calls of layers outside of a model, which counts its own
}  // namespace

ModeScope::ModeScope(Mode mode) : previous_(std::exchange(current_mode, mode)) {}
ModeScope::~ModeScope() { current_mode = previous_; }

Call* Call::current() { return current_call; }

CallScope::CallScope() : CallScope(loose_steps) {}

CallScope::CallScope(std::atomic<uint64_t>& steps) : active_(current_call), previous_(current_call) {
  if (active_) return;
  own_.training_ = current_mode == Mode::training || (current_mode == Mode::automatic && Tape::current() != nullptr);
  if (own_.training_) own_.step_ = steps.fetch_add(1, std::memory_order_relaxed);
  current_call = active_ = &own_;
}

CallScope::CallScope(Inference) : active_(&own_), previous_(std::exchange(current_call, &own_)) {}

CallScope::CallScope(Training training) : active_(&own_), previous_(std::exchange(current_call, &own_)) {
  own_.training_ = true;
  own_.step_ = training.step;
  own_.seed_ = training.seed;
}

CallScope::CallScope(Building building) : active_(&own_), previous_(std::exchange(current_call, &own_)) {
  own_.building_ = true;
  own_.seed_ = building.seed;
  own_.device_ = building.device;
}

CallScope::CallScope(KeyValueCache& cache) : CallScope(Inference{}) { own_.cache_ = &cache; }

CallScope::~CallScope() { current_call = previous_; }

RandomKey Call::key(const RandomStream& stream) {
  Draws* draws = draws_;
  while (draws->stream && draws->stream != stream.id() && draws + 1 < draws_ + kStreams) ++draws;
  draws->stream = stream.id();
  constexpr uint64_t kApart = 0x9e3779b97f4a7c15u;  // 2^64 / the golden ratio
  return {stream.key(step_).stream ^ seed_ ^ (kApart * draws->count++), step_};
}

const Tensor& Call::mask(size_t input) const {
  static const Tensor kNone{};
  return input == 0 ? mask_ : input <= other_masks_.size() ? other_masks_[input - 1] : kNone;
}

void Call::keep_mask(int input_rank, const Tensor& y) {
  if (!mask_.defined()) return;
  // [B, C] of [B, T, C] has lost the steps, even where C is T.
  const bool kept =
      y.rank() >= 2 && (y.rank() > 2 || input_rank <= 2) && y.dim(0) == mask_.dim(0) && y.dim(1) == mask_.dim(1);
  if (!kept) mask_ = Tensor();
}

int64_t Call::position() const { return cache_ ? cache_->length() : 0; }

void Call::needs_whole_sequences(const char* op) const {
  check(!cache_, op, "it needs whole sequences, but a call with a cache of keys and values has the new steps alone");
}

Tensor Call::parameter(const Parameter& p, const Shape& shape, Initializer initializer) {
  if (!p.defined()) {
    check(building_, "layer", "the layer is not built yet: give the model an Input, or call build()");
    check(!p.name().empty(), "build", "a layer uses a parameter of shape ", shape, " that its visit() does not list");
    p.value() = initializer(shape, {random_stream(seed_, p.name()), 0}).to(device_);
  }
  check(p.shape() == shape, "layer", p.name(), " has shape ", p.shape(), ", but this input needs ", shape);
  return p.tensor();
}

Tensor& Call::buffer(const Buffer& b, const Shape& shape, Initializer initializer) {
  if (!b.value().defined()) {
    check(building_, "layer", "the layer is not built yet: give the model an Input, or call build()");
    b.value() = initializer(shape, {}).to(device_);
  }
  check(b.value().shape() == shape, "layer", "a buffer has shape ", b.value().shape(), ", but this input needs ",
        shape);
  return b.value();
}

Visitor::~Visitor() = default;

void Visitor::layer(const char* name, Layer& value) {
  enter(name);
  value.visit(*this);
  leave();
}

Tensor Layer::operator()(const Tensor& x) const {
  CallScope scope;
  return forward(x, scope.call());
}

Tensor Layer::operator()(std::initializer_list<Tensor> xs) const {
  CallScope scope;
  return join(std::span(xs.begin(), xs.size()), scope.call());
}

std::string detail::readable_type(const char* mangled) {
  int status = 0;
  char* text = abi::__cxa_demangle(mangled, nullptr, nullptr, &status);
  std::string result = status == 0 && text ? text : mangled;
  std::free(text);
  return result;
}

void detail::wrong_input_count(size_t count) {
  fail("layer", "the layer takes one input, got ", static_cast<uint64_t>(count));
}

void PathVisitor::enter(const char* name) {
  lengths_.push_back(path_.size());
  if (!path_.empty()) path_ += '.';
  path_ += name;
}

void PathVisitor::leave() {
  path_.resize(lengths_.back());
  lengths_.pop_back();
}

std::string PathVisitor::path(const char* name) const { return path_.empty() ? name : path_ + "." + name; }

namespace {

// A shared parameter keeps the first of its names.
class Namer final : public PathVisitor {
 public:
  explicit Namer(std::optional<uint64_t> seed) : seed_(seed) {}

 private:
  void parameter(const char* name, Parameter& p) override {
    if (!named_.insert(p.leaf()).second) return;
    std::string own = path(name);
    check(names_.insert(own).second, "build", "two parameters are called \"", own, "\": visit() must name each once");
    if (p.name() != own) p.set_name(std::move(own));
  }
  void stream(const char* name, RandomStream& s) override {
    if (seed_) s.set(random_stream(*seed_, path(name)));
  }

  std::optional<uint64_t> seed_;
  std::unordered_set<mica::detail::Leaf*> named_;
  std::unordered_set<std::string> names_;
};

class Collector final : public Visitor {
 public:
  std::vector<Parameter> found;

 private:
  void parameter(const char*, Parameter& p) override {
    if (seen_.insert(p.leaf()).second) found.push_back(p);
  }

  std::unordered_set<mica::detail::Leaf*> seen_;
};

}  // namespace

void name_parameters(Layer& layer, std::optional<uint64_t> seed) {
  Namer namer(seed);
  layer.visit(namer);
}

Shape build(Layer& layer, const Input& input, uint64_t seed) { return build(layer, {&input, 1}, seed); }

Shape build(Layer& layer, std::span<const Input> inputs, uint64_t seed) {
  check(layer.defined(), "build", "the layer is empty");
  name_parameters(layer, seed);
  std::vector<Parameter> made = parameters(layer);
  Device device = default_device();  // or that of a parameter that there is already
  for (const Parameter& p : made)
    if (p.defined()) device = p.value().device();
  std::erase_if(made, [](const Parameter& p) { return p.defined(); });
  CallScope scope(CallScope::Building{seed, device});
  Tensor y;
  try {
    Tape tape;  // sees which parameters are used
    Tensors xs;
    for (const Input& input : inputs) xs.push_back(zeros(input.shape.with_first(1), {input.dtype, device}));
    y = layer.join(xs, scope.call());
    const std::vector<Parameter> listed = parameters(layer);
    tape.for_each_leaf([&](const mica::detail::Leaf& leaf) {
      check(std::any_of(listed.begin(), listed.end(), [&](const Parameter& p) { return p.leaf() == &leaf; }), "build",
            "a layer uses a parameter of shape ", leaf.value.shape(), " that its visit() does not list");
    });
    check(y.defined() && y.rank() >= 1, "build", "the layer must return a tensor with a batch axis");
  } catch (...) {  // an input that fits may come yet
    for (const Parameter& p : made) p.value() = Tensor();
    throw;
  }
  pack(parameters(layer));
  return y.shape().tail();
}

std::vector<Parameter> parameters(Layer& layer) {
  Collector collector;
  layer.visit(collector);
  return collector.found;
}

}  // namespace nn
}  // namespace mica
