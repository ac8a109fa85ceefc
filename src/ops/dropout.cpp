// Dropout: checks, forward and gradient.
#include "mica/ops/dropout.h"

#include "ops/common.h"

namespace MICA_EXPORT mica {

Tensor dropout(const Tensor& x, double rate, RandomKey key) {
  ops::check_float("dropout", "the input", x);
  check(rate >= 0 && rate < 1, "dropout", "the rate must be in [0, 1), got ", rate);
  if (rate == 0) return x;
  Tensor y = empty_like(x);
  Context ctx = context(x.device());
  kernels_for(x.device()).dropout(ctx, x.dtype(), x.elements(), rate, key, x.raw(), ops::out(y));
  if (Tape* tape = Tape::recording(x))
    tape->record("dropout", {&x}, {&y}, {}, [rate, key](Gradients& g) {
      Tensor dx = empty_like(g.dy());  // the same elements are dropped: the mask is computed again, not kept
      Context c = context(dx.device());
      kernels_for(dx.device()).dropout(c, dx.dtype(), dx.elements(), rate, key, g.dy().raw(), ops::out(dx));
      g.add(0, dx);
    });
  return y;
}

}  // namespace mica
