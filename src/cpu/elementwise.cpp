// CPU kernels of each element: the scalar functions, conversions, random numbers.
#include <cmath>
#include <cstring>

#include "cpu/strided.h"

namespace mica::kernels::cpu::MICA_CPU_LEVEL {

void unary(Context& ctx, UnaryOp op, DType dtype, int64_t n, const void* x, void* y) {
  for_float(dtype, [&](auto t) {
    using T = decltype(t);
    const T* in = static_cast<const T*>(x);
    T* out = static_cast<T*>(y);
    parallel::ranges(ctx.threads, n, kGrain, [=](int64_t begin, int64_t end, int) {
      for_unary(op, [=](auto f) {
#pragma GCC ivdep
        for (int64_t i = begin; i < end; ++i) out[i] = f.forward(in[i]);
      });
    });
  });
}

void unary_gradient(Context& ctx, UnaryOp op, DType dtype, int64_t n, const void* saved, const void* dy, void* dx,
                    Write write) {
  for_float(dtype, [&](auto t) {
    using T = decltype(t);
    const T* s = static_cast<const T*>(saved);
    const T* in = static_cast<const T*>(dy);
    T* out = static_cast<T*>(dx);
    const bool accumulate = write == Write::accumulate;
    parallel::ranges(ctx.threads, n, kGrain, [=](int64_t begin, int64_t end, int) {
      constexpr int64_t kBlock = 512;
      T added[kBlock];
      for (int64_t first = begin; first < end; first += kBlock) {
        const int64_t count = min(kBlock, end - first);
        T* target = accumulate ? added : out + first;
        for_unary(op, [=](auto f) {
#pragma GCC ivdep
          for (int64_t i = 0; i < count; ++i) target[i] = in[first + i] * f.derivative(s[first + i]);
        });
        if (!accumulate) continue;
        for (int64_t i = 0; i < count; ++i) out[first + i] += added[i];
      }
    });
  });
}

namespace {

template <class T>
void binary_integers(Context& ctx, BinaryOp op, const StridedDims& dims, const T* a, const T* b, T* y) {
  using U = std::make_unsigned_t<T>;
  rows_of_two(ctx, dims, a, b, [=](int64_t first, int64_t n, const T* left, const T* right) {
    T* out = y + first;
    const auto apply = [=](auto f) {
      for (int64_t i = 0; i < n; ++i) out[i] = f(left[i], right[i]);
    };
    switch (op) {
      case BinaryOp::add: return apply([](T p, T q) { return static_cast<T>(U(p) + U(q)); });
      case BinaryOp::subtract: return apply([](T p, T q) { return static_cast<T>(U(p) - U(q)); });
      case BinaryOp::multiply: return apply([](T p, T q) { return static_cast<T>(U(p) * U(q)); });
      case BinaryOp::divide:  // toward negative infinity, as NumPy's floor_divide
        return apply([](T p, T q) {
          if (q == 0) return T(0);
          if (q == -1) return static_cast<T>(U(0) - U(p));
          const T d = p / q;
          return static_cast<T>(d - ((p % q != 0 && (p < 0) != (q < 0)) ? 1 : 0));
        });
      case BinaryOp::power:
        return apply([](T p, T q) {
          if (q < 0) return T(p == 1 ? 1 : p == -1 ? (q % 2 ? -1 : 1) : 0);
          U result = 1, base = U(p);
          for (U e = U(q); e; e >>= 1, base *= base)
            if (e & 1) result *= base;
          return static_cast<T>(result);
        });
      case BinaryOp::maximum: return apply([](T p, T q) { return p > q ? p : q; });
      case BinaryOp::minimum: return apply([](T p, T q) { return p < q ? p : q; });
      default: MICA_ASSERT(false);  // of floats alone
    }
  });
}

}  // namespace

void binary(Context& ctx, BinaryOp op, DType dtype, const StridedDims& dims, const void* a, const void* b, void* y) {
  if (dtype == DType::int32)
    return binary_integers(ctx, op, dims, static_cast<const int32_t*>(a), static_cast<const int32_t*>(b),
                           static_cast<int32_t*>(y));
  if (dtype == DType::int64)
    return binary_integers(ctx, op, dims, static_cast<const int64_t*>(a), static_cast<const int64_t*>(b),
                           static_cast<int64_t*>(y));
  for_float(dtype, [&](auto t) {
    using T = decltype(t);
    rows_of_two(ctx, dims, static_cast<const T*>(a), static_cast<const T*>(b),
                [=](int64_t first, int64_t n, const T* p, const T* q) {
                  T* out = static_cast<T*>(y) + first;
                  for_binary(op, [=](auto f) {
#pragma GCC ivdep
                    for (int64_t i = 0; i < n; ++i) out[i] = f.forward(p[i], q[i]);
                  });
                });
  });
}

void binary_gradient(Context& ctx, BinaryOp op, int operand, DType dtype, const StridedDims& dims, const void* a,
                     const void* b, const void* dy, void* dx) {
  for_float(dtype, [&](auto t) {
    using T = decltype(t);
    rows_of_two(ctx, dims, static_cast<const T*>(a), static_cast<const T*>(b),
                [=](int64_t first, int64_t n, const T* p, const T* q) {
                  const T* in = static_cast<const T*>(dy) + first;
                  T* out = static_cast<T*>(dx) + first;
                  for_binary(op, [=](auto f) {
                    if (operand == 0) {
#pragma GCC ivdep
                      for (int64_t i = 0; i < n; ++i) out[i] = in[i] * f.derivative_a(p[i], q[i]);
                    } else {
#pragma GCC ivdep
                      for (int64_t i = 0; i < n; ++i) out[i] = in[i] * f.derivative_b(p[i], q[i]);
                    }
                  });
                });
  });
}

void accumulate(Context& ctx, DType dtype, int64_t n, const void* x, void* y) {
  for_float(dtype, [&](auto t) {
    using T = decltype(t);
    const T* in = static_cast<const T*>(x);
    T* out = static_cast<T*>(y);
    parallel::ranges(ctx.threads, n, kGrain, [=](int64_t begin, int64_t end, int) {
#pragma GCC ivdep
      for (int64_t i = begin; i < end; ++i) out[i] += in[i];
    });
  });
}

namespace {

template <class T>
[[gnu::always_inline]] inline T convert(double v) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    const float f = static_cast<float>(v);
    uint32_t u;
    std::memcpy(&u, &f, 4);
    BFloat16 result;
    result.bits = static_cast<uint16_t>(f != f ? (u >> 16) | 0x40u : (u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
    return result;
  } else if constexpr (std::is_integral_v<T>) {
    constexpr double low = std::is_same_v<T, uint8_t> ? 0 : std::is_same_v<T, int32_t> ? -0x1p31 : -0x1p63;
    constexpr double high = std::is_same_v<T, uint8_t> ? 0x1p8 : std::is_same_v<T, int32_t> ? 0x1p31 : 0x1p63;
    if (v != v) return 0;
    if (v <= low) return static_cast<T>(low);
    if (v >= high)
      return std::is_same_v<T, uint8_t> ? T(255) : std::is_same_v<T, int32_t> ? T(INT32_MAX) : T(INT64_MAX);
    return static_cast<T>(v);
  } else {
    return static_cast<T>(v);
  }
}

template <class T>
[[gnu::always_inline]] inline auto widen(T v) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    const uint32_t u = uint32_t{v.bits} << 16;
    float f;
    std::memcpy(&f, &u, 4);
    return f;
  } else {
    return v;
  }
}

}  // namespace

