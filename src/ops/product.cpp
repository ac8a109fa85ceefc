// Products of matrices into tensors that are there.
#include "ops/product.h"

namespace mica::ops {

void product(int64_t batch, Matrix a, int64_t a_stride, Matrix b, int64_t b_stride, Tensor& c, kernels::Write write,
             const void* bias, UnaryOp activation) {
  kernels::MatmulArgs args{.dtype = a.x.dtype()};
  args.m = a.transpose ? a.cols : a.rows;
  args.k = a.transpose ? a.rows : a.cols;
  args.n = b.transpose ? b.rows : b.cols;
  args.transpose_a = a.transpose;
  args.transpose_b = b.transpose;
  args.lda = a.cols;
  args.ldb = b.cols;
  args.ldc = args.n;
  args.batch = batch;
  args.a_batch_stride = a_stride;
  args.b_batch_stride = b_stride;
  args.c_batch_stride = args.m * args.n;
  args.bias = bias;
  args.activation = activation;
  args.write = write;
  Context ctx = context(c.device());
  kernels_for(c.device()).matmul(ctx, args, a.x.raw(), b.x.raw(), out(c));
}

}  // namespace mica::ops
