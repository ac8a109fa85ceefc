// Products of matrices into tensors that are there: what dense, matmul and the recurrent ops are made of. Not recorded.
#pragma once

#include "ops/common.h"

namespace mica::ops {

/// A matrix as a kernel sees it: `rows` and `cols` as stored.
struct Matrix {
  const Tensor& x;
  int64_t rows, cols;
  bool transpose;
};

/// c[batch, M, N] (+)= op(a) op(b) + bias[N], then the activation, one that kernels fuse; an operand of batch stride 0
/// serves every product.
void product(int64_t batch, Matrix a, int64_t a_stride, Matrix b, int64_t b_stride, Tensor& c, kernels::Write write,
             const void* bias = nullptr, UnaryOp activation = UnaryOp::identity);

}  // namespace mica::ops
