// Matrix products in float32 and float64: any transposes, leading dimensions and batch, with bias and activation in the
// epilogue. The contract is MatmulArgs' (kernels/args.h).
#include "cuda/core/launch.h"
#include "cuda/table.h"

namespace mica::kernels::MICA_CUDA_BACKEND {

namespace {

// A block computes kTile x kTile elements of c, a thread 4 x 4 of them. The operands pass through shared memory in
// slices of kDepth: the next slice is on its way from global memory into registers while this one is multiplied.
constexpr int kTile = 64;
constexpr int kDepth = 16;
constexpr int kThreads = (kTile / 4) * (kTile / 4);
constexpr int kLoads = kTile * kDepth / kThreads;  // elements of each operand that a thread loads for a slice
// Vectors in a row of a slice. The one that is spare puts rows into different banks: loading an operand whose depth
// runs fastest writes down a column.
constexpr int kRow = kTile / 4 + 1;

/// One operand as op() presents it: `extent` rows of op(a) or columns of op(b), each `depth` long. One of the strides
/// is 1.
struct Operand {
  int64_t extent = 0;
  int64_t extent_stride = 0, depth_stride = 0;
  int64_t batch_stride = 0;
};

struct MatmulShape {
  Operand a, b;
  int64_t depth = 0;
  int64_t ldc = 0, c_batch_stride = 0;
  unsigned row_tiles = 0, column_tiles = 0;  // of each product of the batch
  bool accumulate = false;
};

/// A thread's share of moving an operand's slices, zeros beyond its edges, from global to shared memory. Neighbouring
/// threads take neighbouring addresses: along the depth where that is contiguous, else along the extent.
template <class T>
class SliceLoader {
 public:
  MICA_DEVICE SliceLoader(const Operand& operand, const T* data, int64_t batch, int64_t first, int64_t depth) {
    const int thread = static_cast<int>(thread_index().x);
    const bool along_depth = operand.depth_stride == 1;
    k_ = along_depth ? thread % kDepth : thread / kTile;
    k_step_ = along_depth ? 0 : kThreads / kTile;
    i_ = along_depth ? thread / kDepth : thread % kTile;
    i_step_ = along_depth ? kThreads / kDepth : 0;
    depth_left_ = depth - k_;
    const int64_t extent_left = operand.extent - first - i_;
    extent_left_ = static_cast<int>(extent_left < kTile ? extent_left : kTile);
    data_ = data;
    next_ = batch * operand.batch_stride + (first + i_) * operand.extent_stride + k_ * operand.depth_stride;
    load_step_ = i_step_ * operand.extent_stride + k_step_ * operand.depth_stride;
    slice_step_ = kDepth * operand.depth_stride;
  }

  /// Starts reading the next slice.
  MICA_DEVICE void load() {
    MICA_UNROLL
    for (int n = 0; n < kLoads; ++n) {
      const bool inside = n * k_step_ < depth_left_ && n * i_step_ < extent_left_;
      value_[n] = inside ? data_[next_ + n * load_step_] : T(0);
    }
    next_ += slice_step_;
    depth_left_ -= kDepth;
  }

  /// Writes what load() read.
  template <class Slice>
  MICA_DEVICE void store(Slice&& slice) const {
    MICA_UNROLL
    for (int n = 0; n < kLoads; ++n) {
      const int k = k_ + n * k_step_, i = i_ + n * i_step_;
      slice[k][i / 4].v[i % 4] = value_[n];
    }
  }

