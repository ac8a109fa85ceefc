// Sums, maxima, minima, products and positions over an axis, and the gradients that reduce.
#include "cuda/reduce.h"

namespace mica::kernels::MICA_CUDA_BACKEND {

void reduce_sum(Context& ctx, const ReduceArgs& args, double scale, const void* x, void* y, Write write) {
  if (args.dtype == DType::int64) {
    using T = uint64_t;  // which wraps
    return reduce_axis(ctx, args, Fold<T, Add>{{}, T(0)}, Elements<T>{static_cast<const T*>(x)}, static_cast<T*>(y));
  }
  for_float(args.dtype, [&](auto t) {
    using T = decltype(t);
    reduce_axis(ctx, args, Sum<T>{{}, scale, write == Write::accumulate}, Elements<T>{static_cast<const T*>(x)},
                static_cast<T*>(y));
  });
}

namespace {

/// dy * f'(y), written to dz as it is read.
template <class T, class F>
struct ActivationGradient {
  template <int width>
  struct Both {
    Pack<T, width> y, dy;
  };

  const T *y, *dy;
  T* dz;

  template <int width>
  MICA_DEVICE Both<width> fetch(int64_t at) const {
    return {Elements<T>{y}.template fetch<width>(at), Elements<T>{dy}.template fetch<width>(at)};
  }
  template <int width>
  MICA_DEVICE Pack<T, width> values(const Both<width>& fetched, int64_t at) const {
    Pack<T, width> gradient;
    MICA_UNROLL
    for (int j = 0; j < width; ++j) gradient.v[j] = fetched.dy.v[j] * F::derivative(fetched.y.v[j]);
    *reinterpret_cast<Pack<T, width>*>(dz + at) = gradient;
    return gradient;
  }
  bool aligned(int width) const {
    return is_aligned(width * sizeof(T), y) && is_aligned(width * sizeof(T), dy) && is_aligned(width * sizeof(T), dz);
  }
};

}  // namespace

void activation_gradient(Context& ctx, UnaryOp op, DType dtype, int64_t m, int64_t n, const void* y, const void* dy,
                         void* dz, void* db, Write write) {
  for_float(dtype, [&](auto t) {
    using T = decltype(t);
    for_fused(op, [&](auto f) {
      using Source = ActivationGradient<T, decltype(f)>;
      reduce_by_columns(
          ctx, {.dtype = dtype, .outer = 1, .n = m, .inner = n}, Sum<T>{{}, 1, write == Write::accumulate},
          Source{static_cast<const T*>(y), static_cast<const T*>(dy), static_cast<T*>(dz)}, static_cast<T*>(db));
    });
  });
}

namespace {

// Below (above) all others.
template <class T>
constexpr T extreme(bool lowest) {
  using Limits = std::numeric_limits<T>;
  if constexpr (Limits::has_infinity)
    return lowest ? -Limits::infinity() : Limits::infinity();
  else
    return lowest ? Limits::lowest() : Limits::max();
}

/// The smaller; NaN wins.
struct Smaller {
  template <class T>
  MICA_HD T operator()(T a, T b) const {
    return ((b < a) | (b != b)) ? b : a;
  }
};

struct Times {
  template <class T>
  MICA_HD T operator()(T a, T b) const {
    return static_cast<T>(a * b);
  }
};

// Integers as unsigned ones, whose products wrap.
template <class T, bool = std::is_integral_v<T>>
struct Wrapping {
  using Type = T;
};
template <class T>
struct Wrapping<T, true> {
  using Type = std::make_unsigned_t<T>;
};

}  // namespace

void reduce(Context& ctx, ReduceOp op, const ReduceArgs& args, const void* x, void* y) {
  for_number(args.dtype, [&](auto t) {
    using T = decltype(t);
    const auto with = [&](auto nothing, auto f) {
      using V = decltype(nothing);
      reduce_axis(ctx, args, Fold<V, decltype(f)>{f, nothing}, Elements<V>{static_cast<const V*>(x)},
                  static_cast<V*>(y));
    };
    switch (op) {
      case ReduceOp::max: return with(extreme<T>(true), Larger{});
      case ReduceOp::min: return with(extreme<T>(false), Smaller{});
      case ReduceOp::product: return with(typename Wrapping<T>::Type(1), Times{});
    }
  });
}

namespace {

inline constexpr int64_t kNowhere = std::numeric_limits<int64_t>::max();

template <class T>
struct Best {
  T value;
  int64_t position;
};

template <class T>
MICA_DEVICE Best<T> shuffle_xor(Best<T> best, int mask) {
  return {MICA_CUDA_BACKEND::shuffle_xor(best.value, mask), MICA_CUDA_BACKEND::shuffle_xor(best.position, mask)};
}

/// The first position of the largest or smallest; In is a T, or a Best<T> of parts.
template <class InType, class T = std::conditional_t<sizeof(InType) == 1, int32_t, InType>>
struct BestPosition {
  using In = InType;
  using Part = Best<T>;
  using Total = Part;
  using Out = int64_t;
  using Second = BestPosition<Best<T>, T>;

