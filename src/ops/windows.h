// The checked arguments of ops on windows of images.
#pragma once

#include "kernels/args.h"
#include "mica/ops/pool.h"

namespace mica::ops {

/// Throws Error("[conv2d] ...") for operands that do not fit.
kernels::Conv2DArgs conv2d_args(const Tensor& x, const Tensor& w, const Tensor& bias, const ConvOptions& options);

/// Throws Error("[op] ...") for windows that do not fit on images of `shape`.
kernels::Pool2DArgs pool2d_args(const char* op, const Shape& shape, DType dtype, Size2 window, PoolOptions options);

}  // namespace mica::ops
