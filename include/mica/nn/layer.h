// Layers: what they are, how they are called, visited and type-erased.
#pragma once

#include <atomic>
#include <concepts>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <typeinfo>
#include <utility>
#include <vector>

#include "mica/autograd/parameter.h"
#include "mica/core/tensor.h"
#include "mica/nn/init.h"
#include "mica/nn/regularizer.h"
#include "mica/ops/conv.h"

namespace MICA_EXPORT mica {
namespace nn {

class Activation;
class KeyValueCache;
class Layer;
class Symbol;
class Visitor;

/// How a model is called: `automatic` trains while a tape records and infers otherwise.
enum class Mode : unsigned char { automatic, training, inference };

/// Overrides the mode of the calls on this thread while in scope: gradients through frozen statistics (inference under
/// a tape), Monte Carlo dropout (training without one).
class ModeScope {
 public:
  explicit ModeScope(Mode mode);
  ~ModeScope();
  ModeScope(const ModeScope&) = delete;
  ModeScope& operator=(const ModeScope&) = delete;

 private:
  Mode previous_;
};

/// The random numbers of one layer: a handle that a build keys by the seed and the layer's path.
class RandomStream {
 public:
  RandomStream() : state_(std::make_shared<State>()) {}
  RandomKey key(uint64_t step) const { return {state_->stream, step}; }
  void set(uint64_t stream) const { state_->stream = stream; }
  const void* id() const { return state_.get(); }  ///< copies have the same

 private:
  struct State {
    uint64_t stream = 0;
  };
  std::shared_ptr<State> state_;
};

/// A tensor that is saved with the model but not trained (batch statistics): a handle, as Parameter is.
class Buffer {
 public:
  Buffer() : tensor_(std::make_shared<Tensor>()) {}
  explicit Buffer(Tensor value) : tensor_(std::make_shared<Tensor>(std::move(value))) {}
  Tensor& value() const { return *tensor_; }

 private:
  std::shared_ptr<Tensor> tensor_;
};

/// What a layer keeps from one call to the next (the states of a stateful network): a handle, empty at first. It is not
/// trained and not saved; Model::reset_state() empties it.
class Carry {
 public:
  Carry() : tensors_(std::make_shared<Tensors>()) {}
  Tensors& value() const { return *tensors_; }

 private:
  std::shared_ptr<Tensors> tensors_;
};

/// What a layer is told when it is called. Nested layers share the outermost call's.
class Call {
 public:
  bool training() const { return training_; }
  /// The number of the training step.
  uint64_t step() const { return step_; }
  /// What keys the next random numbers of `stream` in this call: others each time that it is asked.
  RandomKey key(const RandomStream& stream);
  /// Whether this call infers sizes: layers then make their parameters by parameter().
  bool building() const { return building_; }

  /// The parameter's tensor. In a building call one that is not there yet gets its values. Throws Error when the layer
  /// is not built, was built for another shape, or does not list the parameter in visit().
  Tensor parameter(const Parameter& p, const Shape& shape, Initializer initializer);
  /// Likewise of a buffer.
  Tensor& buffer(const Buffer& b, const Shape& shape, Initializer initializer);

  /// Which steps of the layer's input [B, T, ...] count: uint8 [B, T], 0 for padding; undefined where all of them do.
  /// Masking and Embedding make masks, recurrent layers, attention and pools over time mind them. Models hand them on
  /// from layer to layer while results keep the axes B and T. Of several inputs (`input` > 0) each may have one.
  const Tensor& mask(size_t input = 0) const;
  /// Says it of the layer's result; an undefined mask ends it.
  void set_mask(Tensor mask) { mask_ = std::move(mask); }
  /// Ends the mask when y, made of an input of that rank, has not kept its axes.
  void keep_mask(int input_rank, const Tensor& y);

  /// Where attention keeps the keys and values of the steps so far, or nullptr: see KeyValueCache.
  KeyValueCache* cache() const { return cache_; }
  /// The position in its sequence of the input's first step: 0, or the number of steps in the cache.
  int64_t position() const;
  /// For layers whose result for a step depends on other steps: throws Error in a call with a cache, which has the new
  /// steps alone.
  void needs_whole_sequences(const char* op) const;

  /// The call under way on this thread, or nullptr.
  static Call* current();

 private:
  friend class CallScope;
  friend class Graph;
  static constexpr int kStreams = 64;
  struct Draws {
    const void* stream = nullptr;
    uint64_t count = 0;
  };

