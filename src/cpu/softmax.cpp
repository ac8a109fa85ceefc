// CPU softmax and cross-entropy: a row at a time, from x - max(x).
#include "cpu/reduce.h"

namespace mica::kernels::cpu::MICA_CPU_LEVEL {

namespace {

template <class F>
void for_softmax_rows(Context& ctx, int64_t rows, int64_t n, const F& body) {
  parallel::ranges(ctx.threads, rows, max(1, kGrain / 8 / max(1, n)), [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) body(row);
  });
}

// The sum of exp(x - max) over a row, which is at least 1.
template <class T>
[[gnu::always_inline]] inline double exp_sum(const T* x, T largest, int64_t n) {
  return lane_sum<T>(n, [&](int64_t i) { return math::exp(x[i] - largest); });
}

// log(sum(exp(x))) of a row. An infinite maximum is the answer itself.
template <class T>
[[gnu::always_inline]] inline double log_sum_exp(const T* x, int64_t n) {
  const T largest = row_max(x, n);
  if (largest - largest != T(0)) return static_cast<double>(largest);
  return static_cast<double>(largest) + ::log(exp_sum(x, largest, n));
}

}  // namespace

void softmax(Context& ctx, DType dtype, int64_t rows, int64_t n, const void* x, void* y) {
  for_float(dtype, [&](auto t) {
    using T = decltype(t);
    for_softmax_rows(ctx, rows, n, [&](int64_t row) {
      const T* in = static_cast<const T*>(x) + row * n;
      T* out = static_cast<T*>(y) + row * n;
      const T largest = row_max(in, n);
#pragma GCC ivdep
      for (int64_t i = 0; i < n; ++i) out[i] = math::exp(in[i] - largest);
      const T scale = static_cast<T>(1 / row_sum(out, n));
      for (int64_t i = 0; i < n; ++i) out[i] *= scale;
    });
  });
}

void softmax_gradient(Context& ctx, DType dtype, int64_t rows, int64_t n, const void* y, const void* dy, void* dx,
                      Write write) {
  for_float(dtype, [&](auto t) {
    using T = decltype(t);
    for_softmax_rows(ctx, rows, n, [&](int64_t row) {
      const T *p = static_cast<const T*>(y) + row * n, *in = static_cast<const T*>(dy) + row * n;
      T* out = static_cast<T*>(dx) + row * n;
      const T dot = static_cast<T>(lane_sum<T>(n, [&](int64_t i) { return in[i] * p[i]; }));
      for (int64_t i = 0; i < n; ++i) store(out[i], p[i] * (in[i] - dot), write == Write::accumulate);
    });
  });
}

void log_softmax(Context& ctx, DType dtype, int64_t rows, int64_t n, const void* x, void* y) {
  for_float(dtype, [&](auto t) {
    using T = decltype(t);
    for_softmax_rows(ctx, rows, n, [&](int64_t row) {
      const T* in = static_cast<const T*>(x) + row * n;
      T* out = static_cast<T*>(y) + row * n;
      const T largest = row_max(in, n), log_sum = static_cast<T>(::log(exp_sum(in, largest, n)));
      for (int64_t i = 0; i < n; ++i) out[i] = in[i] - largest - log_sum;
    });
  });
}

void log_softmax_gradient(Context& ctx, DType dtype, int64_t rows, int64_t n, const void* y, const void* dy, void* dx,
                          Write write) {
  for_float(dtype, [&](auto t) {
    using T = decltype(t);
    for_softmax_rows(ctx, rows, n, [&](int64_t row) {
      const T *log_p = static_cast<const T*>(y) + row * n, *in = static_cast<const T*>(dy) + row * n;
      T* out = static_cast<T*>(dx) + row * n;
      const T total = static_cast<T>(row_sum(in, n));
#pragma GCC ivdep
      for (int64_t i = 0; i < n; ++i) store(out[i], in[i] - math::exp(log_p[i]) * total, write == Write::accumulate);
    });
  });
}

