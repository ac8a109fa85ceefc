// Products of a matrix and a vector: each element of the matrix is read once, so that memory is the limit. Either the
// matrix has rows along the vector, which are summed by a warp or a block each, or columns, by a thread each. Where
// there are few sums, the vector is cut into parts, whose sums are added in order.
#pragma once

#include "cuda/tile.h"

namespace mica::kernels::MICA_CUDA_BACKEND {

// sums[count] of matrix [count, depth] by a vector: elements along the depth lie side by side, or those along the
// count.
template <class T>
struct MatrixVector {
  const T* matrix = nullptr;
  int64_t stride = 0, matrix_batch_stride = 0;  // of rows, or of columns
  const T* vector = nullptr;
  int64_t vector_stride = 0, vector_batch_stride = 0;
  int count = 0;
  int64_t depth = 0;
  int splits = 1;
  int64_t split_depth = 0;
};

inline constexpr int kVectorThreads = 256;

// Writes sum `i` of a product, whose results are one row or one column; of several splits, to [split, batch, count].
template <class T>
MICA_DEVICE void write_sum(const MatrixVector<T>& v, const MatrixOutput<T>& output, T* sums, int split, int64_t batch,
                           int64_t batches, int i, T sum) {
  if (v.splits > 1) {
    sums[(split * batches + batch) * v.count + i] = sum;
    return;
  }
  const int row = output.columns == 1 ? i : 0, column = i - row;
  T& c = output.c[output.at(batch, row) + column];
  const T shift = output.bias ? output.bias[column] : T(0);
  c = output.finish_all(sum, shift, output.accumulate ? c : T(0));
}

// kSum threads sum along a row, each in packs of kWidth.
template <class T, int kSum, int kWidth>
MICA_KERNEL(kVectorThreads)
void sum_rows_kernel(const MatrixVector<T> v, int64_t rows, int64_t batches, const MatrixOutput<T> output,
                     T* __restrict__ sums) {
  constexpr int kAtOnce = 4;  // packs that are on their way
  MICA_SHARED(T, parts, [kVectorThreads / kWarpSize]);
  const int thread = static_cast<int>(thread_index().x);
  const int64_t at = int64_t{block_index().x} * (kVectorThreads / kSum) + thread / kSum;
  const bool is_there = at < rows;
  const int64_t product = at / v.count;
  const int i = static_cast<int>(at - product * v.count);
  const int split = static_cast<int>(product / batches);
  const int64_t batch = product - split * batches;
  const int64_t begin = split * v.split_depth, end = is_there ? at_most(begin + v.split_depth, v.depth) : 0;
  const T* const row = v.matrix + batch * v.matrix_batch_stride + i * v.stride;
  const T* const vector = v.vector + batch * v.vector_batch_stride;
  Pack<T, kWidth> sum = {};
  for (int64_t k = begin + thread % kSum * kWidth; k < end; k += kSum * kWidth * kAtOnce) {
    Pack<T, kWidth> x[kAtOnce] = {}, y[kAtOnce] = {};
    MICA_UNROLL
    for (int n = 0; n < kAtOnce; ++n) {
      const int64_t from = k + n * (kSum * kWidth);
      if (from >= end) continue;
      x[n] = *reinterpret_cast<const Pack<T, kWidth>*>(row + from);
      if constexpr (kWidth > 1)
        y[n] = *reinterpret_cast<const Pack<T, kWidth>*>(vector + from);
      else
        y[n].v[0] = vector[from * v.vector_stride];
    }
    MICA_UNROLL
    for (int n = 0; n < kAtOnce; ++n) {
      MICA_UNROLL
      for (int e = 0; e < kWidth; ++e) sum.v[e] += x[n].v[e] * y[n].v[e];
    }
  }
  T total = sum.v[0];
  MICA_UNROLL
  for (int e = 1; e < kWidth; ++e) total += sum.v[e];
  total = warp_reduce(total, Add{});
  if constexpr (kSum > kWarpSize) {
    if (thread % kWarpSize == 0) parts[thread / kWarpSize] = total;
    barrier();
    total = parts[0];
    MICA_UNROLL
    for (int n = 1; n < kVectorThreads / kWarpSize; ++n) total += parts[n];
  }
  if (is_there && thread % kSum == 0) write_sum(v, output, sums, split, batch, batches, i, total);
}

// A lane sums kWidth columns, and the warps of a block every eighth element of them.
template <class T, int kWidth>
MICA_KERNEL(kVectorThreads)
void sum_columns_kernel(const MatrixVector<T> v, int column_blocks, int64_t batches, const MatrixOutput<T> output,
                        T* __restrict__ sums) {
  constexpr int kWarps = kVectorThreads / kWarpSize;
  constexpr int kAtOnce = 4;
  MICA_SHARED(T, parts, [kWarps][kWidth][kWarpSize]);
  const int lane = static_cast<int>(thread_index().x) % kWarpSize;
  const int warp = static_cast<int>(thread_index().x) / kWarpSize;
  const int64_t product = block_index().x / static_cast<unsigned>(column_blocks);
  const int first =
      (static_cast<int>(block_index().x % static_cast<unsigned>(column_blocks)) * kWarpSize + lane) * kWidth;
  const int split = static_cast<int>(product / batches);
  const int64_t batch = product - split * batches;
  const int64_t begin = split * v.split_depth;
  const int64_t end = first < v.count ? at_most(begin + v.split_depth, v.depth) : 0;
  const T* const columns = v.matrix + batch * v.matrix_batch_stride + first;
  const T* const vector = v.vector + batch * v.vector_batch_stride;
  Pack<T, kWidth> sum = {};
  for (int64_t k = begin + warp; k < end; k += kWarps * kAtOnce) {
    Pack<T, kWidth> x[kAtOnce] = {};
    T y[kAtOnce] = {};
    MICA_UNROLL
    for (int n = 0; n < kAtOnce; ++n) {
      const int64_t from = k + n * kWarps;
      if (from >= end) continue;
      x[n] = *reinterpret_cast<const Pack<T, kWidth>*>(columns + from * v.stride);
      y[n] = vector[from * v.vector_stride];
    }
    MICA_UNROLL
    for (int n = 0; n < kAtOnce; ++n) {
      MICA_UNROLL
      for (int e = 0; e < kWidth; ++e) sum.v[e] += x[n].v[e] * y[n];
    }
  }
  MICA_UNROLL
  for (int e = 0; e < kWidth; ++e) parts[warp][e][lane] = sum.v[e];
  barrier();
  if (warp >= kWidth || first + warp >= v.count) return;
  T total = parts[0][warp][lane];
  MICA_UNROLL
  for (int n = 1; n < kWarps; ++n) total += parts[n][warp][lane];
  write_sum(v, output, sums, split, batch, batches, first + warp, total);
}

// output, of one row or one column, = the batch of products. `along_depth`: rows of the matrix lie along the vector.
template <class T>
void multiply_vector(Context& ctx, MatrixVector<T> v, bool along_depth, const MatrixOutput<T>& output, int64_t batch) {
  constexpr int64_t kFull = 1024, kLong = 2048;  // blocks; of a vector
  const bool packs = along_depth ? keeps_packs<T>(v.matrix, v.stride, v.matrix_batch_stride, v.depth) &&
                                       keeps_packs<T>(v.vector, v.vector_batch_stride) && v.vector_stride == 1
                                 : keeps_packs<T>(v.matrix, v.stride, v.matrix_batch_stride, v.count);
  for_width<T>(packs, [&](auto width) {
    constexpr int kWidth = width.value;
    const int64_t column_blocks = ceil_div(v.count, kWarpSize * kWidth);
    const int64_t blocks = (along_depth ? v.count : column_blocks) * batch, shortest = along_depth ? kLong : 64;
    const int64_t splits = at_least<int64_t>(1, at_most(kFull / blocks, v.depth / shortest));
    v.split_depth = round_up(ceil_div(at_least<int64_t>(1, v.depth), splits), 32);
    v.splits = to_int(at_least<int64_t>(1, ceil_div(v.depth, v.split_depth)));
    const int64_t count = batch * v.count;
    const Scratch scratch(ctx, v.splits > 1 ? sizeof(T) * static_cast<size_t>(v.splits * count) : 0);
    T* const sums = scratch.as<T>();
    if (!along_depth)
      launch(sum_columns_kernel<T, kWidth>, column_blocks * batch * v.splits, {kVectorThreads}, 0, ctx.stream, v,
             to_int(column_blocks), batch, output, sums);
    else if (v.split_depth >= kLong)
      launch(sum_rows_kernel<T, kVectorThreads, kWidth>, count * v.splits, {kVectorThreads}, 0, ctx.stream, v,
             count * v.splits, batch, output, sums);
    else
      launch(sum_rows_kernel<T, kWarpSize, kWidth>, ceil_div(count * v.splits, kVectorThreads / kWarpSize),
             {kVectorThreads}, 0, ctx.stream, v, count * v.splits, batch, output, sums);
    if (v.splits > 1) add_splits(ctx, sums, v.splits, batch, output);
  });
}

}  // namespace mica::kernels::MICA_CUDA_BACKEND
