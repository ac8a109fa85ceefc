// CPU reductions. A sum is cut into chunks that depend on the shape alone; a chunk is summed in lanes, the chunks in
// float64 in their order, so the result is the same whatever the number of threads.
#include "cpu/reduce.h"

namespace mica::kernels::cpu::MICA_CPU_LEVEL {

namespace {

constexpr int64_t kChunk = 8192;  // elements, or rows times columns
constexpr int64_t kColumns = 64;  // columns summed at a time

// sums[inner] = the sums of rows [begin, end) of x [n, inner], in float64.
template <class T>
void sum_rows(const T* x, int64_t begin, int64_t end, int64_t inner, double* sums) {
  for (int64_t j0 = 0; j0 < inner; j0 += kColumns) {
    const int64_t columns = min(kColumns, inner - j0);
    double total[kColumns] = {};
    for (int64_t i0 = begin; i0 < end; i0 += 64) {  // so many rows in T, then on into float64
      T part[kColumns] = {};
      for (int64_t i = i0; i < min(i0 + 64, end); ++i) {
        const T* row = x + i * inner + j0;
        if (columns == kColumns) {
          for (int64_t j = 0; j < kColumns; ++j) part[j] += row[j];
        } else {
          for (int64_t j = 0; j < columns; ++j) part[j] += row[j];
        }
      }
      for (int64_t j = 0; j < columns; ++j) total[j] += static_cast<double>(part[j]);
    }
    for (int64_t j = 0; j < columns; ++j) sums[j0 + j] = total[j];
  }
}

template <class T>
void sum(Context& ctx, const ReduceArgs& args, double scale, const T* x, T* y, Write write) {
  const int64_t n = args.n, inner = args.inner;
  const bool accumulate = write == Write::accumulate;
  if (args.outer * inner == 0) return;
  const int64_t rows = inner == 1 ? kChunk : max(64, kChunk / inner);
  const int64_t chunks = max(1, (n + rows - 1) / rows);
  const int64_t items = args.outer * chunks;
  const Workspace workspace = ctx.workspace(static_cast<size_t>(items * inner) * sizeof(double));
  double* partial = workspace.as<double>();
  parallel::ranges(ctx.threads, items, max(1, kGrain / max(1, min(rows, n) * inner)), [&](int64_t begin, int64_t end, int) {
    for (int64_t item = begin; item < end; ++item) {
      const T* base = x + item / chunks * n * inner;
      const int64_t first = item % chunks * rows, last = min(first + rows, n);
      if (inner == 1)
        partial[item] = row_sum(base + first, last - first);
      else
        sum_rows(base, first, last, inner, partial + item * inner);
    }
  });
  for (int64_t o = 0; o < args.outer; ++o)
    for (int64_t j = 0; j < inner; ++j) {
      double total = 0;
      for (int64_t chunk = 0; chunk < chunks; ++chunk) total += partial[(o * chunks + chunk) * inner + j];
      store(y[o * inner + j], static_cast<T>(scale * total), accumulate);
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
