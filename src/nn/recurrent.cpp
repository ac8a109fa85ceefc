// Recurrent layers: parameters, dropout, states that are kept.
#include "mica/nn/recurrent.h"

#include "mica/ops/dropout.h"
#include "mica/ops/manipulate.h"

namespace MICA_EXPORT mica {
namespace nn {

namespace detail {

Recurrent::Recurrent(RecurrentKind kind, int64_t units, RecurrentOptions options)
    : kind_(kind), units_(units), options_(options) {
  check_options();
}

const char* Recurrent::name() const {
  return kind_ == RecurrentKind::rnn ? "rnn" : kind_ == RecurrentKind::lstm ? "lstm" : "gru";
}

void Recurrent::check_options() const {
  check(units_ >= 1, name(), "there must be at least 1 unit, got ", units_);
  const auto rate = [&](const char* what, double value) {
    check(value >= 0 && value < 1, name(), what, " must be in [0, 1), got ", value);
  };
  rate("dropout", options_.dropout);
  rate("recurrent_dropout", options_.recurrent_dropout);
  const UnaryOp op = options_.activation.op();
  check(op == UnaryOp::tanh || (op == UnaryOp::relu && kind_ == RecurrentKind::rnn), name(),
        kind_ == RecurrentKind::rnn ? "the activation must be tanh or relu" : "the activation is an RNN's to choose");
  check(options_.reset_after || kind_ == RecurrentKind::gru, name(), "reset_after is of GRU");
  check(options_.forget_bias == 1 || kind_ == RecurrentKind::lstm, name(), "forget_bias is of LSTM");
}

void Recurrent::visit(Visitor& v) {
  v("units", units_);
  v("return_sequences", options_.return_sequences);
  v("return_state", options_.return_state);
  v("go_backwards", options_.go_backwards);
  v("stateful", options_.stateful);
  v("use_bias", options_.use_bias);
  v("dropout", options_.dropout);
  v("recurrent_dropout", options_.recurrent_dropout);
  if (kind_ == RecurrentKind::rnn) v("activation", options_.activation);
  if (kind_ == RecurrentKind::lstm) v("forget_bias", options_.forget_bias);
  if (kind_ == RecurrentKind::gru) v("reset_after", options_.reset_after);
  v("kernel_initializer", options_.kernel_initializer);
  v("recurrent_initializer", options_.recurrent_initializer);
  v("bias_initializer", options_.bias_initializer);
  v("kernel_regularizer", options_.kernel_regularizer);
  v("recurrent_regularizer", options_.recurrent_regularizer);
  v("bias_regularizer", options_.bias_regularizer);
  v("kernel", kernel_);
  v("recurrent_kernel", recurrent_kernel_);
  if (options_.use_bias) v("bias", bias_);
  if (options_.use_bias && kind_ == RecurrentKind::gru && options_.reset_after) v("recurrent_bias", recurrent_bias_);
  v("dropout_stream", dropout_);
  v("recurrent_dropout_stream", recurrent_dropout_);
  v("state", carry_);
}

RecurrentResult Recurrent::run(const Tensor& x, const RecurrentState& first, const Tensor& mask, Call& call) const {
  check_options();  // a loaded layer has not been through the constructor
  check(x.rank() == 3, name(), "the input must be [batch, time, features], got ", x.shape());
  int64_t width = 0;
  check(!__builtin_mul_overflow(gates_of(kind_), units_, &width), name(), "there are too many units: ", units_);
  RecurrentInputs in;
  in.x = x;
  in.kernel = call.parameter(kernel_, {x.dim(2), width}, options_.kernel_initializer);
  in.recurrent_kernel = call.parameter(recurrent_kernel_, {units_, width}, options_.recurrent_initializer);
  if (options_.use_bias) {
    const bool made = !bias_.defined();
    in.bias = call.parameter(bias_, {width}, options_.bias_initializer);
    if (made && kind_ == RecurrentKind::lstm)  // gates i, f, g, o
      bias_.value().slice(units_, 2 * units_).copy_from(full({units_}, options_.forget_bias));
    if (kind_ == RecurrentKind::gru && options_.reset_after)
      in.recurrent_bias = call.parameter(recurrent_bias_, {width}, options_.bias_initializer);
  }
  in.h = first.h;
  in.c = first.c;
  in.mask = mask;
  in.reverse = options_.go_backwards;
  const auto ones_dropped = [&](int64_t columns, double rate, const RandomStream& stream) {
    return mica::dropout(ones({x.dim(0), columns}, {x.dtype(), x.device()}), rate, call.key(stream));
  };
  if (call.training() && options_.dropout > 0)
    in.x = x * expand_dims(ones_dropped(x.dim(2), options_.dropout, dropout_), 1);
  if (call.training() && options_.recurrent_dropout > 0)
    in.recurrent_dropout = ones_dropped(units_, options_.recurrent_dropout, recurrent_dropout_);
  const bool carries = options_.stateful && !call.building();
  if (!carries && !in.h.defined()) call.needs_whole_sequences(name());
  if (carries && !in.h.defined() && !carry_.value().empty()) {
    const Tensors& kept = carry_.value();
    check(kept.size() == (kind_ == RecurrentKind::lstm ? 2 : 1) && kept[0].rank() == 2, name(),
          "the kept state is not its own");
    check(kept[0].dim(0) == x.dim(0), name(),
          "a stateful layer goes on with as many sequences as before: ", kept[0].dim(0), ", got ", x.dim(0),
          "; reset_state() begins anew, and the batch size of fit must divide the examples");
    in.h = kept[0];
    if (kind_ == RecurrentKind::lstm) in.c = kept[1];
  }
  const RecurrentResult r = kind_ == RecurrentKind::rnn    ? rnn(in, options_.activation.op())
                            : kind_ == RecurrentKind::lstm ? lstm(in)
                                                           : gru(in, options_.reset_after);
  if (carries) {
    Tensors& kept = carry_.value();
    kept.resize(kind_ == RecurrentKind::lstm ? 2 : 1);
    kept[0] = r.h.detach();
    if (kind_ == RecurrentKind::lstm) kept[1] = r.c.detach();
  }
  return r;
}

RecurrentResult Recurrent::run(const Tensor& x, const RecurrentState& first, const Tensor& mask) const {
  CallScope scope;
  return run(x, first, mask, scope.call());
}

Tensor Recurrent::result(const RecurrentResult& r, Call& call) const {
  if (options_.return_sequences) return r.y;
  call.set_mask(Tensor());  // there are no steps any more
  return r.h;
}

Tensor Recurrent::forward(const Tensor& x, Call& call) const { return result(run(x, {}, call.mask(), call), call); }

RecurrentState Recurrent::state_of(std::span<const Tensor> xs) const {
  const size_t states = kind_ == RecurrentKind::lstm ? 2 : 1;
  check(xs.size() == 1 || xs.size() == 1 + states, name(), "the inputs are x and the state, ",
        static_cast<uint64_t>(1 + states), ", or x alone, got ", static_cast<uint64_t>(xs.size()));
  return {xs.size() > 1 ? xs[1] : Tensor(), xs.size() > 2 ? xs[2] : Tensor()};
}

Tensors Recurrent::forward(std::span<const Tensor> xs, Call& call) const {
  const RecurrentResult r = run(xs[0], state_of(xs), call.mask(), call);
  Tensors all{result(r, call)};
  if (!options_.return_state) return all;
  all.push_back(r.h);
  if (r.c.defined()) all.push_back(r.c);
  return all;
}

}  // namespace detail

void Bidirectional::check_merge() const {
  const std::string& m = options_.merge;
  check(m == "concat" || m == "sum" || m == "mul" || m == "ave", "bidirectional",
        "merge must be concat, sum, mul or ave, got ", m);
}

Tensor Bidirectional::merged(const Tensor& a, const Tensor& b) const {
  check_merge();
  if (options_.merge == "concat") return concat({a, b}, -1);
  if (options_.merge == "mul") return a * b;
  const Tensor sum = a + b;
  return options_.merge == "ave" ? sum * 0.5 : sum;
}

Tensor Bidirectional::forward(const Tensor& x, Call& call) const {
  const Tensor mask = call.mask();
  const Tensor a = forward_.forward(x, call);
  call.set_mask(mask);
  return merged(a, backward_.forward(x, call));
}

Tensors Bidirectional::forward(std::span<const Tensor> xs, Call& call) const {
  check(xs.size() % 2 == 1, "bidirectional", "the inputs are x and the states of both layers, or x alone, got ",
        static_cast<uint64_t>(xs.size()));
  const size_t states = xs.size() / 2;
  Tensors a_inputs{xs[0]}, b_inputs{xs[0]};
  for (size_t i = 0; i < states; ++i) {
    a_inputs.push_back(xs[1 + i]);
    b_inputs.push_back(xs[1 + states + i]);
  }
  const Tensor mask = call.mask();
  Tensors a = forward_.forward(a_inputs, call);
  call.set_mask(mask);
  Tensors b = backward_.forward(b_inputs, call);
  Tensors all{merged(a[0], b[0])};
  all.insert(all.end(), a.begin() + 1, a.end());
  all.insert(all.end(), b.begin() + 1, b.end());
  return all;
}

}  // namespace nn
}  // namespace mica
