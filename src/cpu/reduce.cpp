// CPU reductions. A sum is cut into chunks that depend on the shape alone; a chunk is summed in lanes, the chunks in
// float64 in their order, so the result is the same whatever the number of threads.
#include "cpu/reduce.h"

namespace mica::kernels::cpu::MICA_CPU_LEVEL {

namespace {

constexpr int64_t kChunk = 8192;  // elements, or rows times columns
constexpr int64_t kColumns = 64;  // columns summed at a time

// sums[columns] = the sums of rows [begin, end) of a strip of x [n, inner], in float64.
template <class T>
void sum_strip(const T* x, int64_t begin, int64_t end, int64_t inner, int64_t columns, double* sums) {
  for (int64_t j = 0; j < columns; ++j) sums[j] = 0;
  for (int64_t i0 = begin; i0 < end; i0 += 64) {  // so many rows in T, then on into float64
    T part[kColumns] = {};
    for (int64_t i = i0; i < min(i0 + 64, end); ++i) {
      const T* row = x + i * inner;
      if (columns == kColumns) {
        for (int64_t j = 0; j < kColumns; ++j) part[j] += row[j];
      } else {
        for (int64_t j = 0; j < columns; ++j) part[j] += row[j];
      }
    }
    for (int64_t j = 0; j < columns; ++j) sums[j] += static_cast<double>(part[j]);
  }
}

template <class T>
void sum(Context& ctx, const ReduceArgs& args, double scale, const T* x, T* y, Write write) {
  const int64_t n = args.n, inner = args.inner;
  const bool accumulate = write == Write::accumulate;
  if (args.outer * inner == 0) return;
  const int64_t rows = inner == 1 ? kChunk : max(64, kChunk / inner);
  const int64_t chunks = max(1, (n + rows - 1) / rows);
  const int64_t strips = (inner + kColumns - 1) / kColumns;  // of columns, each summed by itself
  // sums[columns] of one chunk of a strip.
  const auto sum_chunk = [&](int64_t outer, int64_t strip, int64_t chunk, double* sums) {
    const T* base = x + outer * n * inner;
    const int64_t first = chunk * rows, last = min(first + rows, n);
    if (inner == 1)
      sums[0] = row_sum(base + first, last - first);
    else
      sum_strip(base + strip * kColumns, first, last, inner, min(kColumns, inner - strip * kColumns), sums);
  };
  const auto finish = [&](int64_t outer, int64_t strip, const double* sums) {
    T* out = y + outer * inner + strip * kColumns;
    for (int64_t j = 0; j < min(kColumns, inner - strip * kColumns); ++j)
      store(out[j], static_cast<T>(scale * sums[j]), accumulate);
  };
  const int64_t results = args.outer * strips, work = max(1, min(rows, n) * min(kColumns, inner));
  if (chunks == 1) {
    parallel::ranges(ctx.threads, results, max(1, kGrain / work), [&](int64_t begin, int64_t end, int) {
      for (int64_t r = begin; r < end; ++r) {
        double sums[kColumns];
        sum_chunk(r / strips, r % strips, 0, sums);
        finish(r / strips, r % strips, sums);
      }
    });
    return;
  }
  const Workspace workspace = ctx.workspace(static_cast<size_t>(results * chunks * kColumns) * sizeof(double));
  double* partial = workspace.as<double>();
  parallel::ranges(ctx.threads, results * chunks, max(1, kGrain / work), [&](int64_t begin, int64_t end, int) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t r = item / chunks;
      sum_chunk(r / strips, r % strips, item % chunks, partial + item * kColumns);
    }
  });
  for (int64_t r = 0; r < results; ++r) {
    double* total = partial + r * chunks * kColumns;
    const int64_t columns = min(kColumns, inner - r % strips * kColumns);
    for (int64_t chunk = 1; chunk < chunks; ++chunk)
      for (int64_t j = 0; j < columns; ++j) total[j] += total[chunk * kColumns + j];
    finish(r / strips, r % strips, total);
  }
}

}  // namespace

void reduce_sum(Context& ctx, const ReduceArgs& args, double scale, const void* x, void* y, Write write) {
  for_float(args.dtype, [&](auto t) {
    using T = decltype(t);
    sum(ctx, args, scale, static_cast<const T*>(x), static_cast<T*>(y), write);
  });
}

void argmax(Context& ctx, const ReduceArgs& args, const void* x, int64_t* index) {
  for_float(args.dtype, [&](auto t) {
    using T = decltype(t);
    const int64_t n = args.n, inner = args.inner;
    parallel::ranges(ctx.threads, args.outer * inner, max(1, kGrain / max(1, n)), [&](int64_t begin, int64_t end, int) {
      for (int64_t item = begin; item < end; ++item) {
        const T* in = static_cast<const T*>(x) + item / inner * n * inner + item % inner;
        int64_t best = 0;
        for (int64_t i = 1; i < n; ++i) {
          const T v = in[i * inner], b = in[best * inner];
          if (v > b || (v != v && b == b)) best = i;
        }
        index[item] = best;
      }
    });
  });
}

}  // namespace mica::kernels::cpu::MICA_CPU_LEVEL
