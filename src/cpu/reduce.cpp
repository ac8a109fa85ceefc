// CPU reductions. A sum is cut into chunks that depend on the shape alone; a chunk is summed in lanes, the chunks in
// float64 in their order, so the result is the same whatever the number of threads.
#include "cpu/reduce.h"

namespace mica::kernels::cpu::MICA_CPU_LEVEL {

namespace {

constexpr int64_t kChunk = 8192;  // elements, or rows times columns
constexpr int64_t kColumns = 64;  // columns summed at a time

// sums[columns] = the sums of rows [begin, end) of a strip of x [n, inner], in float64. value(i) gives x's element i.
template <class T, class Value>
void sum_strip(const Value& value, int64_t begin, int64_t end, int64_t inner, int64_t columns, double* sums) {
  for (int64_t j = 0; j < columns; ++j) sums[j] = 0;
  for (int64_t i0 = begin; i0 < end; i0 += 64) {  // so many rows in T, then on into float64
    T part[kColumns] = {};
    for (int64_t i = i0; i < min(i0 + 64, end); ++i) {
      if (columns == kColumns) {
#pragma GCC ivdep
        for (int64_t j = 0; j < kColumns; ++j) part[j] += value(i * inner + j);
      } else {
#pragma GCC ivdep
        for (int64_t j = 0; j < columns; ++j) part[j] += value(i * inner + j);
      }
    }
    for (int64_t j = 0; j < columns; ++j) sums[j] += static_cast<double>(part[j]);
  }
}

// y[outer, inner] (+)= scale * the sum over n. sum_rows(outer, first, last, column, columns, sums) sums rows
// [first, last) of a strip of columns.
template <class T, class SumRows>
void sum(Context& ctx, const ReduceArgs& args, double scale, const SumRows& sum_rows, T* y, Write write) {
  const int64_t n = args.n, inner = args.inner;
  const bool accumulate = write == Write::accumulate;
  if (args.outer * inner == 0) return;
  const int64_t rows = inner == 1 ? kChunk : max(64, kChunk / inner);
  const int64_t chunks = max(1, (n + rows - 1) / rows);
  const int64_t strips = (inner + kColumns - 1) / kColumns;  // of columns, each summed by itself
  // sums[columns] of one chunk of a strip.
  const auto sum_chunk = [&](int64_t outer, int64_t strip, int64_t chunk, double* sums) {
    const int64_t column = strip * kColumns;
    sum_rows(outer, chunk * rows, min((chunk + 1) * rows, n), column, min(kColumns, inner - column), sums);
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

// y[outer, inner] = f(... f(f(start, x_0), x_1) ...) over n, for an f in which order matters to the rounding alone: a
// lone long row is cut into chunks, by its length alone.
template <class T, class F>
void fold(Context& ctx, const ReduceArgs& args, const T* x, T* y, T start, const F& f) {
  const int64_t n = args.n, inner = args.inner;
  const auto row = [&](const T* in, int64_t count) {
    T lanes[kLanes];
    for (T& lane : lanes) lane = start;
    int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes)
      for (int64_t l = 0; l < kLanes; ++l) lanes[l] = f(lanes[l], in[i + l]);
    for (int64_t l = 0; i < count; ++i, ++l) lanes[l] = f(lanes[l], in[i]);
    for (int64_t width = kLanes / 2; width > 0; width /= 2)
      for (int64_t l = 0; l < width; ++l) lanes[l] = f(lanes[l], lanes[l + width]);
    return lanes[0];
  };
  if (inner == 1) {
    const int64_t chunk = 4 * kChunk, chunks = max(1, (n + chunk - 1) / chunk);
    const Workspace workspace = ctx.workspace(chunks > 1 ? static_cast<size_t>(args.outer * chunks) * sizeof(T) : 0);
    T* partial = chunks > 1 ? workspace.as<T>() : y;
    parallel::ranges(ctx.threads, args.outer * chunks, max(1, kGrain / max(1, min(n, chunk))),
                     [&](int64_t begin, int64_t end, int) {
                       for (int64_t item = begin; item < end; ++item) {
                         const int64_t first = item % chunks * chunk;
                         partial[item] = row(x + item / chunks * n + first, min(chunk, n - first));
                       }
                     });
    if (chunks > 1)
      for (int64_t o = 0; o < args.outer; ++o) y[o] = row(partial + o * chunks, chunks);
    return;
  }
  const int64_t strips = (inner + kColumns - 1) / kColumns;
  parallel::ranges(ctx.threads, args.outer * strips, max(1, kGrain / max(1, n * min(kColumns, inner))),
                   [&](int64_t begin, int64_t end, int) {
                     for (int64_t item = begin; item < end; ++item) {
                       const int64_t o = item / strips, first = item % strips * kColumns;
                       const int64_t columns = min(kColumns, inner - first);
                       T* out = y + o * inner + first;
                       for (int64_t j = 0; j < columns; ++j) out[j] = start;
                       for (int64_t i = 0; i < n; ++i) {
                         const T* in = x + (o * n + i) * inner + first;
#pragma GCC ivdep
                         for (int64_t j = 0; j < columns; ++j) out[j] = f(out[j], in[j]);
                       }
                     }
                   });
}

}  // namespace

void reduce_sum(Context& ctx, const ReduceArgs& args, double scale, const void* x, void* y, Write write) {
  if (args.dtype == DType::int64) {
    fold(ctx, args, static_cast<const int64_t*>(x), static_cast<int64_t*>(y), int64_t{0}, [](int64_t p, int64_t q) {
      return static_cast<int64_t>(static_cast<uint64_t>(p) + static_cast<uint64_t>(q));
    });
    return;
  }
  for_float(args.dtype, [&](auto t) {
    using T = decltype(t);
    const int64_t n = args.n, inner = args.inner;
    const auto rows = [=](int64_t outer, int64_t first, int64_t last, int64_t column, int64_t columns, double* sums) {
      const T* base = static_cast<const T*>(x) + outer * n * inner + column;
      if (inner == 1)
        sums[0] = row_sum(base + first, last - first);
      else
        sum_strip<T>([=](int64_t at) { return base[at]; }, first, last, inner, columns, sums);
    };
    sum(ctx, args, scale, rows, static_cast<T*>(y), write);
  });
}

void activation_gradient(Context& ctx, UnaryOp op, DType dtype, int64_t m, int64_t n, const void* y, const void* dy,
                         void* dz, void* db, Write write) {
  for_float(dtype, [&](auto t) {
    using T = decltype(t);
    const auto rows = [=](int64_t, int64_t first, int64_t last, int64_t column, int64_t columns, double* sums) {
      const T *result = static_cast<const T*>(y) + column, *in = static_cast<const T*>(dy) + column;
      T* out = static_cast<T*>(dz) + column;
      for_fused(op, [=](auto f) {
        const auto value = [=](int64_t at) { return out[at] = in[at] * f.derivative(result[at]); };
        sum_strip<T>(value, first, last, n, columns, sums);
      });
    };
    sum(ctx, {.dtype = dtype, .outer = 1, .n = m, .inner = n}, 1.0, rows, static_cast<T*>(db), write);
  });
}

namespace {

// What the maximum (minimum) starts from: below (above) all.
template <class T>
[[gnu::always_inline]] inline T extreme(bool lowest) {
  if constexpr (std::is_floating_point_v<T>)
    return lowest ? -static_cast<T>(__builtin_inf()) : static_cast<T>(__builtin_inf());
  else if constexpr (std::is_same_v<T, uint8_t>)
    return lowest ? 0 : 255;
  else
    return std::is_same_v<T, int32_t> ? static_cast<T>(lowest ? INT32_MIN : INT32_MAX)
                                      : static_cast<T>(lowest ? INT64_MIN : INT64_MAX);
}

template <class T>
[[gnu::always_inline]] inline T times(T a, T b) {
  if constexpr (std::is_floating_point_v<T>)
    return a * b;
  else
    return static_cast<T>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b));
}

}  // namespace

