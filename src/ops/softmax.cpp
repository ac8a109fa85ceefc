// Softmax over the last axis: checks, forward and gradient.
#include "mica/ops/softmax.h"

#include "ops/common.h"

namespace MICA_EXPORT mica {

namespace {

struct Rows {
  int64_t rows, n;
};

Rows rows_of(const char* op, const Tensor& x) {
  ops::check_float(op, "the input", x);
  check(x.rank() >= 1, op, "the input must have an axis, shape ", x.shape());
  const int64_t n = x.dim(-1);
  return {n ? x.elements() / n : 0, n};
}

}  // namespace

// The record keeps the logits too: cross-entropy of a softmax is computed from them (nn/losses.cpp).
Tensor softmax(const Tensor& x) {
  const auto [rows, n] = rows_of("softmax", x);
  Tensor y = empty_like(x);
  Context ctx = context(x.device());
  kernels_for(x.device()).softmax(ctx, x.dtype(), rows, n, x.raw(), ops::out(y));
  if (Tape* tape = Tape::recording(x))
    tape->record(ops::kSoftmax, {&x}, {&y}, {&y, &x}, [rows = rows, n = n](Gradients& g) {
      Gradients::Out dx = g.out(0);
      Context c = context(g.dy().device());
      kernels_for(g.dy().device())
          .softmax_gradient(c, g.dy().dtype(), rows, n, g.saved(0).raw(), g.dy().raw(), ops::out(dx.tensor),
                            ops::write(dx));
    });
  return y;
}

Tensor log_softmax(const Tensor& x) {
  const auto [rows, n] = rows_of("log_softmax", x);
  Tensor y = empty_like(x);
  Context ctx = context(x.device());
  kernels_for(x.device()).log_softmax(ctx, x.dtype(), rows, n, x.raw(), ops::out(y));
  if (Tape* tape = Tape::recording(x))
    tape->record("log_softmax", {&x}, {&y}, {&y}, [rows = rows, n = n](Gradients& g) {
      Gradients::Out dx = g.out(0);
      Context c = context(g.dy().device());
      kernels_for(g.dy().device())
          .log_softmax_gradient(c, g.dy().dtype(), rows, n, g.saved(0).raw(), g.dy().raw(), ops::out(dx.tensor),
                                ops::write(dx));
    });
  return y;
}

}  // namespace mica
