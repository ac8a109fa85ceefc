// Pooling: checks, forward and gradient.
#include "mica/ops/pool.h"

#include "ops/common.h"
#include "ops/windows.h"

namespace MICA_EXPORT mica {

kernels::Pool2DArgs ops::pool2d_args(const char* op, const Shape& shape, DType dtype, Size2 window,
                                     PoolOptions options) {
  check(shape.rank() == 4, op, "the input must be images [N,H,W,C], got ", shape);
  check(options.strides.h >= 0 && options.strides.w >= 0, op, "the stride must be at least 1, got ",
        std::min(options.strides.h, options.strides.w));
  const int64_t sh = options.strides.h ? options.strides.h : window.h,
                sw = options.strides.w ? options.strides.w : window.w;
  const Windows rows = windows(op, shape[1], window.h, sh, options.padding);
  const Windows cols = windows(op, shape[2], window.w, sw, options.padding);
  return {.dtype = dtype,
          .n = shape[0],
          .h = shape[1],
          .w = shape[2],
          .c = shape[3],
          .kh = window.h,
          .kw = window.w,
          .sh = sh,
          .sw = sw,
          .oh = rows.count,
          .ow = cols.count,
          .pad_top = rows.before,
          .pad_left = cols.before};
}

namespace {

kernels::Pool2DArgs pool_args(const char* op, const Tensor& x, Size2 window, PoolOptions options) {
  ops::check_float(op, "the input", x);
  return ops::pool2d_args(op, x.shape(), x.dtype(), window, options);
}

// Where each maximum was: only a gradient asks.
Tensor index_of(const kernels::Pool2DArgs& args, Device device) {
  return empty({args.n, args.oh, args.ow, args.c}, {args.kh * args.kw <= 256 ? uint8 : int32, device});
}

}  // namespace

Tensor max_pool2d(const Tensor& x, Size2 window, PoolOptions options) {
  const kernels::Pool2DArgs args = pool_args("max_pool2d", x, window, options);
  Tensor y = empty({args.n, args.oh, args.ow, args.c}, {x.dtype(), x.device()});
  Tape* tape = Tape::recording(x);
  Tensor index;
  if (tape) index = index_of(args, x.device());
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

Tensor conv2d_max_pool2d(const Tensor& x, const Tensor& w, const Tensor& bias, ConvOptions options, Size2 window,
                         PoolOptions pool_options) {
  const kernels::Conv2DArgs conv = ops::conv2d_args(x, w, bias, options);
  const kernels::Pool2DArgs pool =
      ops::pool2d_args("max_pool2d", {conv.n, conv.oh, conv.ow, conv.o}, conv.dtype, window, pool_options);
  if (!ops::fuses(options.activation)) return max_pool2d(conv2d(x, w, bias, options), window, pool_options);
  Tensor y = empty({pool.n, pool.oh, pool.ow, pool.c}, {x.dtype(), x.device()});
  Tape* tape = Tape::recording(x, w, bias);
  Tensor index;
  if (tape) index = index_of(pool, x.device());
  Context ctx = context(x.device());
  kernels_for(x.device())
      .conv2d_max_pool2d(ctx, conv, pool, x.raw(), w.raw(), bias.raw(), ops::out(y), ops::out(index));
  if (tape)
    tape->record("conv2d_max_pool2d", {&x, &w, &bias}, {&y},
                 {&x, &w, options.activation == UnaryOp::identity ? &w : &y, &index}, [conv, pool](Gradients& g) {
                   // An activation's derivative follows from its result, and maxima are results.
                   const Tensor dz = ops::activation_gradient(g, conv.activation, g.saved(2), 2);
                   ops::conv2d_gradients(g, [&](Gradients::Out& dx, Gradients::Out& dw) {
                     Context c = context(dz.device());
                     kernels_for(dz.device())
                         .conv2d_max_pool2d_gradient(c, conv, pool, g.saved(0).raw(), g.saved(1).raw(), dz.raw(),
                                                     g.saved(3).raw(), ops::out(dx.tensor), ops::write(dx),
                                                     ops::out(dw.tensor), ops::write(dw));
                   });
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
