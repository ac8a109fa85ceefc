// Batch and layer normalization. A batch's moments and the gradients' sums take one pass over the columns (columns.h),
// layer normalization one over each row (rows.h).
#include "cuda/columns.h"
#include "cuda/rows.h"

namespace mica::kernels::MICA_CUDA_BACKEND {

namespace {

// ---- By columns ----

template <class T, int width>
MICA_DEVICE Pack<T, width> load_pack(const T* x) {
  return *reinterpret_cast<const Pack<T, width>*>(x);
}

// Mean and sum of squared distances from it. Over a run of rows both are summed from the mean of the first of them,
// which leaves digits enough where all lie far from 0; runs are combined as in Chan, Golub, LeVeque, "Updating
// Formulae and a Pairwise Algorithm for Computing Sample Variances", COMPSTAT 1982.
template <class T, int width>
class Moments {
 public:
  using Source = const T*;
  using Item = Pack<T, width>;

  MICA_DEVICE Moments(Source x, int64_t, bool) : x_(x) {}
  MICA_DEVICE Item load(int64_t row, int64_t n, int64_t column) const {
    return load_pack<T, width>(x_ + row * n + column);
  }
  // From the mean of the first values, so that one that lies far off does not shift all others.
  template <int count>
  MICA_DEVICE void start(const Item (&first)[count], int rows) {
    MICA_UNROLL
    for (int j = 0; j < width; ++j) {
      T sum = first[0].v[j];
      MICA_UNROLL
      for (int i = 1; i < count; ++i)
        if (i < rows) sum += first[i].v[j];
      shift_.v[j] = sum * (T(1) / static_cast<T>(at_most(rows, count)));
      sum_[j] = square_[j] = T(0);
    }
  }
  MICA_DEVICE void add(const Item& x) {
    MICA_UNROLL
    for (int j = 0; j < width; ++j) {
      const T d = x.v[j] - shift_.v[j];
      sum_[j] += d;
      square_[j] += d * d;
    }
  }
  // Of a run, given 1 / its rows.
  MICA_DEVICE ColumnTotal total(int j, double share) const {
    const double sum = static_cast<double>(sum_[j]), mean = sum * share;
    return {static_cast<double>(shift_.v[j]) + mean, static_cast<double>(square_[j]) - sum * mean};
  }
  // The share of `more` rows among those and `count` others.
  MICA_DEVICE static double weight(double count, double more) { return more > 0 ? more / (count + more) : 0; }
  MICA_DEVICE static void merge(ColumnTotal& into, const ColumnTotal& from, double count, double weight) {
    const double d = from.a - into.a;
    into.a += d * weight;
    into.b += from.b + d * d * (count * weight);
  }

 private:
  Source x_;
  Item shift_ = {};
  T sum_[width] = {}, square_[width] = {};
};

template <class T>
struct GradientSource {
  const T *x, *dy, *mean, *inverse;
};

// Sums of dy, and of dy times what x is normalized to.
template <class T, int width, class Normalized>
class GradientSums {
 public:
  using Source = GradientSource<T>;
  struct Item {
    Pack<T, width> x, dy;
    typename Normalized::OfRow row;
  };

  MICA_DEVICE GradientSums(const Source& source, int64_t column, bool inside)
      : source_(source), normalized_(source, column, inside) {}
  MICA_DEVICE Item load(int64_t row, int64_t n, int64_t column) const {
    const int64_t at = row * n + column;
    return {load_pack<T, width>(source_.x + at), load_pack<T, width>(source_.dy + at), normalized_.row(row)};
  }
  template <int count>
  MICA_DEVICE void start(const Item (&)[count], int) {
    MICA_UNROLL
    for (int j = 0; j < width; ++j) sum_[j] = product_[j] = T(0);
  }
  MICA_DEVICE void add(const Item& item) {
    MICA_UNROLL
    for (int j = 0; j < width; ++j) {
      sum_[j] += item.dy.v[j];
      product_[j] += item.dy.v[j] * normalized_(item.x.v[j], j, item.row);
    }
  }
  MICA_DEVICE ColumnTotal total(int j, double) const {
    return {static_cast<double>(sum_[j]), static_cast<double>(product_[j])};
  }
  MICA_DEVICE static double weight(double, double) { return 0; }
  MICA_DEVICE static void merge(ColumnTotal& into, const ColumnTotal& from, double, double) {
    into.a += from.a;
    into.b += from.b;
  }

