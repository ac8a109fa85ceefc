// Pooling: checks, forward and gradient.
#include "mica/ops/pool.h"

#include "ops/common.h"

namespace MICA_EXPORT mica {

namespace {

kernels::Pool2DArgs pool_args(const char* op, const Tensor& x, Size2 window, PoolOptions options) {
  ops::check_float(op, "the input", x);
  check(x.rank() == 4, op, "the input must be images [N,H,W,C], got ", x.shape());
  check(options.strides.h >= 0 && options.strides.w >= 0, op, "the stride must be at least 1, got ",
        std::min(options.strides.h, options.strides.w));
  const int64_t sh = options.strides.h ? options.strides.h : window.h,
                sw = options.strides.w ? options.strides.w : window.w;
  const Windows rows = windows(op, x.dim(1), window.h, sh, options.padding);
  const Windows cols = windows(op, x.dim(2), window.w, sw, options.padding);
  return {.dtype = x.dtype(),
          .n = x.dim(0),
          .h = x.dim(1),
          .w = x.dim(2),
          .c = x.dim(3),
          .kh = window.h,
          .kw = window.w,
          .sh = sh,
          .sw = sw,
          .oh = rows.count,
          .ow = cols.count,
          .pad_top = rows.before,
          .pad_left = cols.before};
}

}  // namespace

Tensor max_pool2d(const Tensor& x, Size2 window, PoolOptions options) {
  const kernels::Pool2DArgs args = pool_args("max_pool2d", x, window, options);
  Tensor y = empty({args.n, args.oh, args.ow, args.c}, {x.dtype(), x.device()});
  Tape* tape = Tape::recording(x);
  Tensor index;  // where each maximum was: only a gradient asks
  if (tape) index = empty(y.shape(), {args.kh * args.kw <= 256 ? uint8 : int32, x.device()});
  Context ctx = context(x.device());
  kernels_for(x.device()).max_pool2d(ctx, args, x.raw(), ops::out(y), ops::out(index));
  if (tape)
    tape->record("max_pool2d", {&x}, {&y}, {&index}, [args](Gradients& g) {
      Gradients::Out dx = g.out(0);
      Context c = context(g.dy().device());
      kernels_for(g.dy().device())
          .max_pool2d_gradient(c, args, g.dy().raw(), g.saved(0).raw(), ops::out(dx.tensor), ops::write(dx));
    });
  return y;
}

Tensor average_pool2d(const Tensor& x, Size2 window, PoolOptions options) {
  const kernels::Pool2DArgs args = pool_args("average_pool2d", x, window, options);
  Tensor y = empty({args.n, args.oh, args.ow, args.c}, {x.dtype(), x.device()});
  Context ctx = context(x.device());
  kernels_for(x.device()).average_pool2d(ctx, args, x.raw(), ops::out(y));
  if (Tape* tape = Tape::recording(x))
    tape->record("average_pool2d", {&x}, {&y}, {}, [args](Gradients& g) {
      Gradients::Out dx = g.out(0);
      Context c = context(g.dy().device());
      kernels_for(g.dy().device()).average_pool2d_gradient(c, args, g.dy().raw(), ops::out(dx.tensor), ops::write(dx));
    });
  return y;
}

}  // namespace mica
