// Sums and maxima of a contiguous row, in lanes that the compiler turns into vectors.
#pragma once

#include "cpu/common.h"

namespace mica::kernels::cpu::MICA_CPU_LEVEL {

inline constexpr int64_t kLanes = 16;

// The sum of f(i) for i in [0, n): blocks of 1,024 in lanes of T, the blocks in float64.
template <class T, class F>
[[gnu::always_inline]] inline double lane_sum(int64_t n, const F& f) {
  double total = 0;
  for (int64_t begin = 0; begin < n; begin += 1024) {
    const int64_t end = min(begin + 1024, n);
    T lanes[kLanes] = {};
    int64_t i = begin;
    for (; i + kLanes <= end; i += kLanes)
      for (int64_t l = 0; l < kLanes; ++l) lanes[l] += f(i + l);
    for (int64_t l = 0; i < end; ++i, ++l) lanes[l] += f(i);
    for (int64_t width = kLanes / 2; width > 0; width /= 2)
      for (int64_t l = 0; l < width; ++l) lanes[l] += lanes[l + width];
    total += static_cast<double>(lanes[0]);
  }
  return total;
}

template <class T>
[[gnu::always_inline]] inline double row_sum(const T* x, int64_t n) {
  return lane_sum<T>(n, [&](int64_t i) { return x[i]; });
}

// The largest of x[n], n >= 1; NaN where there is one.
template <class T>
[[gnu::always_inline]] inline T row_max(const T* x, int64_t n) {
  T best = x[0];
  int64_t i = 0;
  if (n >= kLanes) {
    T lanes[kLanes];
    for (int64_t l = 0; l < kLanes; ++l) lanes[l] = x[l];
    for (i = kLanes; i + kLanes <= n; i += kLanes)
      for (int64_t l = 0; l < kLanes; ++l)
        lanes[l] = ((x[i + l] > lanes[l]) | (x[i + l] != x[i + l])) ? x[i + l] : lanes[l];
    for (int64_t l = 0; l < kLanes; ++l) best = ((lanes[l] > best) | (lanes[l] != lanes[l])) ? lanes[l] : best;
  }
  for (; i < n; ++i) best = ((x[i] > best) | (x[i] != x[i])) ? x[i] : best;
  return best;
}

}  // namespace mica::kernels::cpu::MICA_CPU_LEVEL