 private:
  Source source_;
  Normalized normalized_;
  T sum_[width] = {}, product_[width] = {};
};

// x - mean by columns.
template <class T, int width>
class ByColumn {
 public:
  struct OfRow {};

  MICA_DEVICE ByColumn(const GradientSource<T>& source, int64_t column, bool inside) {
    if (inside) mean_ = load_pack<T, width>(source.mean + column);
  }
  MICA_DEVICE OfRow row(int64_t) const { return {}; }
  MICA_DEVICE T operator()(T x, int j, OfRow) const { return x - mean_.v[j]; }

 private:
  Pack<T, width> mean_ = {};
};
template <class T, int width>
using BatchSums = GradientSums<T, width, ByColumn<T, width>>;

// (x - mean) * inverse by rows.
template <class T>
class ByRow {
 public:
  struct OfRow {
    T mean, inverse;
  };

  MICA_DEVICE ByRow(const GradientSource<T>& source, int64_t, bool) : mean_(source.mean), inverse_(source.inverse) {}
  MICA_DEVICE OfRow row(int64_t row) const { return {mean_[row], inverse_[row]}; }
  MICA_DEVICE T operator()(T x, int, const OfRow& row) const { return (x - row.mean) * row.inverse; }

 private:
  const T *mean_, *inverse_;
};
template <class T, int width>
using LayerSums = GradientSums<T, width, ByRow<T>>;

template <class T>
inline constexpr T kNaN = std::numeric_limits<T>::quiet_NaN();

template <class T>
struct FinishMoments {
  double rows;
  T *mean, *variance;

  MICA_DEVICE void operator()(int64_t j, const ColumnTotal& total) const {
    mean[j] = rows > 0 ? static_cast<T>(total.a) : kNaN<T>;
    variance[j] = rows > 0 ? static_cast<T>(total.b / rows) : kNaN<T>;
  }
};

// Gradients of gamma and beta, and what dx = (dy - a - (x - mean) * b) * c takes from each column.
template <class T>
struct FinishBatch {
  double rows;
  bool of_batch;
  const T *inverse, *gamma;
  T *dgamma, *dbeta;
  T *a, *b, *c;

  MICA_DEVICE void operator()(int64_t j, const ColumnTotal& total) const {
    const double scale = rows > 0 && of_batch ? 1 / rows : 0, v = static_cast<double>(inverse[j]);
    if (dbeta) dbeta[j] = static_cast<T>(total.a);
    if (dgamma) dgamma[j] = rows > 0 ? static_cast<T>(total.b * v) : T(0);  // of no rows the moments are NaN
    a[j] = static_cast<T>(total.a * scale);
    b[j] = static_cast<T>(total.b * v * v * scale);
    c[j] = gamma ? inverse[j] * gamma[j] : inverse[j];
  }
};

template <class T>
struct FinishLayer {
  T *dgamma, *dbeta;

  MICA_DEVICE void operator()(int64_t j, const ColumnTotal& total) const {
    if (dbeta) dbeta[j] = static_cast<T>(total.a);
    if (dgamma) dgamma[j] = static_cast<T>(total.b);
  }
};

template <class T>
struct NormalizeArguments {
  const T *x, *mean, *inverse, *gamma, *beta;
  T* y;
};

// y = (x - mean) * inverse * gamma + beta.
template <class T, int width>
class Normalize {
 public:
  using Arguments = NormalizeArguments<T>;
  using Item = Pack<T, width>;

