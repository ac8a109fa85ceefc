// Matrix products in float32 and float64: any transposes, leading dimensions and batch, with bias and activation in the
// epilogue. The contract is MatmulArgs' (kernels/args.h).
#include "cuda/matvec.h"
#include "cuda/tile.h"

namespace mica::kernels::MICA_CUDA_BACKEND {

namespace {

template <class T>
void matmul_of(Context& ctx, const MatmulArgs& args, const T* a, const T* b, T* c) {
  // Indices of rows and columns are int.
  constexpr int64_t kMost = int64_t{1} << 30;
  if (args.m > kMost || args.n > kMost) {
    MatmulArgs part = args;
    for (int64_t i = 0; i < args.m; i += kMost)
      for (int64_t j = 0; j < args.n; j += kMost) {
        part.m = at_most(args.m - i, kMost);
        part.n = at_most(args.n - j, kMost);
        part.bias = args.bias ? static_cast<const T*>(args.bias) + j : nullptr;
        matmul_of(ctx, part, a + i * (args.transpose_a ? 1 : args.lda), b + j * (args.transpose_b ? args.ldb : 1),
                  c + i * args.ldc + j);
      }
    return;
  }
  // In packs only where they are whole: no row of a packed operand ends within one.
  const bool ta = args.transpose_a, tb = args.transpose_b;
  const bool a_packs = keeps_packs<T>(a, args.lda, args.a_batch_stride, ta ? args.m : args.k);
  const bool b_packs = keeps_packs<T>(b, args.ldb, args.b_batch_stride, tb ? args.k : args.n);
  const int m = to_int(args.m), n = to_int(args.n);
  const Matrix<T> rows{a, m, ta ? 1 : args.lda, ta ? args.lda : 1, args.a_batch_stride, a_packs};
  const Matrix<T> columns{b, n, tb ? args.ldb : 1, tb ? 1 : args.ldb, args.b_batch_stride, b_packs};
  MatrixOutput<T> output;
  output.c = c;
  output.ldc = args.ldc;
  output.batch_stride = args.c_batch_stride;
  output.bias = static_cast<const T*>(args.bias);
  output.rows = m;
  output.columns = n;
  output.accumulate = args.write == Write::accumulate;
  output.packs = keeps_packs<T>(c, args.ldc, args.c_batch_stride, args.n);
  // A small row is a tile's: so a row of a layer has the same bits whatever few rows come with it.
  constexpr int64_t kLarge = int64_t{1} << 18;
  if (n == 1 || (m == 1 && n * args.k >= kLarge)) {
    MatrixVector<T> v;
    v.depth = args.k;
    output.set(args.activation);
    if (n == 1) {
      v.matrix = a;
      v.stride = args.lda;
      v.matrix_batch_stride = args.a_batch_stride;
      v.vector = b;
      v.vector_stride = tb ? 1 : args.ldb;
      v.vector_batch_stride = args.b_batch_stride;
      v.count = m;
      return multiply_vector(ctx, v, !ta, output, args.batch);
    }
    v.matrix = b;
    v.stride = args.ldb;
    v.matrix_batch_stride = args.b_batch_stride;
    v.vector = a;
    v.vector_stride = ta ? args.lda : 1;
    v.vector_batch_stride = args.a_batch_stride;
    v.count = n;
    return multiply_vector(ctx, v, tb, output, args.batch);
  }
  for_bool(!ta, [&](auto a_along_depth) {
    for_bool(tb, [&](auto b_along_depth) {
      const MatrixOperands<T, a_along_depth.value, b_along_depth.value> operands{rows, columns, args.k};
      multiply_tiles(ctx, operands, output, args.activation, args.k, args.batch);
    });
  });
}

}  // namespace

void matmul(Context& ctx, const MatmulArgs& args, const void* a, const void* b, void* c) {
  if (args.m == 0 || args.n == 0 || args.batch == 0) return;
  switch (args.dtype) {
    case DType::float32:
      return matmul_of(ctx, args, static_cast<const float*>(a), static_cast<const float*>(b), static_cast<float*>(c));
    case DType::float64:
      return matmul_of(ctx, args, static_cast<const double*>(a), static_cast<const double*>(b),
                       static_cast<double*>(c));
    default: fail("matmul", "the CUDA kernel multiplies float32 and float64, not ", to_string(args.dtype));
  }
}

}  // namespace mica::kernels::MICA_CUDA_BACKEND