void fill(Context& ctx, DType dtype, int64_t n, double value, void* y) {
  for_any(dtype, [&](auto t) {
    using T = decltype(t);
    const T v = convert<T>(value);
    T* out = static_cast<T*>(y);
    parallel::ranges(ctx.threads, n, 4 * kGrain, [=](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) out[i] = v;
    });
  });
}

void cast(Context& ctx, int64_t n, DType from, const void* x, DType to, double scale, double offset, void* y) {
  for_any(from, [&](auto tx) {
    for_any(to, [&](auto ty) {
      using X = decltype(tx);
      using Y = decltype(ty);
      const X* in = static_cast<const X*>(x);
      Y* out = static_cast<Y*>(y);
      const bool plain = scale == 1 && offset == 0;
      const double added = offset == 0 ? -0.0 : offset;  // + 0 would make 0 of -0
      parallel::ranges(ctx.threads, n, kGrain, [=](int64_t begin, int64_t end, int) {
        if constexpr (std::is_same_v<Y, float> && !std::is_same_v<X, double> && !std::is_same_v<X, int64_t>) {
          const float s = static_cast<float>(scale), o = static_cast<float>(added);  // pixels to floats, in SIMD
          for (int64_t i = begin; i < end; ++i) out[i] = static_cast<float>(widen(in[i])) * s + o;
        } else {
          if constexpr (std::is_integral_v<X> && std::is_same_v<Y, int64_t>) {
            if (plain) {  // exact beyond 2^53
              for (int64_t i = begin; i < end; ++i) out[i] = static_cast<int64_t>(widen(in[i]));
              return;
            }
          }
          for (int64_t i = begin; i < end; ++i) out[i] = convert<Y>(static_cast<double>(widen(in[i])) * scale + added);
        }
      });
    });
  });
}