  MICA_DEVICE Normalize(const Arguments& a, int64_t column)
      : x_(a.x), y_(a.y), mean_(load_pack<T, width>(a.mean + column)),
        scale_(load_pack<T, width>(a.inverse + column)), shift_{} {
    if (a.gamma) {
      const Item gamma = load_pack<T, width>(a.gamma + column);
      MICA_UNROLL
      for (int j = 0; j < width; ++j) scale_.v[j] *= gamma.v[j];
    }
    if (a.beta) shift_ = load_pack<T, width>(a.beta + column);
  }
  MICA_DEVICE Item load(int64_t at) const { return load_pack<T, width>(x_ + at); }
  MICA_DEVICE void store(int64_t at, const Item& x) const {
    Item y;
    MICA_UNROLL
    for (int j = 0; j < width; ++j) y.v[j] = (x.v[j] - mean_.v[j]) * scale_.v[j] + shift_.v[j];
    *reinterpret_cast<Item*>(y_ + at) = y;
  }

 private:
  const T* x_;
  T* y_;
  Item mean_, scale_, shift_;
};

template <class T>
struct NormalizeGradientArguments {
  const T *x, *dy, *mean, *a, *b, *c;
  T* dx;
};

// dx = (dy - a - (x - mean) * b) * c.
template <class T, int width>
class NormalizeGradient {
 public:
  using Arguments = NormalizeGradientArguments<T>;
  struct Item {
    Pack<T, width> x, dy;
  };

  MICA_DEVICE NormalizeGradient(const Arguments& of, int64_t column)
      : x_(of.x), dy_(of.dy), dx_(of.dx), mean_(load_pack<T, width>(of.mean + column)),
        a_(load_pack<T, width>(of.a + column)), b_(load_pack<T, width>(of.b + column)),
        c_(load_pack<T, width>(of.c + column)) {}
  MICA_DEVICE Item load(int64_t at) const { return {load_pack<T, width>(x_ + at), load_pack<T, width>(dy_ + at)}; }
  MICA_DEVICE void store(int64_t at, const Item& item) const {
    Pack<T, width> dx;
    MICA_UNROLL
    for (int j = 0; j < width; ++j) dx.v[j] = (item.dy.v[j] - a_.v[j] - (item.x.v[j] - mean_.v[j]) * b_.v[j]) * c_.v[j];
    *reinterpret_cast<Pack<T, width>*>(dx_ + at) = dx;
  }