  bool training_ = false;
  bool building_ = false;
  uint64_t step_ = 0;
  uint64_t seed_ = 0;
  Device device_;  // of what is built
  Tensor mask_;
  std::span<const Tensor> other_masks_;  // of the inputs behind the first
  KeyValueCache* cache_ = nullptr;
  Draws draws_[kStreams];  // the last is shared by all streams that find no other
};

/// Begins a call on this thread, or joins the one under way.
class CallScope {
 public:
  CallScope();
  /// Likewise; `steps` counts the training calls.
  explicit CallScope(std::atomic<uint64_t>& steps);
  /// A call of its own.
  struct Inference {};
  explicit CallScope(Inference);
  struct Training {
    uint64_t step;
    uint64_t seed;  // mixed into the layers' random numbers
  };
  explicit CallScope(Training training);
  struct Building {
    uint64_t seed;
    Device device = default_device();  // of what the layers make
  };
  explicit CallScope(Building building);
  /// Likewise in inference, of the steps behind those in the cache.
  explicit CallScope(KeyValueCache& cache);
  ~CallScope();
  CallScope(const CallScope&) = delete;
  CallScope& operator=(const CallScope&) = delete;

  Call& call() { return *active_; }

 private:
  Call own_;
  Call* active_;
  Call* previous_;
};

namespace detail {

// The ways in which a type can say how inputs become outputs.
template <class T>
concept ForwardsMany = requires(const T& t, std::span<const Tensor> xs, Call& call) {
  { t.forward(xs, call) } -> std::convertible_to<Tensors>;
};
template <class T>
concept ForwardsJoined = requires(const T& t, std::span<const Tensor> xs, Call& call) {
  { t.forward(xs, call) } -> std::convertible_to<Tensor>;
};
template <class T>
concept ForwardsOne = requires(const T& t, const Tensor& x, Call& call) {
  { t.forward(x, call) } -> std::convertible_to<Tensor>;
};
template <class T>
concept Callable = requires(const T& t, const Tensor& x) {
  { t(x) } -> std::convertible_to<Tensor>;
};

std::string readable_type(const char* mangled);
[[noreturn]] void wrong_input_count(size_t count);

template <class T>
Tensors forward(const T& layer, std::span<const Tensor> xs, Call& call) {
  if constexpr (ForwardsMany<T>) {
    return layer.forward(xs, call);
  } else if constexpr (ForwardsJoined<T>) {
    return {layer.forward(xs, call)};
  } else {
    if (xs.size() != 1) wrong_input_count(xs.size());
    if constexpr (ForwardsOne<T>)
      return {layer.forward(xs[0], call)};
    else
      return {layer(xs[0])};
  }
}

// The usual case of one input and one output, without a vector: a warm step allocates nothing.
template <class T>
Tensor forward(const T& layer, const Tensor& x, Call& call) {
  if constexpr (ForwardsOne<T>)
    return layer.forward(x, call);
  else if constexpr (ForwardsJoined<T>)
    return layer.forward(std::span(&x, 1), call);
  else if constexpr (ForwardsMany<T>)
    return layer.forward(std::span(&x, 1), call).at(0);
  else
    return layer(x);
}

// Several inputs, one output: likewise without a vector.
template <class T>
Tensor join(const T& layer, std::span<const Tensor> xs, Call& call) {
  if constexpr (ForwardsJoined<T>) {
    return layer.forward(xs, call);
  } else if constexpr (ForwardsMany<T>) {
    if constexpr (ForwardsOne<T>)
      if (xs.size() == 1) return layer.forward(xs[0], call);
    return layer.forward(xs, call).at(0);
  } else {
    if (xs.size() != 1) wrong_input_count(xs.size());
    return detail::forward(layer, xs[0], call);
  }
}

// What a layer will make of values that are not there yet (functional.h).
Symbol symbolic(Layer layer, std::span<const Symbol> xs);

}  // namespace detail

/// What can be a layer: it is called (`Tensor operator()(const Tensor&) const`, or forward() with a Call) and lists its
/// parameters, buffers, children and configuration in visit().
template <class T>
concept LayerLike = (detail::ForwardsMany<T> || detail::ForwardsJoined<T> || detail::ForwardsOne<T> ||
                     detail::Callable<T>)&&requires(T& t, Visitor& v) {
  t.visit(v);
};

/// Walks a layer. A layer's visit() calls it once for each thing that it owns, in a fixed order: that one list serves
/// building, saving, loading, moving, cloning, freezing and the summary. Visitors override what they care for.
class Visitor {
 public:
  virtual ~Visitor();

