// Tape: the explicit record of what was computed, walked in reverse for gradients.
#pragma once

#include <initializer_list>
#include <new>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "mica/autograd/parameter.h"
#include "mica/core/tensor.h"

namespace MICA_EXPORT mica {

class Gradients;
class Tape;

namespace detail {

struct Record;

/// Where the gradient of one recorded result gathers during backward.
struct GradSlot {
  Tensor gradient;
  Shape shape;
  DType dtype = float32;
  Device device;
  Record* producer = nullptr;
};

/// An input of a record: a result on the same tape, a parameter, or neither (no gradient wanted).
struct Edge {
  GradSlot* slot = nullptr;
  Leaf* leaf = nullptr;
};

struct Saved {
  Tensor tensor;
  uint32_t version = 0;
};

/// One op that ran: what it read, what it made, what it saved, and its gradient function.
struct Record {
  Record* previous = nullptr;
  const char* op = nullptr;
  Edge* inputs = nullptr;
  GradSlot* outputs = nullptr;
  Saved* saved = nullptr;
  void (*gradient)(void* closure, Gradients& g) = nullptr;
  void (*destroy)(void* closure) = nullptr;
  void* closure = nullptr;
  int num_inputs = 0, num_outputs = 0, num_saved = 0;
  bool reached = false;  // backward will come by
};

/// A bump allocator over blocks of the caching allocator.
class Arena {
 public:
  Arena() = default;
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  ~Arena();
  void* allocate(size_t bytes);
  template <class T>
  T* make(int count) {
    T* items = static_cast<T*>(allocate(sizeof(T) * static_cast<size_t>(count)));
    for (int i = 0; i < count; ++i) new (items + i) T();
    return items;
  }

 private:
  struct Chunk {
    Chunk* previous;
    size_t size;
  };
  Chunk* chunk_ = nullptr;
  size_t used_ = 0;
};

}  // namespace detail

/// What an op's gradient function sees: the saved tensors, the gradients of its results, and where those of its inputs
/// go.
class Gradients {
 public:
  /// Where a gradient kernel writes: `tensor` has the input's shape; with `accumulate` the kernel adds to it.
  struct Out {
    Tensor tensor;
    bool accumulate = false;
  };

  /// The gradient of result `i`; undefined when nothing depended on it (never so for an only result).
  const Tensor& dy(int i = 0) const { return record_.outputs[i].gradient; }
  const Tensor& saved(int i) const { return record_.saved[i].tensor; }
  /// Whether anybody wants the gradient of input `i`.
  bool needs(int i) const;
  /// Adds `dx` to the gradient of input `i`.
  void add(int i, Tensor dx);
  /// The gradient of input `i` as a destination: for kernels that can add to what is there.
  Out out(int i);
  /// For a result computed from dy element by element: dy itself where nobody else holds it, else a new tensor like it.
  Tensor in_place_of_dy();

 private:
  friend class Tape;
  Gradients(Tape& tape, detail::Record& record) : tape_(tape), record_(record) {}

  Tape& tape_;
  detail::Record& record_;
};

/// While a Tape is in scope, the ops that this thread runs on parameters, watched tensors and what follows from them
/// are recorded. Tapes nest: the innermost records. A tape belongs to the thread that made it. First-order gradients
/// only.
class Tape {
 public:
  Tape();
  ~Tape();
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  /// Makes `x` an input to which gradient() can be asked. What the tape follows already stays as it is.
  void watch(Tensor& x);

  /// Adds d(loss)/d(parameter) to the gradient of each trainable parameter that `loss` depends on. `loss` has one
  /// element. The record is consumed: a second call throws Error, and so does a saved tensor written to since.
  void backward(const Tensor& loss);

  /// d(y)/d(x) for each of `xs` (watched tensors, trainable parameters' tensors or recorded results), zeros where y
  /// does not depend on it. y has one element. Parameters' own gradients are left alone. Consumes the record.
  Tensors gradient(const Tensor& y, std::span<const Tensor> xs);
  Tensors gradient(const Tensor& y, std::initializer_list<Tensor> xs) {
    return gradient(y, std::span(xs.begin(), xs.size()));
  }

  /// A record during backward, before its gradient function runs: parameters, inputs and dy not yet reduced over the
  /// batch, from which gradients per sample can be had.
  struct Step {
    const char* op;
    std::span<const detail::Saved> saved;  ///< matmul, conv2d: the input, then the kernel
    std::span<const detail::Edge> inputs;  ///< `leaf` tells the parameter
    const Tensor& dy;
  };
  class Observer {
   public:
    virtual ~Observer() = default;
    virtual void observe(const Step& step) = 0;
  };
  /// `observer` is told of each record that backward() or gradient() walks; nullptr: nobody. Set before the forward
  /// pass, it also keeps models from doing two layers' work in one op (conv2d_max_pool2d).
  void set_observer(Observer* observer) { observer_ = observer; }

  /// While it is on, an op whose result is not finite throws Error as it is recorded, and backward() or gradient()
  /// where a gradient is not; the text names the op, the element and, as any error does, the layer. PyTorch's
  /// detect_anomaly, for infinities too. It looks at each number once more; off, as at first, it costs nothing.
  void set_detect_anomaly(bool on) { detect_anomaly_ = on; }
  /// Whether somebody looks at each op by itself, so that none should do the work of two.
  bool looks_at_ops() const { return observer_ != nullptr || detect_anomaly_; }