 private:
  const T *x_, *dy_;
  T* dx_;
  Pack<T, width> mean_, a_, b_, c_;
};

// ---- By rows ----

template <class Layout, class T>
MICA_KERNEL(Layout::kThreads, Layout::kBlocks)
void layer_norm_kernel(int64_t rows, int64_t n, T epsilon, const T* x, const T* gamma, const T* beta, T* y, T* mean,
                       T* inverse) {
  using Sum = RowSum<Layout, T>;
  using Vector = Pack<T, Layout::kWidth>;
  MICA_SHARED(Sum, sums, [2][kRowParts<Layout>]);
  const Row<Layout> row(rows, n);
  RowValues<Layout, T> value(row, n, x);
  const auto fetch = [&](int64_t base) { value.fetch(base); };
  const Sum count = static_cast<Sum>(n > 0 ? n : 1);
  const T m = static_cast<T>(sum_row<T>(
                                 row, fetch, [&](int p, auto, int j) { return value[p].v[j]; }, sums[0]) /
                             count);
  const auto square = [&](int p, auto, int j) {
    const T d = value[p].v[j] - m;
    return d * d;
  };
  const T variance = static_cast<T>(sum_row<T>(row, fetch, square, sums[1]) / count);
  const T v = T(1) / math::sqrt(variance + epsilon);
  if (row.leads()) {
    mean[row.index] = m;
    inverse[row.index] = v;
  }
  T* const to = y + row.index * n;
  row.chunks([&](int64_t base) {
    value.fetch(base);
    row.packs(base, [&](int p, auto i) {
      Vector out = value[p];
      MICA_UNROLL
      for (int j = 0; j < Layout::kWidth; ++j) out.v[j] = (out.v[j] - m) * v;
      if (gamma) {
        const Vector scale = load_pack<T, Layout::kWidth>(gamma + i);
        MICA_UNROLL
        for (int j = 0; j < Layout::kWidth; ++j) out.v[j] *= scale.v[j];
      }
      if (beta) {
        const Vector shift = load_pack<T, Layout::kWidth>(beta + i);
        MICA_UNROLL
        for (int j = 0; j < Layout::kWidth; ++j) out.v[j] += shift.v[j];
      }
      *reinterpret_cast<Vector*>(to + i) = out;
    });
  });
}

// dx = (g - mean(g) - xn * mean(g * xn)) * inverse, where g = dy * gamma, and xn is x normalized.
template <class Layout, class T>
MICA_KERNEL(Layout::kThreads, Layout::kBlocks)
void layer_norm_gradient_kernel(int64_t rows, int64_t n, const T* x, const T* mean, const T* inverse, const T* gamma,
                                const T* dy, T* dx) {
  using Sum = RowSum<Layout, T>;
  using Vector = Pack<T, Layout::kWidth>;
  MICA_SHARED(Sum, sums, [2][kRowParts<Layout>]);
  const Row<Layout> row(rows, n);
  RowValues<Layout, T> xn(row, n, x), g(row, n, dy);
  const T m = row.one_of(mean), v = row.one_of(inverse);
  const auto normalize = [&](int64_t base) {
    row.packs(base, [&](int p, auto i) {
      MICA_UNROLL
      for (int j = 0; j < Layout::kWidth; ++j) xn[p].v[j] = (xn[p].v[j] - m) * v;
      if (!gamma) return;
      const Vector scale = load_pack<T, Layout::kWidth>(gamma + i);
      MICA_UNROLL
      for (int j = 0; j < Layout::kWidth; ++j) g[p].v[j] *= scale.v[j];
    });
  };
  Sum sum = 0, product = 0;
  row.chunks([&](int64_t base) {
    xn.fetch(base);
    g.fetch(base);
    normalize(base);
    T sum_part = 0, product_part = 0;
    row.packs(base, [&](int p, auto) {
      MICA_UNROLL
      for (int j = 0; j < Layout::kWidth; ++j) {
        sum_part += g[p].v[j];
        product_part += g[p].v[j] * xn[p].v[j];
      }
    });
    sum += sum_part;
    product += product_part;
  });
  const Sum count = static_cast<Sum>(n);
  const T a = static_cast<T>(reduce_row<Layout>(sum, Add{}, sums[0]) / count);
  const T b = static_cast<T>(reduce_row<Layout>(product, Add{}, sums[1]) / count);
  row.chunks([&](int64_t base) {
    xn.fetch(base);
    g.fetch(base);
    if constexpr (!Layout::kKept) normalize(base);
    write_row(row, n, base, dx, false, [&](int p, auto, int j) { return (g[p].v[j] - a - xn[p].v[j] * b) * v; });
  });
}

}  // namespace

void column_moments(Context& ctx, DType dtype, int64_t rows, int64_t n, const void* x, void* mean, void* variance) {
  for_float(dtype, [&](auto t) {
    using T = decltype(t);
    const FinishMoments<T> finish{static_cast<double>(rows), static_cast<T*>(mean), static_cast<T*>(variance)};
    column_sums<Moments, T>(ctx, rows, n, whole_packs<T>(n, x), true, static_cast<const T*>(x), finish);
  });
}

void batch_norm(Context& ctx, DType dtype, int64_t rows, int64_t n, const void* x, const void* mean,
                const void* inverse, const void* gamma, const void* beta, void* y) {
  for_float(dtype, [&](auto t) {
    using T = decltype(t);
    const NormalizeArguments<T> a{static_cast<const T*>(x),       static_cast<const T*>(mean),
                                  static_cast<const T*>(inverse), static_cast<const T*>(gamma),
                                  static_cast<const T*>(beta),    static_cast<T*>(y)};
    column_map<Normalize, T>(ctx, rows, n, whole_packs<T>(n, x, mean, inverse, gamma, beta, y), a);
  });
}

void batch_norm_gradient(Context& ctx, DType dtype, int64_t rows, int64_t n, bool of_batch, const void* x,
                         const void* mean, const void* inverse, const void* gamma, const void* dy, void* dx,
                         void* dgamma, void* dbeta) {
  for_float(dtype, [&](auto t) {
    using T = decltype(t);
    const T *in = static_cast<const T*>(x), *d = static_cast<const T*>(dy), *m = static_cast<const T*>(mean);
    const size_t bytes = static_cast<size_t>(round_up(n * static_cast<int64_t>(sizeof(T)), 16));
    const Scratch scratch(ctx, 3 * bytes);
    T *const a = scratch.as<T>(), *const b = scratch.as<T>(bytes), *const c = scratch.as<T>(2 * bytes);
    const FinishBatch<T> finish{static_cast<double>(rows),
                                of_batch,
                                static_cast<const T*>(inverse),
                                static_cast<const T*>(gamma),
                                static_cast<T*>(dgamma),
                                static_cast<T*>(dbeta),
                                a,
                                b,
                                c};
    const GradientSource<T> source{in, d, m, static_cast<const T*>(inverse)};
    column_sums<BatchSums, T>(ctx, rows, n, whole_packs<T>(n, x, dy, mean), dgamma || dbeta || of_batch, source,
                              finish);
    if (!dx) return;
    const NormalizeGradientArguments<T> arguments{in, d, m, a, b, c, static_cast<T*>(dx)};
    column_map<NormalizeGradient, T>(ctx, rows, n, whole_packs<T>(n, x, dy, mean, dx), arguments);
  });
}

void layer_norm(Context& ctx, DType dtype, int64_t rows, int64_t n, double epsilon, const void* x, const void* gamma,
                const void* beta, void* y, void* mean, void* inverse) {
  if (rows == 0) return;
  for_float(dtype, [&](auto t) {
    using T = decltype(t);
    for_row_layout<T>(rows, n, whole_packs<T>(n, x, gamma, beta, y), [&](auto layout, int64_t blocks) {
      using Layout = decltype(layout);
      launch(layer_norm_kernel<Layout, T>, blocks, {Layout::kThreads}, 0, ctx.stream, rows, n, static_cast<T>(epsilon),
             static_cast<const T*>(x), static_cast<const T*>(gamma), static_cast<const T*>(beta), static_cast<T*>(y),
             static_cast<T*>(mean), static_cast<T*>(inverse));
    });
  });
}

void layer_norm_gradient(Context& ctx, DType dtype, int64_t rows, int64_t n, const void* x, const void* mean,
                         const void* inverse, const void* gamma, const void* dy, void* dx, void* dgamma, void* dbeta) {
  for_float(dtype, [&](auto t) {
    using T = decltype(t);
    const T *in = static_cast<const T*>(x), *d = static_cast<const T*>(dy);
    const T *m = static_cast<const T*>(mean), *v = static_cast<const T*>(inverse);
    if (dgamma || dbeta)
      column_sums<LayerSums, T>(ctx, rows, n, whole_packs<T>(n, x, dy), true, GradientSource<T>{in, d, m, v},
                                FinishLayer<T>{static_cast<T*>(dgamma), static_cast<T*>(dbeta)});
    if (!dx || rows == 0 || n == 0) return;
    for_row_layout<T>(rows, n, whole_packs<T>(n, x, gamma, dy, dx), [&](auto layout, int64_t blocks) {
      using Layout = decltype(layout);
      launch(layer_norm_gradient_kernel<Layout, T>, blocks, {Layout::kThreads}, 0, ctx.stream, rows, n, in, m, v,
             static_cast<const T*>(gamma), d, static_cast<T*>(dx));
    });
  });
}

}  // namespace mica::kernels::MICA_CUDA_BACKEND
