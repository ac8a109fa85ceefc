// Kernels of each element: the scalar functions, conversions, random numbers.
#include <cmath>

#include "cuda/strided.h"
#include "cuda/trigonometry.h"

namespace mica::kernels::MICA_CUDA_BACKEND {

namespace {

// y[count] (+)= f(x...[count]), in packs of n.
template <int n, class F, class Y, class... X>
MICA_KERNEL(kMapThreads)
void map_kernel(const F f, int64_t count, bool packed, bool accumulate, Y* y, const X*... x) {
  const ThreadElements<n, int64_t> elements(count, packed);
  Packs<Y, n> result = map_packs<Y, n>(f, elements.load(x)...);
  if constexpr (std::is_floating_point_v<Y>)
    if (accumulate) result = map_packs<Y, n>(Add{}, elements.load(y), result);
  elements.store(y, result);
}

// Packs are of 16 bytes of the larger type, or of four elements.
template <class F, class Y, class... X>
void map(Context& ctx, F f, int64_t count, Write write, Y* y, const X*... x) {
  constexpr int least = 4 < kMapWidth<Y> ? 4 : kMapWidth<Y>;
  constexpr int all[] = {kMapWidth<Y>, kMapWidth<X>...};
  constexpr int n = [&] {
    int smallest = all[0];
    for (int i : all) smallest = at_most(smallest, i);
    return at_least(smallest, least);
  }();
  if (count == 0) return;
  launch(map_kernel<n, F, Y, X...>, map_blocks(count, n), {kMapThreads}, 0, ctx.stream, f, count,
         holds_packs<n>(y, x...), write == Write::accumulate, y, x...);
}

// Those functions that a kernel has its own way to compute.
struct Sine {
  template <class T>
  MICA_DEVICE static T forward(T x) {
    return sine_of(quarter_turns(x));
  }
  template <class T>
  MICA_DEVICE static T derivative(T x) {
    return cosine_of(quarter_turns(x));
  }
};
struct Cosine {
  template <class T>
  MICA_DEVICE static T forward(T x) {
    return cosine_of(quarter_turns(x));
  }
  template <class T>
  MICA_DEVICE static T derivative(T x) {
    return -sine_of(quarter_turns(x));
  }
};
// CUDA's pow is not exact where squares are: 19 * 19.
struct Power {
  template <class T>
  MICA_DEVICE static T forward(T a, T b) {
    return b == T(2) ? a * a : b == T(1) ? a : math::pow(a, b);
  }
  template <class T>
  MICA_DEVICE static T derivative_a(T a, T b) {
    return b == T(0) ? T(0) : b * forward(a, b - T(1));
  }
  template <class T>
  MICA_DEVICE static T derivative_b(T a, T b) {
    return a == T(0) ? T(0) : forward(a, b) * math::log(a);
  }
};
template <class Functor>
struct OnDeviceOf {
  using Type = Functor;
};
template <>
struct OnDeviceOf<scalar::Sin> {
  using Type = Sine;
};
template <>
struct OnDeviceOf<scalar::Cos> {
  using Type = Cosine;
};
template <>
struct OnDeviceOf<scalar::Power> {
  using Type = Power;
};
template <class Functor>
using OnDevice = typename OnDeviceOf<Functor>::Type;

template <class Functor>
struct Forward {
  template <class T>
  MICA_DEVICE T operator()(T x) const {
    return Functor::forward(x);
  }
  template <class T>
  MICA_DEVICE T operator()(T a, T b) const {
    return Functor::forward(a, b);
  }
};

template <class Functor>
struct Gradient {
  template <class T>
  MICA_DEVICE T operator()(T saved, T dy) const {
    return dy * Functor::derivative(saved);
  }
};

template <class Functor, int operand>
struct BinaryGradient {
  template <class T>
  MICA_DEVICE T operator()(T a, T b, T dy) const {
    return dy * (operand == 0 ? Functor::derivative_a(a, b) : Functor::derivative_b(a, b));
  }
};

// As of NumPy's integers, which wrap; nothing divided by zero is undefined.
template <BinaryOp op>
struct OfIntegers {
  template <class T>
  MICA_DEVICE T operator()(T a, T b) const {
    using U = std::make_unsigned_t<T>;
    if constexpr (op == BinaryOp::add) return static_cast<T>(U(a) + U(b));
    if constexpr (op == BinaryOp::subtract) return static_cast<T>(U(a) - U(b));
    if constexpr (op == BinaryOp::multiply) return static_cast<T>(U(a) * U(b));
    if constexpr (op == BinaryOp::divide) {  // toward negative infinity, as floor_divide
      if (b == 0) return T(0);
      if (b == -1) return static_cast<T>(U(0) - U(a));
      const T quotient = a / b;
      return quotient - T(quotient * b != a && (a < 0) != (b < 0));
    }
    if constexpr (op == BinaryOp::power) {
      if (b < 0) return T(a == 1 ? 1 : a == -1 ? (b % 2 ? -1 : 1) : 0);
      U result = 1, base = U(a);
      for (U e = U(b); e; e >>= 1, base *= base)
        if (e & 1) result *= base;
      return static_cast<T>(result);
    }
    if constexpr (op == BinaryOp::maximum) return a > b ? a : b;
    if constexpr (op == BinaryOp::minimum) return a < b ? a : b;
  }
};

template <class T>
void binary_integers(Context& ctx, BinaryOp op, const StridedDims& dims, const T* a, const T* b, T* y) {
  switch (op) {
#define MICA_CASE(function) \
  case BinaryOp::function: return broadcast(ctx, dims, OfIntegers<BinaryOp::function>{}, a, b, y);
    MICA_CASE(add)
    MICA_CASE(subtract)
    MICA_CASE(multiply)
    MICA_CASE(divide)
    MICA_CASE(power)
    MICA_CASE(maximum)
    MICA_CASE(minimum)
#undef MICA_CASE
    default: MICA_ASSERT(false);  // of floats alone
  }
}

template <class T>
inline constexpr T kLowest = std::numeric_limits<T>::lowest();
template <class T>
inline constexpr T kHighest = std::numeric_limits<T>::max();

// The value as a Y: to integers truncated and saturated, NaN as 0.
template <class Y, class X>
MICA_HD Y convert(X x) {
  if constexpr (std::is_same_v<X, int64_t> && (std::is_same_v<Y, float> || std::is_same_v<Y, BFloat16>)) {
    return convert<Y>(static_cast<double>(x));
  } else if constexpr (std::is_same_v<Y, BFloat16>) {
    return BFloat16(static_cast<float>(x));
  } else if constexpr (std::is_floating_point_v<Y>) {
    return static_cast<Y>(x);
  } else {
    constexpr Y low = kLowest<Y>, high = kHighest<Y>;
    if constexpr (std::is_integral_v<X>) {
      const int64_t wide = x;
      return static_cast<Y>(wide < low ? int64_t{low} : wide > high ? int64_t{high} : wide);
    } else {
      constexpr X beyond = std::is_same_v<Y, uint8_t> ? 0x1p8 : std::is_same_v<Y, int32_t> ? 0x1p31 : 0x1p63;
      if (x != x) return 0;
      return x <= static_cast<X>(low) ? low : x >= beyond ? high : static_cast<Y>(x);
    }
  }
}

template <class T>
MICA_HD T widen(T x) {
  return x;
}
MICA_HD float widen(BFloat16 x) { return static_cast<float>(x); }

template <class Y>
struct Cast {
  double scale, offset;
  float scale32, offset32;
  bool plain;  // neither of them