void sparse_cross_entropy(Context& ctx, DType dtype, int64_t rows, int64_t n, double smoothing, const void* logits,
                          const int64_t* labels, void* loss) {
  for_float(dtype, [&](auto t) {
    using T = decltype(t);
    for_softmax_rows(ctx, rows, n, [&](int64_t row) {
      const T* z = static_cast<const T*>(logits) + row * n;
      const double log_sum = log_sum_exp(z, n);
      double total = log_sum - static_cast<double>(z[labels[row]]);
      if (smoothing != 0) {  // what has no share takes no part, even at a logit of -inf
        const double others = lane_sum<double>(n, [&](int64_t i) { return log_sum - static_cast<double>(z[i]); });
        total = (smoothing == 1 ? 0 : (1 - smoothing) * total) + smoothing * others / static_cast<double>(n);
      }
      static_cast<T*>(loss)[row] = static_cast<T>(total);
    });
  });
}

void sparse_cross_entropy_gradient(Context& ctx, DType dtype, int64_t rows, int64_t n, double smoothing,
                                   const void* logits, const int64_t* labels, const void* dloss, void* dz,
                                   Write write) {
  for_float(dtype, [&](auto t) {
    using T = decltype(t);
    const double rest = smoothing / static_cast<double>(n);
    const T miss = static_cast<T>(rest), hit = static_cast<T>(1 - smoothing + rest);
    for_softmax_rows(ctx, rows, n, [&](int64_t row) {
      const T* z = static_cast<const T*>(logits) + row * n;
      const T d = static_cast<const T*>(dloss)[row];
      T* out = static_cast<T*>(dz) + row * n;
      const T largest = row_max(z, n), scale = static_cast<T>(1 / exp_sum(z, largest, n));
      const bool accumulate = write == Write::accumulate;
      T& at_label = out[labels[row]];  // by itself, so that the loop has no case
      const T before = accumulate ? at_label : T(0);
#pragma GCC ivdep
      for (int64_t i = 0; i < n; ++i) store(out[i], d * (math::exp(z[i] - largest) * scale - miss), accumulate);
      at_label = before + d * (math::exp(z[labels[row]] - largest) * scale - hit);
    });
  });
}

void cross_entropy(Context& ctx, DType dtype, int64_t rows, int64_t n, const void* logits, const void* targets,
                   void* loss) {
  for_float(dtype, [&](auto t) {
    using T = decltype(t);
    for_softmax_rows(ctx, rows, n, [&](int64_t row) {
      const T *z = static_cast<const T*>(logits) + row * n, *target = static_cast<const T*>(targets) + row * n;
      const double log_sum = log_sum_exp(z, n);
      double total = 0;  // a target of 0 takes no part, even against a logit of -inf
      for (int64_t i = 0; i < n; ++i)
        if (target[i] != T(0)) total += static_cast<double>(target[i]) * (log_sum - static_cast<double>(z[i]));
      static_cast<T*>(loss)[row] = static_cast<T>(total);
    });
  });
}

void cross_entropy_gradient(Context& ctx, DType dtype, int64_t rows, int64_t n, const void* logits, const void* targets,
                            const void* dloss, void* dz, Write write) {
  for_float(dtype, [&](auto t) {
    using T = decltype(t);
    for_softmax_rows(ctx, rows, n, [&](int64_t row) {
      const T *z = static_cast<const T*>(logits) + row * n, *target = static_cast<const T*>(targets) + row * n;
      const T d = static_cast<const T*>(dloss)[row];
      T* out = static_cast<T*>(dz) + row * n;
      const T largest = row_max(z, n);
      const T scale = static_cast<T>(row_sum(target, n) / exp_sum(z, largest, n));
#pragma GCC ivdep
      for (int64_t i = 0; i < n; ++i)
        store(out[i], d * (math::exp(z[i] - largest) * scale - target[i]), write == Write::accumulate);
    });
  });
}

}  // namespace mica::kernels::cpu::MICA_CPU_LEVEL
