// Convolution: checks, forward and gradient.
#include "mica/ops/conv.h"

#include <algorithm>
#include <utility>

#include "mica/ops/elementwise.h"
#include "ops/common.h"
#include "ops/windows.h"

namespace MICA_EXPORT mica {

namespace {

constexpr int64_t kMost = 1 << 20;  // of a window, a stride, a dilation: products of sizes stay far from overflow

void check_window(const char* op, int64_t window, int64_t stride, int64_t dilation) {
  check(window >= 1, op, "the window must be at least 1, got ", window);
  check(stride >= 1, op, "the stride must be at least 1, got ", stride);
  check(dilation >= 1, op, "the dilation must be at least 1, got ", dilation);
  check(window <= kMost && stride <= kMost, op, "window and stride must be at most ", kMost, ", got ", window, " and ",
        stride);
  check(dilation <= kMost, op, "the dilation must be at most ", kMost, ", got ", dilation);
}

// The convolution of images `x` by filters `w`, in one group.
kernels::Conv2DArgs conv_args(const Shape& x, const Shape& w, const Windows& rows, const Windows& cols, Size2 strides,
                              Size2 dilation, DType dtype) {
  return {.dtype = dtype,
          .n = x[0],
          .h = x[1],
          .w = x[2],
          .c = x[3],
          .o = w[3],
          .kh = w[0],
          .kw = w[1],
          .sh = strides.h,
          .sw = strides.w,
          .oh = rows.count,
          .ow = cols.count,
          .pad_top = rows.before,
          .pad_left = cols.before,
          .dh = dilation.h,
          .dw = dilation.w};
}

// How large the images are from which convolution leads to `size`.
int64_t transposed_size(int64_t size, int64_t window, int64_t stride, Padding padding, int64_t dilation) {
  check(size >= 1 && size <= int64_t{1} << 40, "conv2d_transpose", "the images must have pixels, and not be huge, got ",
        size, " along one axis");
  const int64_t dilated = (window - 1) * dilation + 1;
  return size * stride + (padding == Padding::valid ? std::max<int64_t>(dilated - stride, 0) : 0);
}

}  // namespace

Windows windows(const char* op, int64_t size, int64_t window, int64_t stride, Padding padding, int64_t dilation) {
  check_window(op, window, stride, dilation);
  const int64_t dilated = (window - 1) * dilation + 1;
  if (padding == Padding::valid) {
    check(dilated <= size, op, dilation == 1 ? "the window (" : "the dilated window (", dilated,
          ") must not be larger than the input (", size, ") without padding");
    return {(size - dilated) / stride + 1, 0};
  }
  const int64_t count = (size + stride - 1) / stride;
  if (padding == Padding::causal) return {count, dilated - 1};
  return {count, std::max<int64_t>((count - 1) * stride + dilated - size, 0) / 2};
}

kernels::Conv2DArgs ops::conv2d_args(const Tensor& x, const Tensor& w, const Tensor& bias, const ConvOptions& options) {
  ops::check_float("conv2d", "the input", x);
  ops::check_like("conv2d", "the filter", w, x);
  check(x.rank() == 4, "conv2d", "the input must be images [N,H,W,C], got ", x.shape());
  check(w.rank() == 4, "conv2d", "the filter must be [KH,KW,C,O], got ", w.shape());
  const int64_t groups = options.groups;
  check(groups >= 1, "conv2d", "groups must be at least 1, got ", groups);
  if (groups == 1) {
    check(x.dim(3) == w.dim(2), "conv2d", "input channels must match the filter's: input ", x.shape(), ", filter ",
          w.shape());
  } else {
    check(groups <= x.dim(3) && x.dim(3) % groups == 0 && w.dim(3) % groups == 0, "conv2d",
          "groups must divide the channels and the filters: ", groups, " groups, input ", x.shape(), ", filter ",
          w.shape());
    check(x.dim(3) / groups == w.dim(2), "conv2d", "a group's input channels must match the filter's: ", groups,
          " groups, input ", x.shape(), ", filter ", w.shape());
  }
  if (bias.defined()) {
    ops::check_like("conv2d", "the bias", bias, x);
    check(bias.shape() == Shape{w.dim(3)}, "conv2d", "the bias must have one value for each filter: filter ", w.shape(),
          ", bias ", bias.shape());
  }
  const Size2 strides = options.strides, dilation = options.dilation;
  const Windows rows = windows("conv2d", x.dim(1), w.dim(0), strides.h, options.padding, dilation.h);
  const Windows cols = windows("conv2d", x.dim(2), w.dim(1), strides.w, options.padding, dilation.w);
  kernels::Conv2DArgs args = conv_args(x.shape(), w.shape(), rows, cols, strides, dilation, x.dtype());
  args.groups = groups;
  args.activation = options.activation;
  return args;
}

Tensor conv2d(const Tensor& x, const Tensor& w, const Tensor& bias, ConvOptions options) {
  const kernels::Conv2DArgs args = ops::conv2d_args(x, w, bias, options);
  if (!ops::fuses(options.activation)) {
    const UnaryOp activation = std::exchange(options.activation, UnaryOp::identity);
    return detail::unary(activation, conv2d(x, w, bias, options));
  }
  Tensor y = empty({args.n, args.oh, args.ow, args.o}, {x.dtype(), x.device()});
  Context ctx = context(x.device());
  kernels_for(x.device()).conv2d(ctx, args, x.raw(), w.raw(), bias.raw(), ops::out(y));
  if (Tape* tape = Tape::recording(x, w, bias))
    tape->record("conv2d", {&x, &w, &bias}, {&y}, {&x, &w, options.activation == UnaryOp::identity ? &w : &y},
                 [args](Gradients& g) {
                   const Tensor dz = ops::activation_gradient(g, args.activation, g.saved(2), 2);
                   ops::conv2d_gradients(g, [&](Gradients::Out& dx, Gradients::Out& dw) {
                     Context c = context(dz.device());
                     kernels_for(dz.device())
                         .conv2d_gradient(c, args, g.saved(0).raw(), g.saved(1).raw(), dz.raw(), ops::out(dx.tensor),
                                          ops::write(dx), ops::out(dw.tensor), ops::write(dw));
                   });
                 });
  return y;
}

Tensor conv2d_transpose(const Tensor& x, const Tensor& w, const Tensor& bias, ConvTransposeOptions options) {
  const char* op = "conv2d_transpose";
  ops::check_float(op, "the input", x);
  ops::check_like(op, "the filter", w, x);
  check(x.rank() == 4, op, "the input must be images [N,H,W,C], got ", x.shape());
  check(w.rank() == 4, op, "the filter must be [KH,KW,F,C], got ", w.shape());
  check(x.dim(3) == w.dim(3), op, "input channels must match the filter's last axis: input ", x.shape(), ", filter ",
        w.shape());
  if (bias.defined()) {
    ops::check_like(op, "the bias", bias, x);
    check(bias.shape() == Shape{w.dim(2)}, op, "the bias must have one value for each filter: filter ", w.shape(),
          ", bias ", bias.shape());
  }
  const Size2 strides = options.strides, dilation = options.dilation;
  const Padding padding = options.padding;
  check(padding != Padding::causal, op, "the padding must be valid or same");
  check_window(op, w.dim(0), strides.h, dilation.h);
  check_window(op, w.dim(1), strides.w, dilation.w);
  const int64_t h = transposed_size(x.dim(1), w.dim(0), strides.h, padding, dilation.h);
  const int64_t width = transposed_size(x.dim(2), w.dim(1), strides.w, padding, dilation.w);
  if (!ops::fuses(options.activation)) {
    const UnaryOp activation = std::exchange(options.activation, UnaryOp::identity);
    return detail::unary(activation, conv2d_transpose(x, w, bias, options));
  }
  // The convolution that leads from y to x, whose gradient this is.
  const Shape shape{x.dim(0), h, width, w.dim(2)};
  const kernels::Conv2DArgs args =
      conv_args(shape, w.shape(), windows(op, h, w.dim(0), strides.h, padding, dilation.h),
                windows(op, width, w.dim(1), strides.w, padding, dilation.w), strides, dilation, x.dtype());
  const UnaryOp activation = options.activation;
  Tensor y = empty(shape, {x.dtype(), x.device()});
  Context ctx = context(x.device());
  const kernels::Table& k = kernels_for(x.device());
  k.conv2d_gradient(ctx, args, nullptr, w.raw(), x.raw(), ops::out(y), kernels::Write::overwrite, nullptr,
                    kernels::Write::overwrite);
  if (bias.defined())
    k.binary(ctx, BinaryOp::add, x.dtype(), ops::broadcast_dims(shape, shape, bias.shape()), y.raw(), bias.raw(),
             ops::out(y));
  if (activation != UnaryOp::identity) k.unary(ctx, activation, x.dtype(), y.elements(), y.raw(), ops::out(y));
  if (Tape* tape = Tape::recording(x, w, bias))
    tape->record(op, {&x, &w, &bias}, {&y}, {&x, &w, activation == UnaryOp::identity ? &w : &y},
                 [args, activation](Gradients& g) {
                   const Tensor dz = ops::activation_gradient(g, activation, g.saved(2), 2);
                   Context c = context(dz.device());
                   const kernels::Table& table = kernels_for(dz.device());
                   if (g.needs(0)) {
                     Tensor dx = empty(g.saved(0).shape(), {dz.dtype(), dz.device()});
                     table.conv2d(c, args, dz.raw(), g.saved(1).raw(), nullptr, ops::out(dx));
                     g.add(0, std::move(dx));
                   }
                   if (g.needs(1)) {
                     Gradients::Out dw = g.out(1);
                     table.conv2d_gradient(c, args, dz.raw(), nullptr, g.saved(0).raw(), nullptr,
                                           kernels::Write::overwrite, ops::out(dw.tensor), ops::write(dw));
                   }
                 });
  return y;
}

}  // namespace mica
