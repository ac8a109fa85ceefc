// Calls, visitors, and building: naming parameters by their position and making them in one call.
#include "mica/nn/layer.h"

#include <cxxabi.h>

#include <algorithm>
#include <cstdlib>

#include "mica/autograd/tape.h"
#include "nn/visitors.h"

namespace MICA_EXPORT mica {
namespace nn {

namespace {
thread_local Mode current_mode = Mode::automatic;
thread_local Call* current_call = nullptr;
}  // namespace

ModeScope::ModeScope(Mode mode) : previous_(std::exchange(current_mode, mode)) {}
ModeScope::~ModeScope() { current_mode = previous_; }

Call* Call::current() { return current_call; }

CallScope::CallScope() : active_(current_call), previous_(current_call) {
  if (active_) return;
  own_.training_ = current_mode == Mode::training || (current_mode == Mode::automatic && Tape::current() != nullptr);
  current_call = active_ = &own_;
}

CallScope::CallScope(bool training, uint64_t step) : active_(&own_), previous_(std::exchange(current_call, &own_)) {
  own_.training_ = training;
  own_.step_ = step;
}

CallScope::CallScope(Building building) : active_(&own_), previous_(std::exchange(current_call, &own_)) {
  own_.building_ = true;
  own_.seed_ = building.seed;
}

CallScope::~CallScope() { current_call = previous_; }

Tensor Call::parameter(const Parameter& p, const Shape& shape, Initializer initializer) {
  if (!p.defined()) {
    check(building_, "layer", "the layer is not built yet: give the model an Input, or call build()");
    check(!p.name().empty(), "build", "a layer uses a parameter of shape ", shape, " that its visit() does not list");
    p.value() = initializer(shape, {random_stream(seed_, p.name()), 0});
  }
  check(p.shape() == shape, "layer", p.name(), " has shape ", p.shape(), ", but this input needs ", shape);
  return p.tensor();
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
  explicit Namer(uint64_t seed) : seed_(seed) {}

 private:
  void parameter(const char* name, Parameter& p) override {
    if (std::find(named_.begin(), named_.end(), p.leaf()) != named_.end()) return;
    named_.push_back(p.leaf());
    p.set_name(path(name));
  }
  void stream(const char* name, RandomStream& s) override { s.set(random_stream(seed_, path(name))); }

  uint64_t seed_;
  std::vector<mica::detail::Leaf*> named_;
};

class Collector final : public Visitor {
 public:
  std::vector<Parameter> found;

 private:
  void parameter(const char*, Parameter& p) override {
    if (std::find(found.begin(), found.end(), p) == found.end()) found.push_back(p);
  }
};

}  // namespace

void name_parameters(Layer& layer, uint64_t seed) {
  Namer namer(seed);
  layer.visit(namer);
}

Shape build(Layer& layer, const Input& input, uint64_t seed) {
  check(layer.defined(), "build", "the layer is empty");
  name_parameters(layer, seed);
  Tape::Pause pause;
  CallScope scope(CallScope::Building{seed});
  const Tensor y = layer.forward(zeros(input.shape.with_first(1), {input.dtype}), scope.call());
  check(y.defined() && y.rank() >= 1, "build", "the layer must return a tensor with a batch axis");
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