  void operator()(const char* name, Parameter& p) { parameter(name, p); }
  void operator()(const char* name, Buffer& b) { buffer(name, b); }
  void operator()(const char* name, RandomStream& s) { stream(name, s); }
  void operator()(const char* name, Carry& c) { carry(name, c); }
  void operator()(const char* name, int64_t& value) { config(name, value); }
  void operator()(const char* name, double& value) { config(name, value); }
  void operator()(const char* name, bool& value) { config(name, value); }
  void operator()(const char* name, std::string& value) { config(name, value); }
  void operator()(const char* name, Shape& value) { config(name, value); }
  void operator()(const char* name, Size2& value) { config(name, value); }
  void operator()(const char* name, Padding& value) { config(name, value); }
  void operator()(const char* name, Activation& value) { config(name, value); }
  void operator()(const char* name, Initializer& value) { config(name, value); }
  void operator()(const char* name, Regularizer& value) { config(name, value); }
  void operator()(const char* name, Layer& value) { layer(name, value); }
  /// Children in a row: "blocks.0", "blocks.1", ...
  template <LayerLike T>
  void operator()(const char* name, std::vector<T>& values) {
    enter(name);
    for (size_t i = 0; i < values.size(); ++i) (*this)(std::to_string(i).c_str(), values[i]);
    leave();
  }
  /// A child by value.
  template <class T>
    requires requires(T& t, Visitor& v) { t.visit(v); }
  void operator()(const char* name, T& value) {
    enter(name);
    value.visit(*this);
    leave();
  }
  /// Whether what is visited is to become a copy of its own: handles (models) then let go of what they share.
  virtual bool clones() const { return false; }

 protected:
  virtual void parameter(const char*, Parameter&) {}
  virtual void stream(const char*, RandomStream&) {}
  virtual void carry(const char*, Carry&) {}
  virtual void buffer(const char*, Buffer&) {}
  virtual void config(const char*, int64_t&) {}
  virtual void config(const char*, double&) {}
  virtual void config(const char*, bool&) {}
  virtual void config(const char*, std::string&) {}
  virtual void config(const char*, Shape&) {}
  virtual void config(const char*, Size2&) {}
  virtual void config(const char*, Padding&) {}
  virtual void config(const char*, Activation&) {}
  virtual void config(const char*, Initializer&) {}
  virtual void config(const char*, Regularizer&) {}
  /// A type-erased child; as it stands, it is entered and visited.
  virtual void layer(const char* name, Layer& value);
  virtual void enter(const char*) {}
  virtual void leave() {}
};

/// A type-erased layer; copies share it.
class Layer {
 public:
  Layer() = default;
  template <class T>
    requires(!std::same_as<std::remove_cvref_t<T>, Layer> && LayerLike<std::remove_cvref_t<T>>)
  Layer(T&& layer) : held_(std::make_shared<Holder<std::remove_cvref_t<T>>>(std::forward<T>(layer))) {}

  Tensors forward(std::span<const Tensor> xs, Call& call) const { return held().forward(xs, call); }
  Tensor forward(const Tensor& x, Call& call) const { return held().forward(x, call); }
  /// Of several inputs, the first output.
  Tensor join(std::span<const Tensor> xs, Call& call) const { return held().join(xs, call); }
  Tensor operator()(const Tensor& x) const;
  Tensor operator()(std::initializer_list<Tensor> xs) const;
  /// In a functional model: what this layer makes of others' results. Calls of one Layer share its parameters.
  Symbol operator()(const Symbol& x) const;
  Symbol operator()(std::initializer_list<Symbol> xs) const;
  void visit(Visitor& v) { held().visit(v); }
  /// "Conv2D"; for a type without kType, its C++ name.
  std::string type() const { return held().type(); }
  const std::type_info& type_info() const { return held().type_info(); }
  /// A copy that shares the parameters (Model::clone gives it its own).
  Layer copy() const { return Layer(held().copy()); }
  bool defined() const { return held_ != nullptr; }
  /// The held layer if it is a T, else nullptr.
  template <class T>
  T* as() const {
    auto* holder = dynamic_cast<Holder<T>*>(held_.get());
    return holder ? &holder->layer : nullptr;
  }
  friend bool operator==(const Layer& a, const Layer& b) { return a.held_ == b.held_; }

