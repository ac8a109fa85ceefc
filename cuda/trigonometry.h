// Sine and cosine of any argument, within an ulp or two. CUDA's own keep the digits of a large argument's reduction in
// local memory, which then belongs to every kernel that calls them.
#pragma once

#include <cmath>
#include <cstring>

#include "cuda/common.h"

namespace mica::kernels::MICA_CUDA_BACKEND {

/// x = quarter * pi / 2 + rest, |rest| <= pi / 4; the quarter is modulo 4.
template <class T>
struct QuarterTurns {
  int quarter;
  T rest;
};

MICA_DEVICE uint64_t high_product(uint64_t a, uint64_t b) {
  const uint64_t a0 = static_cast<uint32_t>(a), a1 = a >> 32, b0 = static_cast<uint32_t>(b), b1 = b >> 32;
  const uint64_t low = a0 * b0, middle = a1 * b0 + (low >> 32), other = a0 * b1 + static_cast<uint32_t>(middle);
  return a1 * b1 + (middle >> 32) + (other >> 32);
}

// Payne, Hanek, "Radian reduction for trigonometric functions", ACM SIGNUM Newsletter 18(1), 1983: only those digits of
// 2 / pi are multiplied that do not give whole turns. Of |x| >= 1.
MICA_DEVICE QuarterTurns<double> quarter_turns_of_large(double x) {
  static constexpr uint64_t two_over_pi[] = {
      // The first 64 bits are before the binary point.
      0x0000000000000000, 0xa2f9836e4e441529, 0xfc2757d1f534ddc0, 0xdb6295993c439041, 0xfe5163abdebbc561,
      0xb7246e3a424dd2e0, 0x06492eea09d1921c, 0xfe1deb1cb129a73e, 0xe88235f52ebb4484, 0xe99c7026b45f7e41,
      0x3991d639835339f4, 0x9c845f8bbdf9283b, 0x1ff897ffde05980f, 0xef2f118b5a0a6d1f, 0x6d367ecf27cb09b7,
      0x4f463f669e5fea2d, 0x7527bac7ebe5f17b, 0x3d0739f78a5292ea, 0x6bfb5fb11f8d5d08, 0x56033046fc7b6bab,
  };
  uint64_t bits;
  std::memcpy(&bits, &x, 8);
  const int exponent = static_cast<int>(bits >> 52 & 0x7ff);
  if (exponent == 0x7ff) return {0, x - x};                        // NaN
  const uint64_t m = (bits & 0xfffffffffffff) | 0x10000000000000;  // |x| = m * 2^(exponent - 1075)
  // The 192 digits of 2 / pi that follow those whose products with m * 2^(exponent - 1075) are multiples of 4.
  const int skipped = exponent - 1075 + 62, word = skipped / 64, shift = skipped % 64;
  uint64_t digits[3];
  MICA_UNROLL
  for (int i = 0; i < 3; ++i)
    digits[i] =
        shift == 0 ? two_over_pi[word + i] : two_over_pi[word + i] << shift | two_over_pi[word + i + 1] >> (64 - shift);
  // The quarters modulo 4, 2 bits and 126 after the point, are the upper 128 bits of the product's lower 192.
  uint64_t low = m * digits[1] + high_product(m, digits[2]);
  uint64_t high = m * digits[0] + high_product(m, digits[1]) + (low < m * digits[1] ? 1 : 0);
  int quarter = static_cast<int>(high >> 62);
  high = high << 2 | low >> 62;  // the point comes before the first bit
  low <<= 2;
  const bool above = high >> 63;  // half a quarter or more: what is missing to the next one
  if (above) {
    ++quarter;
    low = ~low + 1;
    high = ~high + (low == 0 ? 1 : 0);
  }
  // The first 64 bits that count. No float64 comes so near to a multiple of pi / 2 that none of these 128 do.
  int zeros = 0;
  if (high == 0) {
    high = low;
    low = 0;
    zeros = 64;
  }
  MICA_UNROLL
  for (int step = 32; step > 0; step /= 2)
    if (high >> (64 - step) == 0) {
      high = high << step | low >> (64 - step);
      low <<= step;
      zeros += step;
    }
  const uint64_t scale_bits = static_cast<uint64_t>(1023 - 64 - zeros) << 52;  // 2^(-64 - zeros)
  double scale;
  std::memcpy(&scale, &scale_bits, 8);
  const double rest = static_cast<double>(high) * scale * 1.5707963267948966;
  const bool negative = bits >> 63;
  return {negative ? -quarter : quarter, negative == above ? rest : -rest};
}

// Cody, Waite, "Software Manual for the Elementary Functions", 1980: multiples of pi / 2 taken off in parts.
MICA_DEVICE QuarterTurns<double> quarter_turns(double x) {
  if (!(::fabs(x) <= 0x1p30)) return quarter_turns_of_large(x);
  const double n = ::rint(x * 0.63661977236758134);
  double rest = ::fma(-n, 1.5707963267948966, x);
  rest = ::fma(-n, 6.123233995736766e-17, rest);
  rest = ::fma(-n, -1.4973849048591698e-33, rest);
  return {static_cast<int>(n), n == 0 ? x : rest};  // -0 stays as it is
}
MICA_DEVICE QuarterTurns<float> quarter_turns(float x) {
  if (!(::fabsf(x) <= 65536.0f)) {
    const QuarterTurns<double> turns = quarter_turns_of_large(static_cast<double>(x));
    return {turns.quarter, static_cast<float>(turns.rest)};
  }
  const float n = ::rintf(x * 0.63661977f);
  float rest = ::fmaf(-n, 1.57079625f, x);
  rest = ::fmaf(-n, 7.54979013e-08f, rest);
  rest = ::fmaf(-n, -1.71512451e-15f, rest);
  return {static_cast<int>(n), n == 0 ? x : rest};
}

// Within pi / 4 of 0: the polynomials of Cephes' sinf and cosf, and of fdlibm's __kernel_sin and __kernel_cos.
MICA_DEVICE float sine_near_0(float x) {
  const float z = x * x;
  const float y = ((-1.9515295891e-4f * z + 8.3321608736e-3f) * z - 1.6666654611e-1f) * z * x + x;
  return ::copysignf(y, x);  // of -0
}
MICA_DEVICE float cosine_near_0(float x) {
  const float z = x * x;
  const float p = (2.443315711809948e-5f * z - 1.388731625493765e-3f) * z + 4.166664568298827e-2f;
  return p * z * z - 0.5f * z + 1.0f;
}
MICA_DEVICE double sine_near_0(double x) {
  const double z = x * x;
  double p = 1.58969099521155010221e-10;
  p = p * z - 2.50507602534068634195e-8;
  p = p * z + 2.75573137070700676789e-6;
  p = p * z - 1.98412698298579493134e-4;
  p = p * z + 8.33333333332248946124e-3;
  p = p * z - 1.66666666666666324348e-1;
  return ::copysign(p * z * x + x, x);
}
MICA_DEVICE double cosine_near_0(double x) {
  const double z = x * x, half = 0.5 * z, first = 1.0 - half;
  double p = -1.13596475577881948265e-11;
  p = p * z + 2.08757232129817482790e-9;
  p = p * z - 2.75573143513906633035e-7;
  p = p * z + 2.48015872894767294178e-5;
  p = p * z - 1.38888888888741095749e-3;
  p = p * z + 4.16666666666666019037e-2;
  return first + ((1.0 - first - half) + p * z * z);
}

template <class T>
MICA_DEVICE T sine_of(QuarterTurns<T> turns) {
  const T y = turns.quarter & 1 ? cosine_near_0(turns.rest) : sine_near_0(turns.rest);
  return turns.quarter & 2 ? -y : y;
}
template <class T>
MICA_DEVICE T cosine_of(QuarterTurns<T> turns) {
  return sine_of(QuarterTurns<T>{turns.quarter + 1, turns.rest});
}

}  // namespace mica::kernels::MICA_CUDA_BACKEND
