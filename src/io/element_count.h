// How many bytes the sizes in a file ask for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace mica::io {

/// What a Tensor can hold.
inline constexpr int64_t kMaxElements = int64_t{1} << 46;

/// The bytes of that many elements, or -1 where they are more than a Tensor can hold. Zeros are left out of that check:
/// partial products must fit as well.
inline int64_t count_bytes(std::span<const int64_t> sizes, size_t element_bytes) {
  int64_t elements = 1;
  bool zero = false;
  for (const int64_t size : sizes) {
    zero |= size == 0;
    if (size != 0 && (__builtin_mul_overflow(elements, size, &elements) || elements >= kMaxElements)) return -1;
  }
  return zero ? 0 : elements * static_cast<int64_t>(element_bytes);
}

}  // namespace mica::io
