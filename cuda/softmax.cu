// Softmax and cross-entropy over rows, from x - max(x). Rows that fit are read once into registers (rows.h).
#include "cuda/rows.h"

namespace mica::kernels::MICA_CUDA_BACKEND {

namespace {

template <class T, class Sum>
struct ExpSum {
  T largest;
  Sum sum;  // of exp(x - largest)
};

// The maximum of a row and the sum of exp(x - maximum), in one pass. With `replace`, x that is kept becomes
// exp(x - maximum). Long rows are summed from the maximum so far, which rescales the sum when it grows: Milakov,
// Gimelshein, "Online normalizer calculation for softmax", 2018, arXiv:1805.02867.
template <bool replace, class Layout, class T, class Maxima, class Sums>
MICA_DEVICE ExpSum<T, RowSum<Layout, T>> exp_sum(const Row<Layout>& row, RowValues<Layout, T>& x, Maxima&& maxima,
                                                 Sums&& sums) {
  T largest = -kInfinity<T>;
  const auto take_packs = [&](int64_t base) {
    row.packs(base, [&](int p, auto) {
      MICA_UNROLL
      for (int j = 0; j < Layout::kWidth; ++j) largest = Larger{}(largest, x[p].v[j]);
    });
  };
  if constexpr (Layout::kKept) {
    take_packs(0);
    largest = reduce_row<Layout>(largest, Larger{}, maxima);
    const auto term = [&](int p, auto, int j) {
      const T e = math::exp(x[p].v[j] - largest);
      if constexpr (replace) x[p].v[j] = e;
      return e;
    };
    return {largest, sum_row<T>(
                         row, [](int64_t) {}, term, sums)};
  } else {
    double sum = 0;
    row.chunks([&](int64_t base) {
      x.fetch(base);
      const T before = largest;
      take_packs(base);
      if (largest == -kInfinity<T>) return;  // nothing to add yet
      T part = 0;
      row.packs(base, [&](int p, auto) {
        MICA_UNROLL
        for (int j = 0; j < Layout::kWidth; ++j) part += math::exp(x[p].v[j] - largest);
      });
      sum = (before == largest ? sum : sum * math::exp(before - largest)) + part;
    });
    const T own = largest;
    largest = reduce_row<Layout>(largest, Larger{}, maxima);
    return {largest, reduce_row<Layout>(sum * math::exp(own - largest), Add{}, sums)};
  }
}

// log(sum(exp(x))) - max(x). Where the maximum is infinite or NaN it is the logarithm itself.
template <class T, class Sum>
MICA_DEVICE T log_sum_above(const ExpSum<T, Sum>& of) {
  return of.largest - of.largest != T(0) ? T(0) : static_cast<T>(math::log(of.sum));
}

// y may be x.
template <class Layout, class T, bool log>
MICA_KERNEL(Layout::kThreads, Layout::kBlocks)
void softmax_kernel(int64_t rows, int64_t n, const T* x, T* y) {
  using Sum = RowSum<Layout, T>;
  MICA_SHARED(T, maxima, [kRowParts<Layout>]);
  MICA_SHARED(Sum, sums, [kRowParts<Layout>]);
  const Row<Layout> row(rows, n);
  RowValues<Layout, T> value(row, n, x);
  const auto of = exp_sum<!log>(row, value, maxima, sums);
  const T largest = of.largest;
  const T last = static_cast<T>(log ? math::log(of.sum) : 1 / of.sum);
  row.chunks([&](int64_t base) {
    value.fetch(base);
    write_row(row, n, base, y, false, [&](int p, auto, int j) {
      const T v = value[p].v[j];
      if constexpr (log) {
        return v - largest - last;
      } else if constexpr (Layout::kKept) {
        return v * last;
      } else {
        return math::exp(v - largest) * last;
      }
    });
  });
}

// dx may be dy.
template <class Layout, class T, bool log>
MICA_KERNEL(Layout::kThreads, Layout::kBlocks)
void softmax_gradient_kernel(int64_t rows, int64_t n, const T* y, const T* dy, T* dx, bool accumulate) {
  using Sum = RowSum<Layout, T>;
  MICA_SHARED(Sum, sums, [kRowParts<Layout>]);
  const Row<Layout> row(rows, n);
  RowValues<Layout, T> result(row, n, y), gradient(row, n, dy);
  const auto fetch = [&](int64_t base) {
    if constexpr (!log) result.fetch(base);
    gradient.fetch(base);
  };
  const auto term = [&](int p, auto, int j) {
    const T d = gradient[p].v[j];
    if constexpr (log) {
      return d;
    } else {
      return d * result[p].v[j];
    }
  };
  const T sum = static_cast<T>(sum_row<T>(row, fetch, term, sums));
  row.chunks([&](int64_t base) {
    result.fetch(base);
    gradient.fetch(base);
    write_row(row, n, base, dx, accumulate, [&](int p, auto, int j) {
      const T v = result[p].v[j], d = gradient[p].v[j];
      if constexpr (log) {
        return d - math::exp(v) * sum;
      } else {
        return v * (d - sum);
      }
    });
  });
}

template <class Layout, class T>
MICA_KERNEL(Layout::kThreads, Layout::kBlocks)
void sparse_cross_entropy_kernel(int64_t rows, int64_t n, T smoothing, const T* logits, const int64_t* labels,
                                 T* loss) {
  using Sum = RowSum<Layout, T>;
  MICA_SHARED(T, maxima, [kRowParts<Layout>]);
  MICA_SHARED(Sum, sums, [2][kRowParts<Layout>]);
  const Row<Layout> row(rows, n);
  RowValues<Layout, T> z(row, n, logits);
  const auto of = exp_sum<false>(row, z, maxima, sums[0]);
  const T log_sum = log_sum_above(of);
  Sum others = 0;
  if (smoothing != T(0))
    others = sum_row<T>(
        row, [&](int64_t base) { z.fetch(base); },
        [&](int p, auto, int j) { return log_sum - (z[p].v[j] - of.largest); }, sums[1]);
  if (!row.leads()) return;
  T total = log_sum - (logits[row.index * n + labels[row.index]] - of.largest);
  // What has no share takes no part, even at a logit of -inf.
  if (smoothing != T(0))
    total =
        (smoothing == T(1) ? T(0) : (1 - smoothing) * total) + smoothing * static_cast<T>(others / static_cast<Sum>(n));
  loss[row.index] = total;
}

template <class Layout, class T>
MICA_KERNEL(Layout::kThreads, Layout::kBlocks)
void sparse_cross_entropy_gradient_kernel(int64_t rows, int64_t n, T hit, T miss, const T* logits,
                                          const int64_t* labels, const T* dloss, T* dz, bool accumulate) {
  using Sum = RowSum<Layout, T>;
  MICA_SHARED(T, maxima, [kRowParts<Layout>]);
  MICA_SHARED(Sum, sums, [kRowParts<Layout>]);
  const Row<Layout> row(rows, n);
  RowValues<Layout, T> z(row, n, logits);
  const auto of = exp_sum<true>(row, z, maxima, sums);
  const T largest = of.largest, scale = static_cast<T>(1 / of.sum);
  const int64_t label = row.one_of(labels);
  const T d = row.one_of(dloss);
  row.chunks([&](int64_t base) {
    z.fetch(base);
    write_row(row, n, base, dz, accumulate, [&](int p, auto i, int j) {
      const T e = Layout::kKept ? z[p].v[j] : math::exp(z[p].v[j] - largest);
      return d * (e * scale - (i + j == label ? hit : miss));
    });
  });
}

template <class Layout, class T>
MICA_KERNEL(Layout::kThreads, Layout::kBlocks)
void cross_entropy_kernel(int64_t rows, int64_t n, const T* logits, const T* targets, T* loss) {
  using Sum = RowSum<Layout, T>;
  MICA_SHARED(T, maxima, [kRowParts<Layout>]);
  MICA_SHARED(Sum, sums, [2][kRowParts<Layout>]);
  const Row<Layout> row(rows, n);
  RowValues<Layout, T> z(row, n, logits), target(row, n, targets);
  const auto of = exp_sum<false>(row, z, maxima, sums[0]);
  const T log_sum = log_sum_above(of);
  const auto fetch = [&](int64_t base) {
    z.fetch(base);
    target.fetch(base);
  };
  const auto term = [&](int p, auto, int j) {  // a target of 0 takes no part, even against a logit of -inf
    const T t = target[p].v[j];
    return t != T(0) ? t * (log_sum - (z[p].v[j] - of.largest)) : T(0);
  };
  const Sum total = sum_row<T>(row, fetch, term, sums[1]);
  if (row.leads()) loss[row.index] = static_cast<T>(total);
}

template <class Layout, class T>
MICA_KERNEL(Layout::kThreads, Layout::kBlocks)
void cross_entropy_gradient_kernel(int64_t rows, int64_t n, const T* logits, const T* targets, const T* dloss, T* dz,
                                   bool accumulate) {
  using Sum = RowSum<Layout, T>;
  MICA_SHARED(T, maxima, [kRowParts<Layout>]);
  MICA_SHARED(Sum, sums, [2][kRowParts<Layout>]);
  const Row<Layout> row(rows, n);
  RowValues<Layout, T> z(row, n, logits), target(row, n, targets);
  const auto of = exp_sum<true>(row, z, maxima, sums[0]);
  const Sum weight = sum_row<T>(
      row, [&](int64_t base) { target.fetch(base); }, [&](int p, auto, int j) { return target[p].v[j]; }, sums[1]);
  const T largest = of.largest, scale = static_cast<T>(weight / of.sum);
  const T d = row.one_of(dloss);
  row.chunks([&](int64_t base) {
    z.fetch(base);
    target.fetch(base);
    write_row(row, n, base, dz, accumulate, [&](int p, auto, int j) {
      const T e = Layout::kKept ? z[p].v[j] : math::exp(z[p].v[j] - largest);
      return d * (e * scale - target[p].v[j]);
    });
  });
}

template <bool log>
void launch_softmax(Context& ctx, DType dtype, int64_t rows, int64_t n, const void* x, void* y) {
  if (rows == 0 || n == 0) return;
  for_float(dtype, [&](auto t) {
    using T = decltype(t);
    for_row_layout<T>(rows, n, whole_packs<T>(n, x, y), [&](auto layout, int64_t blocks) {
      using Layout = decltype(layout);
      launch(softmax_kernel<Layout, T, log>, blocks, {Layout::kThreads}, 0, ctx.stream, rows, n,
             static_cast<const T*>(x), static_cast<T*>(y));
    });
  });
}

template <bool log>
void launch_softmax_gradient(Context& ctx, DType dtype, int64_t rows, int64_t n, const void* y, const void* dy,
                             void* dx, Write write) {
  if (rows == 0 || n == 0) return;
  for_float(dtype, [&](auto t) {
    using T = decltype(t);
    for_row_layout<T>(rows, n, whole_packs<T>(n, y, dy, dx), [&](auto layout, int64_t blocks) {
      using Layout = decltype(layout);
      launch(softmax_gradient_kernel<Layout, T, log>, blocks, {Layout::kThreads}, 0, ctx.stream, rows, n,
             static_cast<const T*>(y), static_cast<const T*>(dy), static_cast<T*>(dx), write == Write::accumulate);
    });
  });
}

}  // namespace

void softmax(Context& ctx, DType dtype, int64_t rows, int64_t n, const void* x, void* y) {
  launch_softmax<false>(ctx, dtype, rows, n, x, y);
}

void softmax_gradient(Context& ctx, DType dtype, int64_t rows, int64_t n, const void* y, const void* dy, void* dx,
                      Write write) {
  launch_softmax_gradient<false>(ctx, dtype, rows, n, y, dy, dx, write);
}

void log_softmax(Context& ctx, DType dtype, int64_t rows, int64_t n, const void* x, void* y) {
  launch_softmax<true>(ctx, dtype, rows, n, x, y);
}

void log_softmax_gradient(Context& ctx, DType dtype, int64_t rows, int64_t n, const void* y, const void* dy, void* dx,
                          Write write) {
  launch_softmax_gradient<true>(ctx, dtype, rows, n, y, dy, dx, write);
}

void sparse_cross_entropy(Context& ctx, DType dtype, int64_t rows, int64_t n, double smoothing, const void* logits,
                          const int64_t* labels, void* loss) {
  if (rows == 0 || n == 0) return;
  for_float(dtype, [&](auto t) {
    using T = decltype(t);
    for_row_layout<T>(rows, n, whole_packs<T>(n, logits), [&](auto layout, int64_t blocks) {
      using Layout = decltype(layout);
      launch(sparse_cross_entropy_kernel<Layout, T>, blocks, {Layout::kThreads}, 0, ctx.stream, rows, n,
             static_cast<T>(smoothing), static_cast<const T*>(logits), labels, static_cast<T*>(loss));
    });
  });
}

void sparse_cross_entropy_gradient(Context& ctx, DType dtype, int64_t rows, int64_t n, double smoothing,
                                   const void* logits, const int64_t* labels, const void* dloss, void* dz,
                                   Write write) {
  if (rows == 0 || n == 0) return;
  const double miss = smoothing / static_cast<double>(n), hit = 1 - smoothing + miss;
  for_float(dtype, [&](auto t) {
    using T = decltype(t);
    for_row_layout<T>(rows, n, whole_packs<T>(n, logits, dz), [&](auto layout, int64_t blocks) {
      using Layout = decltype(layout);
      launch(sparse_cross_entropy_gradient_kernel<Layout, T>, blocks, {Layout::kThreads}, 0, ctx.stream, rows, n,
             static_cast<T>(hit), static_cast<T>(miss), static_cast<const T*>(logits), labels,
             static_cast<const T*>(dloss), static_cast<T*>(dz), write == Write::accumulate);
    });
  });
}

void cross_entropy(Context& ctx, DType dtype, int64_t rows, int64_t n, const void* logits, const void* targets,
                   void* loss) {
  if (rows == 0 || n == 0) return;
  for_float(dtype, [&](auto t) {
    using T = decltype(t);
    for_row_layout<T>(rows, n, whole_packs<T>(n, logits, targets), [&](auto layout, int64_t blocks) {
      using Layout = decltype(layout);
      launch(cross_entropy_kernel<Layout, T>, blocks, {Layout::kThreads}, 0, ctx.stream, rows, n,
             static_cast<const T*>(logits), static_cast<const T*>(targets), static_cast<T*>(loss));
    });
  });
}

void cross_entropy_gradient(Context& ctx, DType dtype, int64_t rows, int64_t n, const void* logits, const void* targets,
                            const void* dloss, void* dz, Write write) {
  if (rows == 0 || n == 0) return;
  for_float(dtype, [&](auto t) {
    using T = decltype(t);
    for_row_layout<T>(rows, n, whole_packs<T>(n, logits, targets, dz), [&](auto layout, int64_t blocks) {
      using Layout = decltype(layout);
      launch(cross_entropy_gradient_kernel<Layout, T>, blocks, {Layout::kThreads}, 0, ctx.stream, rows, n,
             static_cast<const T*>(logits), static_cast<const T*>(targets), static_cast<const T*>(dloss),
             static_cast<T*>(dz), write == Write::accumulate);
    });
  });
}

}  // namespace mica::kernels::MICA_CUDA_BACKEND