 private:
  int k_, k_step_, i_, i_step_;
  int64_t depth_left_;
  int extent_left_;
  const T* data_;
  int64_t next_, load_step_, slice_step_;
  T value_[kLoads];
};

// c[M,N] (+)= activation(op(a)[M,K] op(b)[K,N] + bias[N]). Each element is summed over k in ascending order.
template <class T, class Activation>
MICA_KERNEL(kThreads, 2)
void matmul_kernel(const MatmulShape shape, const T* __restrict__ a, const T* __restrict__ b,
                   const T* __restrict__ bias, T* __restrict__ c) {
  MICA_SHARED(Vector4<T>, a_slice, [2][kDepth][kRow]);
  MICA_SHARED(Vector4<T>, b_slice, [2][kDepth][kRow]);

  const unsigned tile = block_index().x;
  const unsigned row_tile = tile / shape.column_tiles;
  const int64_t batch = row_tile / shape.row_tiles;
  const int64_t first_row = int64_t{row_tile % shape.row_tiles} * kTile;
  const int64_t first_column = int64_t{tile % shape.column_tiles} * kTile;
  const int thread_row = static_cast<int>(thread_index().x) / (kTile / 4);
  const int thread_column = static_cast<int>(thread_index().x) % (kTile / 4);

  SliceLoader<T> a_loader(shape.a, a, batch, first_row, shape.depth);
  SliceLoader<T> b_loader(shape.b, b, batch, first_column, shape.depth);
  T sum[4][4] = {};

  a_loader.load();
  b_loader.load();
  int buffer = 0;
  for (int64_t left = shape.depth; left > 0; left -= kDepth) {
    a_loader.store(a_slice[buffer]);
    b_loader.store(b_slice[buffer]);
    // Slices are written before they are read. That they are read before they are written again needs no barrier of its
    // own: the buffer written next was last read before this one.
    barrier();
    a_loader.load();
    b_loader.load();
    MICA_UNROLL
    for (int k = 0; k < kDepth; ++k) {
      const Vector4<T> x = a_slice[buffer][k][thread_row];
      const Vector4<T> y = b_slice[buffer][k][thread_column];
      MICA_UNROLL
      for (int i = 0; i < 4; ++i) {
        MICA_UNROLL
        for (int j = 0; j < 4; ++j) sum[i][j] += x.v[i] * y.v[j];
      }
    }
    buffer ^= 1;
  }

  const int64_t row = first_row + thread_row * 4, column = first_column + thread_column * 4;
  T* const corner = c + batch * shape.c_batch_stride + row * shape.ldc + column;
  MICA_UNROLL
  for (int j = 0; j < 4; ++j) {
    if (column + j >= shape.b.extent) break;
    const T shift = bias ? bias[column + j] : T(0);
    MICA_UNROLL
    for (int i = 0; i < 4; ++i) {
      if (row + i >= shape.a.extent) break;
      T& y = corner[i * shape.ldc + j];
      y = shape.accumulate ? y + sum[i][j] : Activation::forward(sum[i][j] + shift);
    }
  }
}

template <class T, class Activation>
void launch_matmul(Context& ctx, const MatmulArgs& args, const void* a, const void* b, void* c) {
  MatmulShape shape;
  shape.a = {args.m, args.transpose_a ? 1 : args.lda, args.transpose_a ? args.lda : 1, args.a_batch_stride};
  shape.b = {args.n, args.transpose_b ? args.ldb : 1, args.transpose_b ? 1 : args.ldb, args.b_batch_stride};
  shape.depth = args.k;
  shape.ldc = args.ldc;
  shape.c_batch_stride = args.c_batch_stride;
  shape.accumulate = args.write == Write::accumulate;
  const int64_t row_tiles = (args.m + kTile - 1) / kTile, column_tiles = (args.n + kTile - 1) / kTile;
  shape.row_tiles = static_cast<unsigned>(row_tiles);
  shape.column_tiles = static_cast<unsigned>(column_tiles);
  // One dimension of blocks for all: the other two of a grid end at 65535.
  launch(matmul_kernel<T, Activation>, args.batch * row_tiles * column_tiles, {kThreads}, 0, ctx.stream, shape,
         static_cast<const T*>(a), static_cast<const T*>(b), static_cast<const T*>(args.bias), static_cast<T*>(c));
}

template <class T>
void matmul_of(Context& ctx, const MatmulArgs& args, const void* a, const void* b, void* c) {
  switch (args.activation) {
#define MICA_CASE(function, Functor) \
  case UnaryOp::function: return launch_matmul<T, scalar::Functor>(ctx, args, a, b, c);
    MICA_FUSED_OPS(MICA_CASE)
#undef MICA_CASE
    default: MICA_ASSERT(false);
  }
}

}  // namespace

void matmul(Context& ctx, const MatmulArgs& args, const void* a, const void* b, void* c) {
  if (args.m == 0 || args.n == 0 || args.batch == 0) return;
  switch (args.dtype) {
    case DType::float32: return matmul_of<float>(ctx, args, a, b, c);
    case DType::float64: return matmul_of<double>(ctx, args, a, b, c);
    default: fail("matmul", "the CUDA kernel multiplies float32 and float64, not ", to_string(args.dtype));
  }
}

}  // namespace mica::kernels::MICA_CUDA_BACKEND
