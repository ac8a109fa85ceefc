// What kernel files share: dispatch over dtypes and functors, integer arithmetic of indices, sums over a warp or block.
#pragma once

#include <cstdint>
#include <limits>
#include <type_traits>

#include "cuda/core/launch.h"
#include "cuda/core/runtime.h"
#include "cuda/table.h"
#include "mica/core/dtype.h"
#include "mica/core/macros.h"
#include "mica/ops/scalar.h"

namespace mica::kernels::MICA_CUDA_BACKEND {

// ---- Dispatch, on the host ----

// Calls f with a value of the C++ type of a floating dtype.
template <class F>
void for_float(DType dtype, const F& f) {
  MICA_ASSERT(dtype == DType::float32 || dtype == DType::float64);
  if (dtype == DType::float32)
    f(float{});
  else
    f(double{});
}

// The same of any dtype.
template <class F>
void for_any(DType dtype, const F& f) {
  switch (dtype) {
    case DType::float32: return f(float{});
    case DType::float64: return f(double{});
    case DType::bfloat16: return f(BFloat16{});
    case DType::int32: return f(int32_t{});
    case DType::int64: return f(int64_t{});
    case DType::uint8: return f(uint8_t{});
  }
}

// The same of each but BFloat16.
template <class F>
void for_number(DType dtype, const F& f) {
  MICA_ASSERT(dtype != DType::bfloat16);
  for_any(dtype, [&](auto t) {
    if constexpr (!std::is_same_v<decltype(t), BFloat16>) f(t);
  });
}

// Calls f with an unsigned integer of the dtype's size: for what moves values and does not look at them.
template <class F>
void for_size(DType dtype, const F& f) {
  switch (size_of(dtype)) {
    case 1: return f(uint8_t{});
    case 2: return f(uint16_t{});
    case 4: return f(uint32_t{});
    default: return f(uint64_t{});
  }
}

// Calls f with the functor of a scalar function.
template <class F>
void for_unary(UnaryOp op, const F& f) {
  switch (op) {
#define MICA_CASE(function, Functor) \
  case UnaryOp::function: return f(scalar::Functor{});
    MICA_UNARY_OPS(MICA_CASE)
#undef MICA_CASE
  }
}

// The same of those that kernels fuse.
template <class F>
void for_fused(UnaryOp op, const F& f) {
  switch (op) {
#define MICA_CASE(function, Functor) \
  case UnaryOp::function: return f(scalar::Functor{});
    MICA_FUSED_OPS(MICA_CASE)
#undef MICA_CASE
    default: MICA_ASSERT(false);
  }
}

template <class F>
void for_binary(BinaryOp op, const F& f) {
  switch (op) {
#define MICA_CASE(function, Functor) \
  case BinaryOp::function: return f(scalar::Functor{});
    MICA_BINARY_OPS(MICA_CASE)
#undef MICA_CASE
  }
}

// Calls f with std::true_type or std::false_type.
template <class F>
void for_bool(bool value, const F& f) {
  if (value)
    f(std::true_type{});
  else
    f(std::false_type{});
}

// ---- Indices ----

template <class T>
MICA_HD constexpr T at_most(T value, T limit) {
  return value < limit ? value : limit;
}
template <class T>
MICA_HD constexpr T at_least(T value, T limit) {
  return value > limit ? value : limit;
}

MICA_HD constexpr int64_t ceil_div(int64_t n, int64_t by) { return (n + by - 1) / by; }
MICA_HD constexpr int64_t round_up(int64_t n, int64_t by) { return ceil_div(n, by) * by; }

// Whether 0 <= i < n, in one comparison.
MICA_HD constexpr bool inside(int i, int n) { return static_cast<unsigned>(i) < static_cast<unsigned>(n); }

// For what is known to fit: sizes of a tile, an image, a row.
MICA_HD constexpr int to_int(int64_t n) { return static_cast<int>(n); }

// Division by a number that is known at the launch, as one multiplication: of n in [0, 2^31) by a divisor in [1, 2^31).
// Granlund, Montgomery, "Division by Invariant Integers using Multiplication", PLDI 1994, figure 4.1.
class FastDivide {
 public:
  FastDivide() = default;
  explicit FastDivide(int64_t divisor) : divisor_(static_cast<uint32_t>(divisor)) {
    MICA_ASSERT(divisor >= 1 && divisor <= std::numeric_limits<int32_t>::max());
    while ((uint64_t{1} << shift_) < divisor_) ++shift_;
    multiplier_ = static_cast<uint32_t>(((uint64_t{1} << 32) * ((uint64_t{1} << shift_) - divisor_)) / divisor_ + 1);
  }
  MICA_HD int divisor() const { return static_cast<int>(divisor_); }
  MICA_HD int quotient(int n) const {
    const uint32_t u = static_cast<uint32_t>(n);
    const uint32_t high = static_cast<uint32_t>((uint64_t{u} * multiplier_) >> 32);
    return static_cast<int>((high + u) >> shift_);
  }
  // n becomes the remainder; returns the quotient.
  MICA_HD int divide(int& n) const {
    const int q = quotient(n);
    n -= q * static_cast<int>(divisor_);
    return q;
  }

 private:
  uint32_t divisor_ = 1, multiplier_ = 1, shift_ = 0;
};

// ---- Memory ----

// Neighbours that move as one: 16 bytes of them, where addresses allow.
template <class T, int width = 16 / static_cast<int>(sizeof(T))>
struct alignas(sizeof(T) * width) Pack {
  static constexpr int kCount = width;
  T v[width];
};

// The width of such a pack.
template <class T>
inline constexpr int kPackWidth = 16 / static_cast<int>(sizeof(T));

// Whether each address is a multiple of `bytes`; null is.
template <class... Pointers>
bool is_aligned(size_t bytes, Pointers... pointers) {
  return ((reinterpret_cast<uintptr_t>(pointers) % bytes == 0) && ...);
}

// ---- Values ----

template <class T>
inline constexpr T kInfinity = std::numeric_limits<T>::infinity();

// Adds or assigns.
template <class T>
MICA_DEVICE void store(T& target, T value, bool accumulate) {
  target = accumulate ? target + value : value;
}

struct Add {
  template <class T>
  MICA_HD T operator()(T a, T b) const {
    return a + b;
  }
};

// The larger; NaN wins.
struct Larger {
  template <class T>
  MICA_HD T operator()(T a, T b) const {
    return ((b > a) | (b != b)) ? b : a;
  }
};

// ---- A warp, a block ----

// The combination of each lane's value, to each lane, in an order that does not change.
template <class T, class Combine>
MICA_DEVICE T warp_reduce(T value, Combine combine) {
  MICA_UNROLL
  for (int mask = kWarpSize / 2; mask > 0; mask /= 2) value = combine(value, shuffle_xor(value, mask));
  return value;
}

// The combination of the value of each of kThreads threads along x, to each of them. `parts`: kThreads / 32 elements of
// shared memory, free again after the next barrier.
template <int kThreads, class T, class Combine, class Parts>
MICA_DEVICE T block_reduce(T value, Combine combine, Parts&& parts) {
  static_assert(kThreads % kWarpSize == 0);
  const int thread = static_cast<int>(thread_index().x);
  value = warp_reduce(value, combine);
  if (thread % kWarpSize == 0) parts[thread / kWarpSize] = value;
  barrier();
  T all = parts[0];
  MICA_UNROLL
  for (int i = 1; i < kThreads / kWarpSize; ++i) all = combine(all, parts[i]);
  return all;
}

}  // namespace mica::kernels::MICA_CUDA_BACKEND
