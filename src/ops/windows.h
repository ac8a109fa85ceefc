// What ops on windows of images share: their checked arguments, and the gradients of a convolution.
#pragma once

#include <utility>

#include "kernels/args.h"
#include "mica/autograd/tape.h"
#include "mica/ops/pool.h"

namespace mica::ops {

/// Throws Error("[conv2d] ...") for operands that do not fit.
kernels::Conv2DArgs conv2d_args(const Tensor& x, const Tensor& w, const Tensor& bias, const ConvOptions& options);

/// Throws Error("[op] ...") for windows that do not fit on images of `shape`.
kernels::Pool2DArgs pool2d_args(const char* op, const Shape& shape, DType dtype, Size2 window, PoolOptions options);

/// The gradients of a convolution of saved(0) by saved(1), where anybody needs one: kernel(dx, dw), of which those that
/// nobody needs are undefined.
template <class Kernel>
void conv2d_gradients(Gradients& g, const Kernel& kernel) {
  if (!g.needs(0) && !g.needs(1)) return;
  // Of one tensor that is both operands, the gradients are added one after the other.
  const bool same = g.saved(0).raw() == g.saved(1).raw();
  Gradients::Out dx, dw;
  if (g.needs(0)) dx = same ? Gradients::Out{empty_like(g.saved(0))} : g.out(0);
  if (g.needs(1)) dw = g.out(1);
  kernel(dx, dw);
  if (same && g.needs(0)) g.add(0, std::move(dx.tensor));
}

}  // namespace mica::ops