namespace {

// value(words, lane) for each element, four to a Philox block.
template <class T, class F>
void from_blocks(Context& ctx, int64_t n, RandomKey key, T* y, const F& value) {
  parallel::ranges(ctx.threads, (n + 3) / 4, kGrain / 16, [&](int64_t begin, int64_t end, int) {
    for (int64_t block = begin; block < end; ++block) {
      const Philox4 words = philox(key, static_cast<uint64_t>(block));
      const int64_t lanes = min(4, n - block * 4);
      for (int lane = 0; lane < lanes; ++lane) y[block * 4 + lane] = value(words, lane, block * 4 + lane);
    }
  });
}

}  // namespace

void random_uniform(Context& ctx, DType dtype, int64_t n, double low, double high, RandomKey key, void* y) {
  for_float(dtype, [&](auto t) {
    using T = decltype(t);
    const T first = static_cast<T>(low), width = static_cast<T>(high - low);
    const T last =
        high > low ? static_cast<T>(std::nextafter(static_cast<T>(high), first)) : first;  // rounding may reach high
    from_blocks(ctx, n, key, static_cast<T*>(y), [=](const Philox4& words, int lane, int64_t) {
      const T v = first + width * static_cast<T>(to_unit(words.v[lane]));
      return v < last ? v : last;
    });
  });
}

void random_normal(Context& ctx, DType dtype, int64_t n, double mean, double stddev, RandomKey key, void* y) {
  for_float(dtype, [&](auto t) {
    using T = decltype(t);
    // Box, Muller, Annals of Mathematical Statistics 29, 1958: a pair of uniforms gives a pair of normals.
    from_blocks(ctx, n, key, static_cast<T*>(y), [=](const Philox4& words, int lane, int64_t) {
      const float u = to_unit(words.v[lane & 2]), v = to_unit(words.v[(lane & 2) + 1]);
      const float radius = ::sqrtf(-2.0f * ::logf(1.0f - u)), angle = 6.283185307f * v;
      return static_cast<T>(mean) +
             static_cast<T>(stddev) * static_cast<T>(radius * (lane & 1 ? ::sinf(angle) : ::cosf(angle)));
    });
  });
}

void dropout(Context& ctx, DType dtype, int64_t n, double rate, RandomKey key, const void* x, void* y) {
  for_float(dtype, [&](auto t) {
    using T = decltype(t);
    const T* in = static_cast<const T*>(x);
    const T scale = static_cast<T>(1 / (1 - rate));
    const float threshold = static_cast<float>(rate);
    from_blocks(ctx, n, key, static_cast<T*>(y), [=](const Philox4& words, int lane, int64_t i) {
      return to_unit(words.v[lane]) < threshold ? T(0) : in[i] * scale;
    });
  });
}

}  // namespace mica::kernels::cpu::MICA_CPU_LEVEL
