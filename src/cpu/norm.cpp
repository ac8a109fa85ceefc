// CPU normalization. Sums over columns are cut into chunks that depend on the shape alone, added in float64 in order.
#include "cpu/reduce.h"

namespace mica::kernels::cpu::MICA_CPU_LEVEL {

namespace {

constexpr int64_t kStrip = 64;    // columns summed at a time
constexpr int64_t kBlock = 64;    // rows summed in T before they go into float64
constexpr int64_t kChunk = 8192;  // elements of a strip that one part sums

// kSums sums of each column of [rows, n]: add(row, first column, columns, sums) adds what a row gives to
// sums[kSums][kStrip]; finish(column, sums[kSums]) takes the totals.
template <class T, int kSums, class Add, class Finish>
void column_sums(Context& ctx, int64_t rows, int64_t n, const Add& add, const Finish& finish) {
  if (n == 0) return;
  const int64_t strips = (n + kStrip - 1) / kStrip, height = max(kBlock, kChunk / max(1, min(n, kStrip)));
  const int64_t chunks = max(1, (rows + height - 1) / height);
  const Workspace workspace = ctx.workspace(static_cast<size_t>(strips * chunks * kSums * kStrip) * sizeof(double));
  double* partial = workspace.as<double>();
  parallel::ranges(ctx.threads, strips * chunks, max(1, kGrain / (height * min(n, kStrip))),
                   [&](int64_t begin, int64_t end, int) {
                     for (int64_t item = begin; item < end; ++item) {
                       const int64_t first = item / chunks * kStrip, columns = min(kStrip, n - first);
                       double* totals = partial + item * kSums * kStrip;
                       for (int64_t j = 0; j < kSums * kStrip; ++j) totals[j] = 0;
                       const int64_t last = min(rows, (item % chunks + 1) * height);
                       for (int64_t i0 = item % chunks * height; i0 < last; i0 += kBlock) {
                         T part[kSums][kStrip] = {};
                         for (int64_t i = i0; i < min(i0 + kBlock, last); ++i) add(i, first, columns, part);
                         for (int s = 0; s < kSums; ++s)
                           for (int64_t j = 0; j < columns; ++j)
                             totals[s * kStrip + j] += static_cast<double>(part[s][j]);
                       }
                     }
                   });
  for (int64_t strip = 0; strip < strips; ++strip) {
    double* totals = partial + strip * chunks * kSums * kStrip;
    for (int64_t chunk = 1; chunk < chunks; ++chunk)
      for (int64_t j = 0; j < kSums * kStrip; ++j) totals[j] += totals[chunk * kSums * kStrip + j];
    for (int64_t j = 0; j < min(kStrip, n - strip * kStrip); ++j) {
      double sums[kSums];
      for (int s = 0; s < kSums; ++s) sums[s] = totals[s * kStrip + j];
      finish(strip * kStrip + j, sums);
    }
  }
}

// Rows over the threads: body(row).
template <class Body>
void for_each_row(Context& ctx, int64_t rows, int64_t n, const Body& body) {
  if (n == 0) return;
  parallel::ranges(ctx.threads, rows, max(1, kGrain / max(1, n)), [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) body(i);
  });
}

}  // namespace

void column_moments(Context& ctx, DType dtype, int64_t rows, int64_t n, const void* x, void* mean, void* variance) {
  for_float(dtype, [&](auto t) {
    using T = decltype(t);
    const T* in = static_cast<const T*>(x);
    T *m = static_cast<T*>(mean), *v = static_cast<T*>(variance);
    const double scale = rows > 0 ? 1.0 / static_cast<double>(rows) : __builtin_nan("");
    column_sums<T, 1>(
        ctx, rows, n,
        [=](int64_t i, int64_t first, int64_t columns, T(*sums)[kStrip]) {
          const T* row = in + i * n + first;
          for (int64_t j = 0; j < columns; ++j) sums[0][j] += row[j];
        },
        [=](int64_t j, const double* sums) { m[j] = static_cast<T>(sums[0] * scale); });
    column_sums<T, 1>(
        ctx, rows, n,
        [=](int64_t i, int64_t first, int64_t columns, T(*sums)[kStrip]) {
          const T* row = in + i * n + first;
          for (int64_t j = 0; j < columns; ++j) sums[0][j] += (row[j] - m[first + j]) * (row[j] - m[first + j]);
        },
        [=](int64_t j, const double* sums) { v[j] = static_cast<T>(sums[0] * scale); });
  });
}

