// The sizes that the caching allocators round up to, so that a block can serve again for what is about as large.
#pragma once

#include <bit>
#include <cstddef>

// Under the address sanitizer nothing is kept: each block goes straight back, so that it can be watched.
#if defined(__SANITIZE_ADDRESS__)
#define MICA_CACHE_BLOCKS 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MICA_CACHE_BLOCKS 0
#endif
#endif
#ifndef MICA_CACHE_BLOCKS
#define MICA_CACHE_BLOCKS 1
#endif

namespace mica::detail {

/// Classes of kGranule * 2^e * (1 + s/8) bytes, s in 0..7, rounded up to a multiple of kGranule, a power of two: at
/// most 12.5 % is wasted, and a granule.
template <size_t kGranule>
struct SizeClasses {
  static constexpr int kSteps = 8;  // for each doubling
  static constexpr int kCount = 42 * kSteps;

  struct Class {
    int index;
    size_t bytes;
  };

  static constexpr Class of(size_t bytes) {
    if (bytes <= kGranule) return {0, kGranule};
    bytes = round_up(bytes);
    const int exponent = static_cast<int>(std::bit_width(bytes - 1)) - 1;  // 2^exponent < bytes <= 2^(exponent + 1)
    const size_t base = size_t{1} << exponent, step = base / kSteps;
    const size_t s = (bytes - base + step - 1) / step;  // 1..8
    return {(exponent - std::countr_zero(kGranule)) * kSteps + static_cast<int>(s), round_up(base + s * step)};
  }
  /// The bytes of the class of `index`.
  static constexpr size_t bytes_of(int index) {
    const size_t base = kGranule << (index / kSteps);
    return round_up(base + static_cast<size_t>(index % kSteps) * (base / kSteps));
  }

 private:
  static constexpr size_t round_up(size_t bytes) { return (bytes + kGranule - 1) / kGranule * kGranule; }
};

}  // namespace mica::detail