  template <class X>
  MICA_DEVICE Y operator()(X x) const {
    if constexpr (std::is_same_v<Y, float> && !std::is_same_v<X, double> && !std::is_same_v<X, int64_t>) {
      return static_cast<float>(widen(x)) * scale32 + offset32;
    } else {
      return plain ? convert<Y>(widen(x)) : convert<Y>(static_cast<double>(widen(x)) * scale + offset);
    }
  }
};

template <class T>
struct Constant {
  T value;
  MICA_DEVICE T operator()() const { return value; }
};

// y[n] = f(words, x): four elements from each Philox block.
template <class F, class T>
MICA_KERNEL(kMapThreads)
void random_kernel(const F f, const RandomKey key, int64_t n, bool packed, const T* x, T* y) {
  const ThreadElements<4, int64_t> elements(n, true);
  Packs<T, 4> p;
  if constexpr (F::kReads) p = elements.load(x, packed);
  MICA_UNROLL
  for (int k = 0; k < kMapPacks; ++k) f(philox(key, static_cast<uint64_t>(elements.at(k, 0)) / 4), p.k[k].v);
  elements.store(y, p, packed);
}

template <class F, class T>
void random(Context& ctx, F f, RandomKey key, int64_t n, const T* x, T* y) {
  if (n == 0) return;
  launch(random_kernel<F, T>, map_blocks(n, 4), {kMapThreads}, 0, ctx.stream, f, key, n, holds_packs<4>(x, y), x, y);
}

template <class T>
struct Uniform {
  static constexpr bool kReads = false;
  T first, width, last;
  MICA_DEVICE void operator()(const Philox4& words, T (&y)[4]) const {
    MICA_UNROLL
    for (int i = 0; i < 4; ++i) y[i] = at_most(first + width * static_cast<T>(to_unit(words.v[i])), last);
  }
};

// v turns, v in [0, 1) of 24 bits: the rest is exact before it is multiplied.
MICA_DEVICE QuarterTurns<float> quarter_turns_of_turns(float v) {
  const int quarter = static_cast<int>(4.0f * v + 0.5f);
  return {quarter, 6.283185307f * (v - 0.25f * static_cast<float>(quarter))};
}

// Box, Muller, Annals of Mathematical Statistics 29, 1958: a pair of uniforms gives a pair of normals.
template <class T>
struct Normal {
  static constexpr bool kReads = false;
  T mean, stddev;
  MICA_DEVICE void operator()(const Philox4& words, T (&y)[4]) const {
    MICA_UNROLL
    for (int i = 0; i < 4; i += 2) {
      const float radius = ::sqrtf(-2.0f * ::logf(1.0f - to_unit(words.v[i])));
      const QuarterTurns<float> angle = quarter_turns_of_turns(to_unit(words.v[i + 1]));
      y[i] = mean + stddev * static_cast<T>(radius * cosine_of(angle));
      y[i + 1] = mean + stddev * static_cast<T>(radius * sine_of(angle));
    }
  }
};

template <class T>
struct Dropout {
  static constexpr bool kReads = true;
  float rate;
  T scale;
  MICA_DEVICE void operator()(const Philox4& words, T (&y)[4]) const {
    MICA_UNROLL
    for (int i = 0; i < 4; ++i) y[i] = to_unit(words.v[i]) < rate ? T(0) : y[i] * scale;
  }
};

}  // namespace

void unary(Context& ctx, UnaryOp op, DType dtype, int64_t n, const void* x, void* y) {
  for_float(dtype, [&](auto t) {
    using T = decltype(t);
    for_unary(op, [&](auto f) {
      map(ctx, Forward<OnDevice<decltype(f)>>{}, n, Write::overwrite, static_cast<T*>(y), static_cast<const T*>(x));
    });
  });
}

void unary_gradient(Context& ctx, UnaryOp op, DType dtype, int64_t n, const void* saved, const void* dy, void* dx,
                    Write write) {
  for_float(dtype, [&](auto t) {
    using T = decltype(t);
    for_unary(op, [&](auto f) {
      map(ctx, Gradient<OnDevice<decltype(f)>>{}, n, write, static_cast<T*>(dx), static_cast<const T*>(saved),
          static_cast<const T*>(dy));
    });
  });
}

void binary(Context& ctx, BinaryOp op, DType dtype, const StridedDims& dims, const void* a, const void* b, void* y) {
  if (dtype == DType::int32)
    return binary_integers(ctx, op, dims, static_cast<const int32_t*>(a), static_cast<const int32_t*>(b),
                           static_cast<int32_t*>(y));
  if (dtype == DType::int64)
    return binary_integers(ctx, op, dims, static_cast<const int64_t*>(a), static_cast<const int64_t*>(b),
                           static_cast<int64_t*>(y));
  for_float(dtype, [&](auto t) {
    using T = decltype(t);
    for_binary(op, [&](auto f) {
      broadcast(ctx, dims, Forward<OnDevice<decltype(f)>>{}, static_cast<const T*>(a), static_cast<const T*>(b),
                static_cast<T*>(y));
    });
  });
}

void binary_gradient(Context& ctx, BinaryOp op, int operand, DType dtype, const StridedDims& dims, const void* a,
                     const void* b, const void* dy, void* dx) {
  for_float(dtype, [&](auto t) {
    using T = decltype(t);
    for_binary(op, [&](auto f) {
      const auto run = [&](auto gradient) {
        broadcast(ctx, dims, gradient, static_cast<const T*>(a), static_cast<const T*>(b), static_cast<T*>(dx),
                  static_cast<const T*>(dy));
      };
      if (operand == 0)
        run(BinaryGradient<OnDevice<decltype(f)>, 0>{});
      else
        run(BinaryGradient<OnDevice<decltype(f)>, 1>{});
    });
  });
}

void accumulate(Context& ctx, DType dtype, int64_t n, const void* x, void* y) {
  for_float(dtype, [&](auto t) {
    using T = decltype(t);
    map(ctx, Forward<scalar::Identity>{}, n, Write::accumulate, static_cast<T*>(y), static_cast<const T*>(x));
  });
}

void fill(Context& ctx, DType dtype, int64_t n, double value, void* y) {
  for_any(dtype, [&](auto t) {
    using T = decltype(t);
    map(ctx, Constant<T>{convert<T>(value)}, n, Write::overwrite, static_cast<T*>(y));
  });
}

void cast(Context& ctx, int64_t n, DType from, const void* x, DType to, double scale, double offset, void* y) {
  const bool plain = scale == 1 && offset == 0;
  const double added = offset == 0 ? -0.0 : offset;  // + 0 would make 0 of -0
  for_any(from, [&](auto tx) {
    for_any(to, [&](auto ty) {
      using X = decltype(tx);
      using Y = decltype(ty);
      const Cast<Y> f = {scale, added, static_cast<float>(scale), static_cast<float>(added), plain};
      map(ctx, f, n, Write::overwrite, static_cast<Y*>(y), static_cast<const X*>(x));
    });
  });
}

void random_uniform(Context& ctx, DType dtype, int64_t n, double low, double high, RandomKey key, void* y) {
  for_float(dtype, [&](auto t) {
    using T = decltype(t);
    const T first = static_cast<T>(low), width = static_cast<T>(high - low);
    const T last = high > low ? std::nextafter(static_cast<T>(high), first) : first;  // rounding may reach high
    random<Uniform<T>, T>(ctx, {first, width, last}, key, n, static_cast<const T*>(y), static_cast<T*>(y));
  });
}

void random_normal(Context& ctx, DType dtype, int64_t n, double mean, double stddev, RandomKey key, void* y) {
  for_float(dtype, [&](auto t) {
    using T = decltype(t);
    random<Normal<T>, T>(ctx, {static_cast<T>(mean), static_cast<T>(stddev)}, key, n, static_cast<const T*>(y),
                         static_cast<T*>(y));
  });
}

void dropout(Context& ctx, DType dtype, int64_t n, double rate, RandomKey key, const void* x, void* y) {
  for_float(dtype, [&](auto t) {
    using T = decltype(t);
    random<Dropout<T>, T>(ctx, {static_cast<float>(rate), static_cast<T>(1 / (1 - rate))}, key, n,
                          static_cast<const T*>(x), static_cast<T*>(y));
  });
}

}  // namespace mica::kernels::MICA_CUDA_BACKEND