void reduce(Context& ctx, ReduceOp op, const ReduceArgs& args, const void* x, void* y) {
  for_number(args.dtype, [&](auto t) {
    using T = decltype(t);
    const auto with = [&](T start, auto f) { fold(ctx, args, static_cast<const T*>(x), static_cast<T*>(y), start, f); };
    switch (op) {
      case ReduceOp::max: return with(extreme<T>(true), [](T p, T q) { return ((q > p) | (q != q)) ? q : p; });
      case ReduceOp::min: return with(extreme<T>(false), [](T p, T q) { return ((q < p) | (q != q)) ? q : p; });
      case ReduceOp::product: return with(T(1), [](T p, T q) { return times(p, q); });
    }
  });
}

void product_gradient(Context& ctx, const ReduceArgs& args, const void* x, const void* dy, void* dx) {
  for_float(args.dtype, [&](auto t) {
    using T = decltype(t);
    const int64_t n = args.n, inner = args.inner;
    parallel::ranges(ctx.threads, args.outer * inner, max(1, kGrain / max(1, n)), [&](int64_t begin, int64_t end, int) {
      for (int64_t item = begin; item < end; ++item) {
        const int64_t first = item / inner * n * inner + item % inner;
        const T* in = static_cast<const T*>(x) + first;
        T* out = static_cast<T*>(dx) + first;
        // dx[i] = dy * (those before) * (those behind). A zero makes all but its own 0; two make all 0.
        int64_t zeros = 0, zero = 0;
        double others = static_cast<double>(static_cast<const T*>(dy)[item]);
        for (int64_t i = 0; i < n; ++i) {
          if (in[i * inner] == 0)
            ++zeros, zero = i;
          else
            others *= static_cast<double>(in[i * inner]);
        }
        if (zeros > 0) {
          for (int64_t i = 0; i < n; ++i) out[i * inner] = T(0);
          if (zeros == 1) out[zero * inner] = static_cast<T>(others);
        } else {
          for (int64_t i = 0; i < n; ++i) out[i * inner] = static_cast<T>(others / static_cast<double>(in[i * inner]));
        }
      }
    });
  });
}