void batch_norm(Context& ctx, DType dtype, int64_t rows, int64_t n, const void* x, const void* mean,
                const void* inverse, const void* gamma, const void* beta, void* y) {
  for_float(dtype, [&](auto t) {
    using T = decltype(t);
    const T *m = static_cast<const T*>(mean), *v = static_cast<const T*>(inverse);
    const T *g = static_cast<const T*>(gamma), *b = static_cast<const T*>(beta);
    const Workspace workspace = ctx.workspace(static_cast<size_t>(n) * sizeof(T));
    T* scale = workspace.as<T>();
    for (int64_t j = 0; j < n; ++j) scale[j] = g ? v[j] * g[j] : v[j];
    for_each_row(ctx, rows, n, [=](int64_t i) {
      const T* in = static_cast<const T*>(x) + i * n;
      T* out = static_cast<T*>(y) + i * n;
      if (b) {
#pragma GCC ivdep
        for (int64_t j = 0; j < n; ++j) out[j] = (in[j] - m[j]) * scale[j] + b[j];
      } else {
#pragma GCC ivdep
        for (int64_t j = 0; j < n; ++j) out[j] = (in[j] - m[j]) * scale[j];
      }
    });
  });
}

void batch_norm_gradient(Context& ctx, DType dtype, int64_t rows, int64_t n, bool of_batch, const void* x,
                         const void* mean, const void* inverse, const void* gamma, const void* dy, void* dx,
                         void* dgamma, void* dbeta) {
  for_float(dtype, [&](auto t) {
    using T = decltype(t);
    const T *in = static_cast<const T*>(x), *d = static_cast<const T*>(dy), *g = static_cast<const T*>(gamma);
    const T *m = static_cast<const T*>(mean), *v = static_cast<const T*>(inverse);
    T *dg = static_cast<T*>(dgamma), *db = static_cast<T*>(dbeta);
    // dx = (dy - a - (x - mean) * b) * c by columns.
    const Workspace workspace = ctx.workspace(static_cast<size_t>(3 * n) * sizeof(T));
    T *a = workspace.as<T>(), *b = a + n, *c = b + n;
    const double scale = rows > 0 && of_batch ? 1.0 / static_cast<double>(rows) : 0;
    column_sums<T, 2>(
        ctx, rows, n,
        [=](int64_t i, int64_t first, int64_t columns, T(*sums)[kStrip]) {
          const T *row = in + i * n + first, *of = d + i * n + first;
          for (int64_t j = 0; j < columns; ++j) {
            sums[0][j] += of[j];
            sums[1][j] += of[j] * (row[j] - m[first + j]);
          }
        },
        [=](int64_t j, const double* sums) {
          const double inv = static_cast<double>(v[j]);
          if (db) db[j] = static_cast<T>(sums[0]);
          if (dg) dg[j] = static_cast<T>(rows > 0 ? sums[1] * inv : 0);  // of no rows the moments are NaN
          a[j] = static_cast<T>(sums[0] * scale);
          b[j] = static_cast<T>(sums[1] * inv * inv * scale);
          c[j] = g ? v[j] * g[j] : v[j];
        });
    if (!dx) return;
    for_each_row(ctx, rows, n, [=](int64_t i) {
      const T *row = in + i * n, *of = d + i * n;
      T* out = static_cast<T*>(dx) + i * n;
#pragma GCC ivdep
      for (int64_t j = 0; j < n; ++j) out[j] = (of[j] - a[j] - (row[j] - m[j]) * b[j]) * c[j];
    });
  });
}

