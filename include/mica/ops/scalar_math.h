// exp, log, tanh, erf, ... for kernels: float versions are branch-free polynomials that compilers turn into SIMD code
// and that give the same bits at every position of a vector; double versions call the standard library.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "mica/core/macros.h"

namespace mica::math {

namespace detail {
MICA_HD float from_bits(int32_t bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}
MICA_HD int32_t to_bits(float value) {
  int32_t bits;
  std::memcpy(&bits, &value, 4);
  return bits;
}
/// 2^n, n in [-126, 127]; anything for another.
MICA_HD float power_of_2(int32_t n) { return from_bits(static_cast<int32_t>((static_cast<uint32_t>(n) + 127u) << 23)); }
}  // namespace detail

MICA_HD float abs(float x) { return ::fabsf(x); }
MICA_HD double abs(double x) { return ::fabs(x); }
MICA_HD float sqrt(float x) { return ::sqrtf(x); }
MICA_HD double sqrt(double x) { return ::sqrt(x); }
MICA_HD float pow(float a, float b) { return ::powf(a, b); }
MICA_HD double pow(double a, double b) { return ::pow(a, b); }
MICA_HD float divide(float a, float b) { return a / b; }
MICA_HD double divide(double a, double b) { return a / b; }

MICA_HD float floor(float x) { return ::floorf(x); }
MICA_HD double floor(double x) { return ::floor(x); }
MICA_HD float ceil(float x) { return ::ceilf(x); }
MICA_HD double ceil(double x) { return ::ceil(x); }
MICA_HD float round(float x) { return ::rintf(x); }
MICA_HD double round(double x) { return ::rint(x); }
MICA_HD float sin(float x) { return ::sinf(x); }
MICA_HD double sin(double x) { return ::sin(x); }
MICA_HD float cos(float x) { return ::cosf(x); }
MICA_HD double cos(double x) { return ::cos(x); }

/// exp(x) = 2^n * exp(r), r in [-ln2/2, ln2/2]: a degree-6 polynomial (Cephes' expf coefficients), within 2 ulp.
/// Where exp(x) is beyond float's range, so is the product at the end; NaN stays NaN. Selects there would make
/// compilers repeat what follows, a division say, for each of their cases.
MICA_HD float exp(float x) {
  const float below = x > 89.0f ? 89.0f : x;
  const float clamped = below < -104.0f ? -104.0f : below;
  const float shifted = clamped * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: rounds to an integer in the low bits
  const float n = shifted - 12582912.0f;
  float r = clamped - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  // 2^n in two factors, since n may be -150 or 128, beyond one float's exponent. n stands in the low bits of `shifted`:
  // to convert it would be undefined where x is NaN.
  const int32_t k = detail::to_bits(shifted) - 0x4b400000, half = k >> 1;
  return p * detail::power_of_2(half) * detail::power_of_2(k - half);
}
MICA_HD double exp(double x) { return ::exp(x); }

/// log(x) = e * ln2 + log(m), m in [sqrt(1/2), sqrt(2)): Cephes' logf polynomial, within 2 ulp.
MICA_HD float log(float x) {
  const bool subnormal = x < 1.17549435e-38f;
  const float scaled = subnormal ? x * 8388608.0f : x;
  const int32_t bits = detail::to_bits(scaled);
  const int32_t e0 = ((bits >> 23) & 0xff) - 126 - (subnormal ? 23 : 0);
  const float m0 = detail::from_bits((bits & 0x007fffff) | 0x3f000000);  // [0.5, 1)
  const bool low = m0 < 0.70710678f;
  const float m = (low ? m0 + m0 : m0) - 1.0f;
  const float e = static_cast<float>(low ? e0 - 1 : e0);
  const float z = m * m;
  float p = 7.0376836292e-2f;
  p = p * m - 1.1514610310e-1f;
  p = p * m + 1.1676998740e-1f;
  p = p * m - 1.2420140846e-1f;
  p = p * m + 1.4249322787e-1f;
  p = p * m - 1.6668057665e-1f;
  p = p * m + 2.0000714765e-1f;
  p = p * m - 2.4999993993e-1f;
  p = p * m + 3.3333331174e-1f;
  float y = p * m * z + e * -2.12194440e-4f - 0.5f * z;
  y = m + y + e * 0.693359375f;
  // One select after another, which vectorises where a chain of ?: does not.
  y = x == detail::from_bits(0x7f800000) ? x : y;
  y = x == 0.0f ? detail::from_bits(static_cast<int32_t>(0xff800000)) : y;
  y = x < 0.0f ? detail::from_bits(0x7fc00000) : y;
  return x != x ? x : y;
}
MICA_HD double log(double x) { return ::log(x); }

/// log(1 + x), x > -1: log(u) * x / (u - 1) with u = 1 + x, where the rounding of u cancels (Kahan).
MICA_HD float log1p(float x) {
  const float u = 1.0f + x;
  float y = log(u) * (x / (u - 1.0f));
  y = x == detail::from_bits(0x7f800000) ? x : y;
  return u == 1.0f ? x : y;
}
MICA_HD double log1p(double x) { return ::log1p(x); }

/// tanh(x): a polynomial for |x| < 0.625 (Cephes), else 1 - 2 / (exp(2|x|) + 1).
MICA_HD float tanh(float x) {
  const float a = ::fabsf(x);
  const float z = x * x;
  float p = -5.70498872745e-3f;
  p = p * z + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  const float small = p * z * x + x;
  const float large = 1.0f - 2.0f / (exp(a + a) + 1.0f);
  return a < 0.625f ? small : ::copysignf(large, x);
}
MICA_HD double tanh(double x) { return ::tanh(x); }

/// exp(x) - 1: 2t / (1 - t) with t = tanh(x/2) for |x| < 1, where exp(x) - 1 would lose its digits.
MICA_HD float expm1(float x) {
  const float t = tanh(0.5f * x);
  const float small = (t + t) / (1.0f - t);
  return x < 1.0f && x > -1.0f ? small : exp(x) - 1.0f;
}
MICA_HD double expm1(double x) { return ::expm1(x); }

/// erf(x): the Taylor series 2/sqrt(pi) * sum (-1)^n x^(2n+1) / (n! (2n+1)), n to 9, for |x| < 1; above, 1 - erfc with
/// the Chebyshev fit of Numerical Recipes (Press et al., 2nd ed., section 6.2), whose relative error is under 1.2e-7.
MICA_HD float erf(float x) {
  const float a = x < 0.0f ? -x : x;
  const float z = x * x;
  float p = -1.0f / 6894720.0f;
  p = p * z + 1.0f / 685440.0f;
  p = p * z - 1.0f / 75600.0f;
  p = p * z + 1.0f / 9360.0f;
  p = p * z - 1.0f / 1320.0f;
  p = p * z + 1.0f / 216.0f;
  p = p * z - 1.0f / 42.0f;
  p = p * z + 1.0f / 10.0f;
  p = p * z - 1.0f / 3.0f;
  p = p * z + 1.0f;
  const float small = 1.12837917f * x * p;
  const float t = 1.0f / (1.0f + 0.5f * a);
  float q = 0.17087277f;
  q = q * t - 0.82215223f;
  q = q * t + 1.48851587f;
  q = q * t - 1.13520398f;
  q = q * t + 0.27886807f;
  q = q * t - 0.18628806f;
  q = q * t + 0.09678418f;
  q = q * t + 0.37409196f;
  q = q * t + 1.00002368f;
  q = q * t - 1.26551223f;
  const float large = 1.0f - t * exp(-z + q);
  return a < 1.0f ? small : x < 0.0f ? -large : large;
}
MICA_HD double erf(double x) { return ::erf(x); }

}  // namespace mica::math
