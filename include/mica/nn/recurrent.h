// RNN, LSTM and GRU: layers over sequences, their cells for loops written by hand, and Bidirectional.
#pragma once

#include "mica/nn/activation.h"
#include "mica/nn/layer.h"
#include "mica/ops/recurrent.h"

namespace MICA_EXPORT mica {
namespace nn {

struct RecurrentOptions {
  bool return_sequences = false;  ///< [B,T,units], the state after each step; else [B,units], after the last
  bool return_state = false;      ///< besides the result the last state h and, of an LSTM, c: more outputs
  bool go_backwards = false;      ///< from the last step to the first; results stay at their steps
  /// Each call goes on from the last state of the one before, of as many sequences, whose gradient ends there:
  /// truncated backpropagation through time. fit, evaluate and predict begin from zeros (fit each epoch), which takes
  /// a batch_size that divides the examples, and of fit no shuffle; so does what follows Model::reset_state(). A
  /// stateful model is one thread's, predict included.
  bool stateful = false;
  bool use_bias = true;
  double dropout = 0;            ///< in training: of the features of x, for all steps of a sequence the same
  double recurrent_dropout = 0;  ///< likewise of h, where it is multiplied with the recurrent kernel
  Activation activation = tanh;  ///< of an RNN: tanh or relu
  double forget_bias = 1;        ///< of an LSTM: what the forget gate's bias begins with; Jozefowicz et al., ICML 2015
  bool reset_after = true;       ///< of a GRU: see gru()
  Initializer kernel_initializer = init::glorot_uniform;
  Initializer recurrent_initializer = init::orthogonal();
  Initializer bias_initializer = init::zeros;
  Regularizer kernel_regularizer = {};
  Regularizer recurrent_regularizer = {};
  Regularizer bias_regularizer = {};
};

/// The state of a network between two steps, [B,units] each; c is an LSTM's. Undefined: zeros, or what a stateful layer
/// has kept.
struct RecurrentState {
  Tensor h = {}, c = {};
};

namespace detail {

// What the recurrent layers are: which of the three, their options and parameters.
class Recurrent {
 public:
  Recurrent(RecurrentKind kind, int64_t units, RecurrentOptions options);

  /// The layer's result for [B,T,features], and behind it the last state if that is returned. Behind the sequences, the
  /// inputs may hold the first state: {x, h} or, of an LSTM, {x, h, c}.
  Tensors forward(std::span<const Tensor> xs, Call& call) const;
  Tensor forward(const Tensor& x, Call& call) const;
  /// All that there is: the states after each step, whatever the options return, and the last one, from a first state.
  /// A mask [B,T] (uint8) tells steps that count from padding.
  RecurrentResult run(const Tensor& x, const RecurrentState& first = {}, const Tensor& mask = {}) const;

  void visit(Visitor& v);

  const Parameter& kernel() const { return kernel_; }                      ///< [features, gates * units]
  const Parameter& recurrent_kernel() const { return recurrent_kernel_; }  ///< [units, gates * units]
  const Parameter& bias() const { return bias_; }                          ///< [gates * units]
  const Parameter& recurrent_bias() const { return recurrent_bias_; }      ///< of a GRU with reset_after: [3 * units]
  const RecurrentOptions& options() const { return options_; }
  int64_t units() const { return units_; }
  RecurrentKind kind() const { return kind_; }

 protected:
  RecurrentResult run(const Tensor& x, const RecurrentState& first, const Tensor& mask, Call& call) const;
  Tensor result(const RecurrentResult& r, Call& call) const;
  /// What stands behind x in a layer's inputs.
  RecurrentState state_of(std::span<const Tensor> xs) const;
  void check_options() const;
  const char* name() const;

  RecurrentKind kind_;
  int64_t units_ = 1;
  RecurrentOptions options_;
  Parameter kernel_, recurrent_kernel_, bias_, recurrent_bias_;
  RandomStream dropout_, recurrent_dropout_;
  Carry carry_;
};

// A layer of one cell.
template <class Derived, RecurrentKind kKind>
class RecurrentLayer : public Module<Derived>, public Recurrent {
 public:
  RecurrentLayer() : Recurrent(kKind, 1, {}) {}
  explicit RecurrentLayer(int64_t units, RecurrentOptions options = {}) : Recurrent(kKind, units, options) {}
  /// One of its kind that goes the other way, with parameters of its own.
  Derived reversed() const {
    RecurrentOptions other = options_;
    other.go_backwards = !other.go_backwards;
    return Derived(units_, other);
  }
};

// The step of such a layer.
template <class Derived, RecurrentKind kKind>
class RecurrentCell : public Module<Derived>, public Recurrent {
 public:
  RecurrentCell() : Recurrent(kKind, 1, {}) {}
  explicit RecurrentCell(int64_t units, RecurrentOptions options = {}) : Recurrent(kKind, units, options) {}
  /// With the parameters of a layer of its kind.
  explicit RecurrentCell(const Recurrent& layer) : Recurrent(layer) {
    check(layer.kind() == kKind, name(), "a cell of another kind cannot share its parameters");
    options_.stateful = false;
    carry_ = {};
  }
  /// The state after one more step, x [B,features].
  RecurrentState operator()(const Tensor& x, const RecurrentState& state) const {
    const RecurrentResult r = run(step(x), state);
    return {r.h, r.c};
  }
  using Module<Derived>::operator();
  /// h after a first step.
  Tensor forward(const Tensor& x, Call& call) const { return Recurrent::run(step(x), {}, {}, call).h; }
  /// {x, h} or {x, h, c} give the next {h} or {h, c}.
  Tensors forward(std::span<const Tensor> xs, Call& call) const {
    const RecurrentState state = state_of(xs);
    const RecurrentResult r = Recurrent::run(step(xs[0]), state, {}, call);
    return r.c.defined() ? Tensors{r.h, r.c} : Tensors{r.h};
  }

