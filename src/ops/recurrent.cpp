// Recurrent networks over whole sequences: checks, forward and gradient.
#include "mica/ops/recurrent.h"

#include "mica/ops/compare.h"
#include "ops/product.h"

namespace MICA_EXPORT mica {

namespace {

using kernels::RecurrentArgs;
using kernels::Write;

void check_inputs(const char* op, const RecurrentInputs& in, int64_t gates) {
  ops::check_float(op, "the input", in.x);
  ops::check_like(op, "the kernel", in.kernel, in.x);
  ops::check_like(op, "the recurrent kernel", in.recurrent_kernel, in.x);
  check(in.x.rank() == 3, op, "the input must be [batch, time, features], got ", in.x.shape());
  const Shape &w = in.kernel.shape(), &u = in.recurrent_kernel.shape();
  check(u.rank() == 2 && u[1] == gates * u[0], op, "the recurrent kernel must be [units, ", gates, " * units], got ",
        u);
  check(w.rank() == 2 && w[1] == u[1], op, "the kernel must have as many columns as the recurrent kernel: ", w, " and ",
        u);
  check(in.x.dim(2) == w[0], op, "the input's features must match the kernel's rows: input ", in.x.shape(), ", kernel ",
        w);
  const auto check_vector = [&](const char* what, const Tensor& bias) {
    if (!bias.defined()) return;
    ops::check_like(op, what, bias, in.x);
    check(bias.shape() == Shape{u[1]}, op, what, " must have one value for each of the kernel's ", u[1],
          " columns, got ", bias.shape());
  };
  check_vector("the bias", in.bias);
  check_vector("the recurrent bias", in.recurrent_bias);
  const auto check_state = [&](const char* what, const Tensor& state) {
    if (!state.defined()) return;
    ops::check_like(op, what, state, in.x);
    check(state.shape() == Shape{in.x.dim(0), u[0]}, op, what, " must be [batch, units], here ",
          Shape{in.x.dim(0), u[0]}, ", got ", state.shape());
  };
  check_state("the state h", in.h);
  check_state("the state c", in.c);
  check_state("recurrent_dropout", in.recurrent_dropout);
  if (!in.mask.defined()) return;
  check(in.mask.dtype() == uint8 && in.mask.device() == in.x.device(), op, "the mask must be uint8 on ", in.x.device(),
        ", got ", in.mask.dtype(), " on ", in.mask.device());
  check(in.mask.shape() == Shape{in.x.dim(0), in.x.dim(1)}, op, "the mask must be [batch, time], here ",
        Shape{in.x.dim(0), in.x.dim(1)}, ", got ", in.mask.shape());
}

// What the kernels are told, but for the sizes; the tensors that it points to are the caller's.
RecurrentArgs arguments(RecurrentKind kind, const Tensor& y, const Tensor& u, bool reverse, const Tensor& mask,
                        const Tensor& dropout) {
  RecurrentArgs args{.dtype = y.dtype(), .kind = kind, .b = y.dim(0), .t = y.dim(1), .h = y.dim(2)};
  args.reverse = reverse;
  args.mask = mask.defined() ? mask.data<uint8_t>() : nullptr;
  args.u = u.raw();
  args.drop = dropout.raw();
  return args;
}

// The first state: what was given, or zeros.
Tensor first_state(const Tensor& given, const Shape& shape, const Tensor& like) {
  return given.defined() ? given : zeros(shape, {like.dtype(), like.device()});
}

Tensor without_masked(const Tensor& x, const Tensor& mask) {
  const Tape::Pause pause;
  return where(mask.reshape({x.dim(0), x.dim(1), 1}), x, 0);
}

// The gradient of a recurrent kernel [H, G*H] from what it was multiplied with [B,T,H] and the gradient of the product
// [B,T,G*H]: of z and r first, where n was multiplied with something else.
void split_gradient(const Tensor& previous, const Tensor& reset, const Tensor& dz, const Gradients::Out& du) {
  const int64_t n = previous.dim(2);
  kernels::MatmulArgs args{.dtype = dz.dtype(), .m = n, .n = 2 * n, .k = dz.dim(0) * dz.dim(1)};
  args.transpose_a = true;
  args.lda = n;
  args.ldb = args.ldc = 3 * n;
  args.write = ops::write(du);
  Context ctx = context(dz.device());
  const auto columns = [&](const void* x) {
    return static_cast<const char*>(x) + 2 * n * static_cast<int64_t>(size_of(dz.dtype()));
  };
  Tensor out = du.tensor;
  const kernels::Table& k = kernels_for(dz.device());
  k.matmul(ctx, args, previous.raw(), dz.raw(), ops::out(out));
  args.n = n;
  k.matmul(ctx, args, reset.raw(), columns(dz.raw()), const_cast<char*>(columns(out.raw())));
}

RecurrentResult recurrent(const char* op, RecurrentKind kind, const RecurrentInputs& in, UnaryOp activation,
                          bool reset_after) {
  const Tensor &w = in.kernel, &u = in.recurrent_kernel;
  // Whatever stands in masked steps, NaN too, takes no part: it would in the kernel's gradient.
  const Tensor x = in.mask.defined() ? without_masked(in.x, in.mask) : in.x;
  const int64_t rows = x.dim(0) * x.dim(1), features = w.dim(0), width = u.dim(1);
  const Shape states{x.dim(0), u.dim(0)};
  const bool is_rnn = kind == RecurrentKind::rnn, is_lstm = kind == RecurrentKind::lstm;
  const TensorOptions like{x.dtype(), x.device()};
  // The input projection of all steps is one product.
  Tensor gates = empty({x.dim(0), x.dim(1), width}, like);
  ops::product(1, {x, rows, features, false}, 0, {w, features, width, false}, 0, gates, Write::overwrite,
               in.bias.raw());
  Tensor y = is_rnn ? gates : empty({x.dim(0), x.dim(1), u.dim(0)}, like);
  Tensor inner = is_rnn ? Tensor() : empty_like(y);
  const Tensor h0 = first_state(in.h, states, x), c0 = is_lstm ? first_state(in.c, states, x) : h0;
  Tensor h = h0.detach().clone(), c = is_lstm ? c0.detach().clone() : Tensor();

  const auto set = [=](RecurrentArgs& args) { args.activation = activation, args.reset_after = reset_after; };
  RecurrentArgs args = arguments(kind, y, u, in.reverse, in.mask, in.recurrent_dropout);
  set(args);
  args.bias = in.recurrent_bias.raw();
  Context ctx = context(x.device());
  kernels_for(x.device()).recurrent(ctx, args, ops::out(gates), ops::out(y), ops::out(inner), ops::out(h), ops::out(c));

  Tape* tape = Tape::recording(in.x, w, u, in.bias, in.recurrent_bias, in.h, in.c);
  if (!tape) return {y, h, c};
  const bool masked = in.mask.defined(), drops = in.recurrent_dropout.defined();
  const auto gradient = [=, reverse = in.reverse](Gradients& g) {
    const Tensor mask = masked ? g.saved(8) : Tensor(), dropout = drops ? g.saved(9) : Tensor();
    const Tensor &xs = g.saved(0), &kernel = g.saved(1), &recurrent_kernel = g.saved(2), &out = g.saved(3);
    const TensorOptions alike{out.dtype(), out.device()};
    const auto last = [&](int i) { return g.dy(i).defined() ? g.dy(i).clone() : zeros(states, alike); };
    const bool two = kind == RecurrentKind::gru && reset_after, split = kind == RecurrentKind::gru && !reset_after;
    Tensor dh = last(1), dc = is_lstm ? last(2) : Tensor();
    Tensor dz = empty({out.dim(0), out.dim(1), width}, alike), da = two ? empty_like(dz) : Tensor();
    Tensor previous = empty_like(out);
    RecurrentArgs back = arguments(kind, out, recurrent_kernel, reverse, mask, dropout);
    set(back);
    Context k = context(out.device());
    kernels_for(out.device())
        .recurrent_gradient(k, back, g.saved(4).raw(), out.raw(), is_rnn ? nullptr : g.saved(5).raw(), g.saved(6).raw(),
                            g.saved(7).raw(), g.dy().raw(), ops::out(dh), ops::out(dc), ops::out(dz), ops::out(da),
                            ops::out(previous));
    if (g.needs(0)) {
      Gradients::Out dx = g.out(0);
      ops::product(1, {dz, rows, width, false}, 0, {kernel, features, width, true}, 0, dx.tensor, ops::write(dx));
    }
    if (g.needs(1)) {
      Gradients::Out dw = g.out(1);
      ops::product(1, {xs, rows, features, true}, 0, {dz, rows, width, false}, 0, dw.tensor, ops::write(dw));
    }
    if (g.needs(2)) {
      Gradients::Out du = g.out(2);
      if (split)
        split_gradient(previous, g.saved(5), dz, du);
      else
        ops::product(1, {previous, rows, previous.dim(2), true}, 0, {two ? da : dz, rows, width, false}, 0, du.tensor,
                     ops::write(du));
    }
    if (g.needs(3)) ops::bias_gradient(g, 3, dz);
    if (g.needs(4)) ops::bias_gradient(g, 4, da);
    if (g.needs(5)) g.add(5, dh);
    if (g.needs(6)) g.add(6, dc);
  };
  // What a cell does not have is saved as what is there anyway: a record holds no undefined tensor.
  const Tensor &inside = is_rnn ? y : inner, &mask = masked ? in.mask : y, &dropout = drops ? in.recurrent_dropout : y;
  if (is_lstm)
    tape->record(op, {&in.x, &w, &u, &in.bias, &in.recurrent_bias, &in.h, &in.c}, {&y, &h, &c},
                 {&x, &w, &u, &y, &gates, &inside, &h0, &c0, &mask, &dropout}, gradient);
  else
    tape->record(op, {&in.x, &w, &u, &in.bias, &in.recurrent_bias, &in.h, &in.c}, {&y, &h},
                 {&x, &w, &u, &y, &gates, &inside, &h0, &c0, &mask, &dropout}, gradient);
  return {y, h, c};
}

}  // namespace

RecurrentResult rnn(const RecurrentInputs& inputs, UnaryOp activation) {
  check_inputs("rnn", inputs, gates_of(RecurrentKind::rnn));
  check(activation == UnaryOp::tanh || activation == UnaryOp::relu, "rnn", "the activation must be tanh or relu");
  check(!inputs.recurrent_bias.defined(), "rnn", "it has one bias: recurrent_bias is of gru");
  check(!inputs.c.defined(), "rnn", "it has one state: c is of lstm");
  return recurrent("rnn", RecurrentKind::rnn, inputs, activation, true);
}

RecurrentResult lstm(const RecurrentInputs& inputs) {
  check_inputs("lstm", inputs, gates_of(RecurrentKind::lstm));
  check(!inputs.recurrent_bias.defined(), "lstm", "it has one bias: recurrent_bias is of gru");
  return recurrent("lstm", RecurrentKind::lstm, inputs, UnaryOp::tanh, true);
}

RecurrentResult gru(const RecurrentInputs& inputs, bool reset_after) {
  check_inputs("gru", inputs, gates_of(RecurrentKind::gru));
  check(!inputs.c.defined(), "gru", "it has one state: c is of lstm");
  check(reset_after || !inputs.recurrent_bias.defined(), "gru", "without reset_after there is no recurrent_bias");
  return recurrent("gru", RecurrentKind::gru, inputs, UnaryOp::tanh, reset_after);
}

}  // namespace mica
