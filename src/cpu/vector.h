// A SIMD register of the level, as the compiler's vector type: arithmetic, comparisons and ?: work on it lane by lane.
#pragma once

#include <cstring>

#include "cpu/common.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace mica::kernels::cpu::MICA_CPU_LEVEL {

#if defined(__AVX512F__)
inline constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
inline constexpr int kVectorBytes = 32;
#else
inline constexpr int kVectorBytes = 16;
#endif

template <class T>
struct Vector {
  typedef T Type __attribute__((vector_size(kVectorBytes)));
  static constexpr int64_t kWidth = kVectorBytes / static_cast<int64_t>(sizeof(T));
  static constexpr bool kFloat = std::is_same_v<T, float>;

  [[gnu::always_inline]] static Type load(const T* p) {
    Type v;
    std::memcpy(&v, p, sizeof v);
    return v;
  }
  [[gnu::always_inline]] static void store(T* p, Type v) { std::memcpy(p, &v, sizeof v); }

  // a > b ? a : b, so b where one is NaN; and whether any lane is NaN. Compilers do not find the instructions.
  [[gnu::always_inline]] static Type max(Type a, Type b) {
#if defined(__AVX512F__)
    if constexpr (kFloat) return (Type)_mm512_max_ps((__m512)a, (__m512)b);
    if constexpr (!kFloat) return (Type)_mm512_max_pd((__m512d)a, (__m512d)b);
#elif defined(__AVX2__)
    if constexpr (kFloat) return (Type)_mm256_max_ps((__m256)a, (__m256)b);
    if constexpr (!kFloat) return (Type)_mm256_max_pd((__m256d)a, (__m256d)b);
#else
    return a > b ? a : b;
#endif
  }
  [[gnu::always_inline]] static bool any_nan(Type a) {
#if defined(__AVX512F__)
    if constexpr (kFloat) return _mm512_cmp_ps_mask((__m512)a, (__m512)a, _CMP_UNORD_Q) != 0;
    if constexpr (!kFloat) return _mm512_cmp_pd_mask((__m512d)a, (__m512d)a, _CMP_UNORD_Q) != 0;
#elif defined(__AVX2__)
    if constexpr (kFloat) return _mm256_movemask_ps(_mm256_cmp_ps((__m256)a, (__m256)a, _CMP_UNORD_Q)) != 0;
    if constexpr (!kFloat) return _mm256_movemask_pd(_mm256_cmp_pd((__m256d)a, (__m256d)a, _CMP_UNORD_Q)) != 0;
#else
    bool any = false;
    for (int64_t l = 0; l < kWidth; ++l) any |= a[l] != a[l];
    return any;
#endif
  }
};

}  // namespace mica::kernels::cpu::MICA_CPU_LEVEL