 private:
  Tensor step(const Tensor& x) const {
    check(x.rank() == 2, name(), "the input of a cell must be [batch, features], got ", x.shape());
    return x.reshape({x.dim(0), 1, x.dim(1)});
  }
};

}  // namespace detail

/// Elman's network, the LSTM and the GRU, over sequences [B,T,features]; see rnn(), lstm() and gru() for the
/// equations, the order of the gates and the sources. Throws Error unless units >= 1 and the rates of dropout are in
/// [0, 1), and for what only another of them knows.
///   nn::LSTM(64, {.return_sequences = true})
/// Steps that are masked (Call::mask) leave the state as it is. In a functional model the first state may be given,
/// `nn::LSTM(64)({x, h, c})`, and the last one taken: with .return_state outputs 1 and 2 are h and c. In code of one's
/// own, run(x, state, mask) gives all of it.
class RNN : public detail::RecurrentLayer<RNN, RecurrentKind::rnn> {
 public:
  static constexpr const char* kType = "RNN";
  using RecurrentLayer::RecurrentLayer;
};
class LSTM : public detail::RecurrentLayer<LSTM, RecurrentKind::lstm> {
 public:
  static constexpr const char* kType = "LSTM";
  using RecurrentLayer::RecurrentLayer;
};
class GRU : public detail::RecurrentLayer<GRU, RecurrentKind::gru> {
 public:
  static constexpr const char* kType = "GRU";
  using RecurrentLayer::RecurrentLayer;
};

/// One step of them, for loops written by hand: `state = cell(x, state)`. The numbers are those of the layer, whose
/// parameters a cell can share: `nn::LSTMCell cell(lstm)`; but for dropout, which each step draws anew. A batch axis,
/// no time: x [B,features].
class RNNCell : public detail::RecurrentCell<RNNCell, RecurrentKind::rnn> {
 public:
  static constexpr const char* kType = "RNNCell";
  using RecurrentCell::RecurrentCell;
};
class LSTMCell : public detail::RecurrentCell<LSTMCell, RecurrentKind::lstm> {
 public:
  static constexpr const char* kType = "LSTMCell";
  using RecurrentCell::RecurrentCell;
};
class GRUCell : public detail::RecurrentCell<GRUCell, RecurrentKind::gru> {
 public:
  static constexpr const char* kType = "GRUCell";
  using RecurrentCell::RecurrentCell;
};

struct BidirectionalOptions {
  std::string merge = "concat";  ///< of the two results: concat, sum, mul or ave
};

/// A recurrent layer and one of its kind that goes the other way, their results put together: nn::Bidirectional(
/// nn::LSTM(64)). States that are returned are outputs 1 and on: those of the layer, then those of the other.
/// Schuster, Paliwal, "Bidirectional recurrent neural networks", 1997.
class Bidirectional : public Module<Bidirectional> {
 public:
  static constexpr const char* kType = "Bidirectional";

  Bidirectional() = default;
  /// Throws Error for another merge.
  template <class T>
    requires requires(const T& t) {
      { t.reversed() } -> std::same_as<T>;
    }
  explicit Bidirectional(T layer, BidirectionalOptions options = {})
      : forward_(layer), backward_(layer.reversed()), options_(std::move(options)) {
    check_merge();
  }

  Tensor forward(const Tensor& x, Call& call) const;
  Tensors forward(std::span<const Tensor> xs, Call& call) const;
  void visit(Visitor& v) {
    v("merge", options_.merge);
    v("forward", forward_);
    v("backward", backward_);
  }

  const Layer& forward_layer() const { return forward_; }
  const Layer& backward_layer() const { return backward_; }

 private:
  void check_merge() const;
  Tensor merged(const Tensor& a, const Tensor& b) const;

  Layer forward_, backward_;
  BidirectionalOptions options_;
};

}  // namespace nn
}  // namespace mica