 private:
  struct Held {
    virtual ~Held() = default;
    virtual Tensors forward(std::span<const Tensor> xs, Call& call) const = 0;
    virtual Tensor forward(const Tensor& x, Call& call) const = 0;
    virtual Tensor join(std::span<const Tensor> xs, Call& call) const = 0;
    virtual void visit(Visitor& v) = 0;
    virtual std::string type() const = 0;
    virtual const std::type_info& type_info() const = 0;
    virtual std::shared_ptr<Held> copy() const = 0;
  };
  template <class T>
  struct Holder final : Held {
    explicit Holder(T value) : layer(std::move(value)) {}
    Tensors forward(std::span<const Tensor> xs, Call& call) const override { return detail::forward(layer, xs, call); }
    Tensor forward(const Tensor& x, Call& call) const override { return detail::forward(layer, x, call); }
    Tensor join(std::span<const Tensor> xs, Call& call) const override { return detail::join(layer, xs, call); }
    void visit(Visitor& v) override { layer.visit(v); }
    std::string type() const override {
      if constexpr (requires { T::kType; })
        return T::kType;
      else
        return detail::readable_type(typeid(T).name());
    }
    const std::type_info& type_info() const override { return typeid(T); }
    std::shared_ptr<Held> copy() const override { return std::make_shared<Holder>(layer); }
    T layer;
  };
  explicit Layer(std::shared_ptr<Held> held) : held_(std::move(held)) {}
  Held& held() const {
    check(held_ != nullptr, "layer", "the layer is empty");
    return *held_;
  }

  std::shared_ptr<Held> held_;
};

/// Gives a layer that has forward() the sugar of a call: `Tensor y = layer(x)` or `layer({a, b})`, alone or inside of
/// another layer, and the same of Symbols in a functional model.
template <class T>
class Module {
 public:
  Tensor operator()(const Tensor& x) const {
    CallScope scope;
    return detail::forward(static_cast<const T&>(*this), x, scope.call());
  }
  Tensor operator()(std::initializer_list<Tensor> xs) const {
    CallScope scope;
    return detail::join(static_cast<const T&>(*this), std::span(xs.begin(), xs.size()), scope.call());
  }
  template <std::same_as<Symbol> S>
  S operator()(const S& x) const {
    return detail::symbolic(Layer(static_cast<const T&>(*this)), {&x, 1});
  }
  template <std::same_as<Symbol> S = Symbol>
  S operator()(std::initializer_list<S> xs) const {
    return detail::symbolic(Layer(static_cast<const T&>(*this)), {xs.begin(), xs.size()});
  }
};

/// What a model is fed: the shape of one example (without the batch axis) and its dtype. Not a layer: it lets a model
/// infer its sizes when it is made.
struct Input {
  Shape shape;
  DType dtype = float32;
  std::string name = {};  ///< in saved models and summaries; "input", "input_1", ... where it is empty

  Input() = default;
  Input(Shape example, DType type = float32, std::string called = {})
      : shape(example), dtype(type), name(std::move(called)) {}
};

/// Makes a layer's parameters by calling it once, unrecorded, on a batch of one example of zeros, then names and packs
/// them. Models do it by themselves; it is for layers used alone. Returns the shape of an output, without the batch
/// axis.
Shape build(Layer& layer, const Input& input, uint64_t seed = mica::seed());
/// Likewise of a layer with several inputs.
Shape build(Layer& layer, std::span<const Input> inputs, uint64_t seed = mica::seed());
template <LayerLike T>
Shape build(T& layer, const Shape& input, uint64_t seed = mica::seed()) {
  Layer erased(layer);  // a copy: it shares the parameters
  return build(erased, Input{input}, seed);
}

/// The parameters that visit() lists, each once, in order.
std::vector<Parameter> parameters(Layer& layer);
template <LayerLike T>
std::vector<Parameter> parameters(T& layer) {
  Layer erased(layer);
  return parameters(erased);
}

/// Lets models with a T be saved and loaded, under T::kType or `name`. T must have a default constructor. Throws Error
/// when another type has the name.
void register_layer(const std::string& name, const std::type_info& type, Layer (*make)());
template <class T>
void register_layer(const char* name) {
  register_layer(
      name, typeid(T), +[]() -> Layer { return T{}; });
}
template <class T>
void register_layer() {
  register_layer<T>(T::kType);
}

}  // namespace nn
}  // namespace mica