  T nothing;
  bool largest;

  Second second() const { return {nothing, largest}; }
  MICA_DEVICE bool better(T a, T b) const { return (largest ? a > b : a < b) || (a != a && b == b); }
  MICA_DEVICE Part operator()(Part a, Part b) const {
    return better(b.value, a.value) || (b.position < a.position && !better(a.value, b.value)) ? b : a;
  }
  MICA_DEVICE Part start() const { return {nothing, kNowhere}; }
  MICA_DEVICE void add(Part& part, T value, int64_t position) const {
    if (better(value, part.value)) part = {value, position};
  }
  MICA_DEVICE void add(Part& part, Part value, int64_t) const { part = (*this)(part, value); }
  MICA_DEVICE Total total(Part part) const { return part; }
  // Where nothing was better than `nothing`, all are as bad: the first is the best.
  MICA_DEVICE void finish(Out& out, Total best) const { out = best.position == kNowhere ? 0 : best.position; }
};

}  // namespace

void arg_reduce(Context& ctx, ReduceOp op, const ReduceArgs& args, const void* x, int64_t* index) {
  for_number(args.dtype, [&](auto t) {
    using T = decltype(t);
    const bool largest = op == ReduceOp::max;
    reduce_axis(ctx, args, BestPosition<T>{extreme<T>(largest), largest}, Elements<T>{static_cast<const T*>(x)}, index);
  });
}

namespace {

/// The product of those that are not 0, and how many are.
struct Product {
  double value;
  int64_t zeros;
};

MICA_DEVICE Product shuffle_xor(Product product, int mask) {
  return {MICA_CUDA_BACKEND::shuffle_xor(product.value, mask), MICA_CUDA_BACKEND::shuffle_xor(product.zeros, mask)};
}

template <class InType>
struct ProductOfOthers {
  using In = InType;
  using Part = Product;
  using Total = Product;
  using Out = Product;
  using Second = ProductOfOthers<Product>;

  Second second() const { return {}; }
  MICA_DEVICE Part operator()(Part a, Part b) const { return {a.value * b.value, a.zeros + b.zeros}; }
  MICA_DEVICE Part start() const { return {1, 0}; }
  MICA_DEVICE void add(Part& part, In value, int64_t) const {
    if constexpr (std::is_same_v<In, Product>) {
      part = (*this)(part, value);
    } else {
      part.zeros += value == In(0);
      part.value *= value == In(0) ? 1 : static_cast<double>(value);
    }
  }
  MICA_DEVICE Total total(Part part) const { return part; }
  MICA_DEVICE void finish(Out& out, Total all) const { out = all; }
};

// A zero makes all but its own gradient 0; two make all 0.
template <class T>
MICA_KERNEL(reduction::kThreads)
void product_gradient_kernel(const int64_t n, const int64_t inner, const int64_t count, const Product* const products,
                             const T* const x, const T* const dy, T* const dx) {
  const int64_t at = int64_t{block_index().x} * reduction::kThreads + thread_index().x;
  if (at >= count) return;
  int64_t result;
  if (count <= int64_t{0xffffffff}) {  // whose division is a fifth of the other's
    const uint32_t i = static_cast<uint32_t>(at), columns = static_cast<uint32_t>(inner);
    result = i / static_cast<uint32_t>(n * inner) * columns + i % columns;
  } else {
    result = at / (n * inner) * inner + at % inner;
  }
  const Product all = products[result];
  const double others = static_cast<double>(dy[result]) * all.value;
  if (all.zeros == 0)
    dx[at] = static_cast<T>(others / static_cast<double>(x[at]));
  else
    dx[at] = all.zeros == 1 && x[at] == T(0) ? static_cast<T>(others) : T(0);
}

}  // namespace

void product_gradient(Context& ctx, const ReduceArgs& args, const void* x, const void* dy, void* dx) {
  const int64_t count = args.outer * args.n * args.inner;
  if (count == 0) return;
  const Scratch scratch(ctx, static_cast<size_t>(args.outer * args.inner) * sizeof(Product));
  Product* const products = scratch.as<Product>();
  for_float(args.dtype, [&](auto t) {
    using T = decltype(t);
    const T* const in = static_cast<const T*>(x);
    reduce_axis(ctx, args, ProductOfOthers<T>{}, Elements<T>{in}, products);
    launch(product_gradient_kernel<T>, ceil_div(count, reduction::kThreads), {reduction::kThreads}, 0, ctx.stream,
           args.n, args.inner, count, products, in, static_cast<const T*>(dy), static_cast<T*>(dx));
  });
}

}  // namespace mica::kernels::MICA_CUDA_BACKEND
