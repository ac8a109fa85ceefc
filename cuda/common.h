// What kernel files share: integer arithmetic of indices, packs, sums over a warp or block.
#pragma once

#include <cstdint>
#include <limits>
#include <type_traits>

#include "cuda/core/launch.h"
#include "cuda/core/runtime.h"
#include "cuda/table.h"
#include "kernels/switch.h"
#include "mica/core/macros.h"

namespace mica::kernels::MICA_CUDA_BACKEND {

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
