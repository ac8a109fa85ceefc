// Convolution: checks, forward and gradient.
#include "mica/ops/conv.h"

#include <algorithm>

#include "mica/ops/elementwise.h"
#include "ops/common.h"

namespace MICA_EXPORT mica {

Windows windows(const char* op, int64_t size, int64_t window, int64_t stride, Padding padding) {
  constexpr int64_t kMost = 1 << 20;  // products of sizes stay far from overflow
  check(window >= 1, op, "the window must be at least 1, got ", window);
  check(stride >= 1, op, "the stride must be at least 1, got ", stride);
  check(window <= kMost && stride <= kMost, op, "window and stride must be at most ", kMost, ", got ", window, " and ",
        stride);
  if (padding == Padding::valid) {
    check(window <= size, op, "the window (", window, ") must not be larger than the input (", size,
          ") without padding");
    return {(size - window) / stride + 1, 0};
  }
  const int64_t count = (size + stride - 1) / stride;
  return {count, std::max<int64_t>((count - 1) * stride + window - size, 0) / 2};
}

Tensor conv2d(const Tensor& x, const Tensor& w, const Tensor& bias, ConvOptions options) {
  ops::check_float("conv2d", "the input", x);
  ops::check_like("conv2d", "the filter", w, x);
  check(x.rank() == 4, "conv2d", "the input must be images [N,H,W,C], got ", x.shape());
  check(w.rank() == 4, "conv2d", "the filter must be [KH,KW,C,O], got ", w.shape());
  check(x.dim(3) == w.dim(2), "conv2d", "input channels must match the filter's: input ", x.shape(), ", filter ",
        w.shape());
  if (bias.defined()) {
    ops::check_like("conv2d", "the bias", bias, x);
    check(bias.shape() == Shape{w.dim(3)}, "conv2d", "the bias must have one value for each filter: filter ", w.shape(),
          ", bias ", bias.shape());
  }
  const Windows rows = windows("conv2d", x.dim(1), w.dim(0), options.strides.h, options.padding);
  const Windows cols = windows("conv2d", x.dim(2), w.dim(1), options.strides.w, options.padding);
  if (!ops::fuses(options.activation)) {
    const UnaryOp activation = std::exchange(options.activation, UnaryOp::identity);
    return detail::unary(activation, conv2d(x, w, bias, options));
  }
  const kernels::Conv2DArgs args{.dtype = x.dtype(),
                                 .n = x.dim(0),
                                 .h = x.dim(1),
                                 .w = x.dim(2),
                                 .c = x.dim(3),
                                 .o = w.dim(3),
                                 .kh = w.dim(0),
                                 .kw = w.dim(1),
                                 .sh = options.strides.h,
                                 .sw = options.strides.w,
                                 .oh = rows.count,
                                 .ow = cols.count,
                                 .pad_top = rows.before,
                                 .pad_left = cols.before,
                                 .activation = options.activation};
  Tensor y = empty({args.n, args.oh, args.ow, args.o}, {x.dtype(), x.device()});
  Context ctx = context(x.device());
  kernels_for(x.device()).conv2d(ctx, args, x.raw(), w.raw(), bias.raw(), ops::out(y));
  if (Tape* tape = Tape::recording(x, w, bias))
    tape->record("conv2d", {&x, &w, &bias}, {&y}, {&x, &w, options.activation == UnaryOp::identity ? &w : &y},
                 [args](Gradients& g) {
                   const Tensor dz = ops::activation_gradient(args.activation, g.saved(2), g.dy());
                   Context c = context(dz.device());
                   const kernels::Table& k = kernels_for(dz.device());
                   if (g.needs(0)) {
                     Gradients::Out dx = g.out(0);
                     k.conv2d_gradient_input(c, args, dz.raw(), g.saved(1).raw(), ops::out(dx.tensor), ops::write(dx));
                   }
                   if (g.needs(1)) {
                     Gradients::Out dw = g.out(1);
                     k.conv2d_gradient_filter(c, args, g.saved(0).raw(), dz.raw(), ops::out(dw.tensor), ops::write(dw));
                   }
                   if (g.needs(2)) ops::bias_gradient(g, 2, dz);
                 });
  return y;
}

}  // namespace mica