void cumsum(Context& ctx, const ReduceArgs& args, bool reverse, const void* x, void* y) {
  const int64_t n = args.n, inner = args.inner;
  if (n == 0) return;
  const auto run = [&](auto t, auto zero) {
    using T = decltype(t);
    parallel::ranges(ctx.threads, args.outer * inner, max(1, kGrain / max(1, n)), [&](int64_t begin, int64_t end, int) {
      for (int64_t item = begin; item < end; ++item) {
        const int64_t first = item / inner * n * inner + item % inner;
        const T* in = static_cast<const T*>(x) + first;
        T* out = static_cast<T*>(y) + first;
        auto total = zero;
        for (int64_t i = 0; i < n; ++i) {
          const int64_t at = (reverse ? n - 1 - i : i) * inner;
          total += static_cast<decltype(total)>(in[at]);
          out[at] = static_cast<T>(total);
        }
      }
    });
  };
  if (args.dtype == DType::int64)
    run(int64_t{}, uint64_t{});
  else
    for_float(args.dtype, [&](auto t) { run(t, double{}); });
}

void arg_reduce(Context& ctx, ReduceOp op, const ReduceArgs& args, const void* x, int64_t* index) {
  for_number(args.dtype, [&](auto t) {
    using T = decltype(t);
    const int64_t n = args.n, inner = args.inner;
    const bool largest = op == ReduceOp::max;
    parallel::ranges(ctx.threads, args.outer * inner, max(1, kGrain / max(1, n)), [&](int64_t begin, int64_t end, int) {
      for (int64_t item = begin; item < end; ++item) {
        const T* in = static_cast<const T*>(x) + item / inner * n * inner + item % inner;
        int64_t best = 0;
        for (int64_t i = 1; i < n; ++i) {
          const T v = in[i * inner], b = in[best * inner];
          if ((largest ? v > b : v < b) || (v != v && b == b)) best = i;
        }
        index[item] = best;
      }
    });
  });
}

}  // namespace mica::kernels::cpu::MICA_CPU_LEVEL