  /// The tape that records on this thread, or nullptr.
  static Tape* current();

  /// The current tape, if it has to record an op on these inputs; else nullptr.
  template <class... Inputs>
  static Tape* recording(const Inputs&... inputs) {
    Tape* tape = current();
    return tape && (tape->wants(inputs) || ...) ? tape : nullptr;
  }

  /// Records `op`. `gradient` is a callable `void(Gradients&)`; `saved` are the tensors that it reads. Undefined inputs
  /// are allowed and want no gradient. The results in `outputs` become known to the tape.
  template <class F>
  void record(const char* op, std::initializer_list<const Tensor*> inputs, std::initializer_list<Tensor*> outputs,
              std::initializer_list<const Tensor*> saved, F gradient) {
    detail::Record* r =
        begin(op, {inputs.begin(), inputs.size()}, {outputs.begin(), outputs.size()}, {saved.begin(), saved.size()});
    set_gradient(r, std::move(gradient));
  }
  template <class F>
  void record(const char* op, std::span<const Tensor* const> inputs, Tensor& output, F gradient) {
    Tensor* out = &output;
    set_gradient(begin(op, inputs, {&out, 1}, {}), std::move(gradient));
  }

  /// The record that made `x` on this tape, or nullptr.
  const detail::Record* producer(const Tensor& x) const;
  /// Calls f(leaf) for each use of a trainable parameter that is recorded.
  template <class F>
  void for_each_leaf(F f) const {
    for (const detail::Record* r = last_; r; r = r->previous)
      for (int i = 0; i < r->num_inputs; ++i)
        if (r->inputs[i].leaf) f(*r->inputs[i].leaf);
  }
  /// What makes a tensor the one whose gradient gathers in `slot`.
  detail::Provenance provenance(detail::GradSlot* slot) const { return {id_, slot}; }
  /// Whether this tape follows `x`: a trainable parameter, a watched tensor, or a result of one.
  bool wants(const Tensor& x) const;

  /// Stops recording on this thread while in scope.
  class Pause {
   public:
    Pause();
    ~Pause();
    Pause(const Pause&) = delete;
    Pause& operator=(const Pause&) = delete;

   private:
    Tape* previous_;
  };

 private:
  friend class Gradients;
  struct Wanted;  // the parameters that gradient() was asked for

  detail::Record* begin(const char* op, std::span<const Tensor* const> inputs, std::span<Tensor* const> outputs,
                        std::span<const Tensor* const> saved);
  template <class F>
  void set_gradient(detail::Record* r, F gradient) {
    static_assert(alignof(F) <= 16);
    r->closure = new (arena_.allocate(sizeof(F))) F(std::move(gradient));
    r->gradient = [](void* f, Gradients& g) { (*static_cast<F*>(f))(g); };
    if constexpr (!std::is_trivially_destructible_v<F>) r->destroy = [](void* f) { static_cast<F*>(f)->~F(); };
  }
  void walk(const Tensor& y, const char* op);
  void check_results(const char* op, std::span<const Tensor* const> inputs, std::span<Tensor* const> outputs) const;
  void check_gradients(const Gradients& g, const detail::Record& r) const;
  void mark_reached(const detail::GradSlot& start) const;
  void release(detail::Record& r) noexcept;

  uint64_t id_;
  Tape* outer_;
  detail::Record* last_ = nullptr;
  detail::Arena arena_;
  Wanted* wanted_ = nullptr;
  Observer* observer_ = nullptr;
  bool consumed_ = false;
  bool detect_anomaly_ = false;
};

/// An op of one's own, called `name` (a literal: the pointer is kept): `forward()` computes the result unrecorded;
/// `gradient(dy)` returns the gradient of the only input, or Tensors with one gradient for each input.
template <class Forward, class Gradient>
Tensor custom_op(const char* name, std::initializer_list<Tensor> inputs, Forward forward, Gradient gradient) {
  Tensor y;
  {
    Tape::Pause pause;
    y = forward();
  }
  Tape* tape = Tape::current();
  std::vector<const Tensor*> pointers;
  bool wanted = false;
  for (const Tensor& x : inputs) {
    pointers.push_back(&x);
    wanted = wanted || (tape && tape->wants(x));
  }
  if (!wanted) return y;
  tape->record(name, pointers, y, [name, count = static_cast<int>(pointers.size()), gradient](Gradients& g) {
    if constexpr (std::is_convertible_v<decltype(gradient(g.dy())), Tensor>) {
      check(count == 1, name, "the gradient function returns one tensor for ", count, " inputs");
      g.add(0, gradient(g.dy()));
    } else {
      Tensors dxs = gradient(g.dy());
      check(static_cast<int>(dxs.size()) == count, name, "the gradient function returned ", dxs.size(), " tensors for ",
            count, " inputs");
      for (int i = 0; i < count; ++i)
        if (g.needs(i)) g.add(i, std::move(dxs[static_cast<size_t>(i)]));
    }
  });
  return y;
}

}  // namespace mica
