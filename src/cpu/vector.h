// A SIMD register of the level, as the compiler's vector type: arithmetic, comparisons and ?: work on it lane by lane.
#pragma once

#include <cstring>

#include "cpu/common.h"

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

  [[gnu::always_inline]] static Type load(const T* p) {
    Type v;
    std::memcpy(&v, p, sizeof v);
    return v;
  }
  [[gnu::always_inline]] static void store(T* p, Type v) { std::memcpy(p, &v, sizeof v); }
};

}  // namespace mica::kernels::cpu::MICA_CPU_LEVEL