void layer_norm(Context& ctx, DType dtype, int64_t rows, int64_t n, double epsilon, const void* x, const void* gamma,
                const void* beta, void* y, void* mean, void* inverse) {
  for_float(dtype, [&](auto t) {
    using T = decltype(t);
    const T *g = static_cast<const T*>(gamma), *b = static_cast<const T*>(beta);
    for_each_row(ctx, rows, n, [=](int64_t i) {
      const T* in = static_cast<const T*>(x) + i * n;
      T* out = static_cast<T*>(y) + i * n;
      const double count = n > 0 ? static_cast<double>(n) : 1;
      const T m = static_cast<T>(row_sum(in, n) / count);
      const double variance = lane_sum<T>(n, [&](int64_t j) { return (in[j] - m) * (in[j] - m); }) / count;
      const T v = static_cast<T>(1 / __builtin_sqrt(variance + epsilon));
      static_cast<T*>(mean)[i] = m;
      static_cast<T*>(inverse)[i] = v;
#pragma GCC ivdep
      for (int64_t j = 0; j < n; ++j) out[j] = (in[j] - m) * v;
      if (g) {
#pragma GCC ivdep
        for (int64_t j = 0; j < n; ++j) out[j] *= g[j];
      }
      if (b) {
#pragma GCC ivdep
        for (int64_t j = 0; j < n; ++j) out[j] += b[j];
      }
    });
  });
}

void layer_norm_gradient(Context& ctx, DType dtype, int64_t rows, int64_t n, const void* x, const void* mean,
                         const void* inverse, const void* gamma, const void* dy, void* dx, void* dgamma, void* dbeta) {
  for_float(dtype, [&](auto t) {
    using T = decltype(t);
    const T *m = static_cast<const T*>(mean), *v = static_cast<const T*>(inverse), *g = static_cast<const T*>(gamma);
    const T *in = static_cast<const T*>(x), *d = static_cast<const T*>(dy);
    T *dg = static_cast<T*>(dgamma), *db = static_cast<T*>(dbeta);
    if (dg || db)
      column_sums<T, 2>(
          ctx, rows, n,
          [=](int64_t i, int64_t first, int64_t columns, T(*sums)[kStrip]) {
            const T *row = in + i * n + first, *of = d + i * n + first;
            for (int64_t j = 0; j < columns; ++j) {
              sums[0][j] += of[j];
              sums[1][j] += of[j] * (row[j] - m[i]) * v[i];
            }
          },
          [=](int64_t j, const double* sums) {
            if (db) db[j] = static_cast<T>(sums[0]);
            if (dg) dg[j] = static_cast<T>(sums[1]);
          });
    if (!dx) return;
    for_each_row(ctx, rows, n, [=](int64_t i) {
      const T *row = in + i * n, *of = d + i * n;
      T* out = static_cast<T*>(dx) + i * n;
      const T mi = m[i], vi = v[i];
      const auto scaled = [&](int64_t j) { return g ? of[j] * g[j] : of[j]; };
      const double count = static_cast<double>(n);
      const T a = static_cast<T>(lane_sum<T>(n, scaled) / count);
      const T b = static_cast<T>(lane_sum<T>(n, [&](int64_t j) { return scaled(j) * (row[j] - mi) * vi; }) / count);
      if (g) {
#pragma GCC ivdep
        for (int64_t j = 0; j < n; ++j) out[j] = (of[j] * g[j] - a - (row[j] - mi) * vi * b) * vi;
      } else {
#pragma GCC ivdep
        for (int64_t j = 0; j < n; ++j) out[j] = (of[j] - a - (row[j] - mi) * vi * b) * vi;
      }
    });
  });
}

}  // namespace mica::kernels::cpu::MICA_CPU_LEVEL
