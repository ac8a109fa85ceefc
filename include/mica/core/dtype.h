// Element types.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iosfwd>
#include <string>
#include <string_view>

#include "mica/core/macros.h"

namespace MICA_EXPORT mica {

/// float32 is what people train in; float64 serves gradient checks and references; bfloat16 the GPU; the integers are
/// tokens, labels and pixels.
enum class DType : uint8_t { float32, float64, bfloat16, int32, int64, uint8 };

inline constexpr DType float32 = DType::float32;
inline constexpr DType float64 = DType::float64;
inline constexpr DType bfloat16 = DType::bfloat16;
inline constexpr DType int32 = DType::int32;
inline constexpr DType int64 = DType::int64;
inline constexpr DType uint8 = DType::uint8;

/// The upper half of a float32, rounded to nearest even.
struct BFloat16 {
  uint16_t bits = 0;

  BFloat16() = default;
  MICA_HD explicit BFloat16(float value) {
    uint32_t u;
    std::memcpy(&u, &value, 4);
    const bool nan = (u & 0x7fffffffu) > 0x7f800000u;
    bits = static_cast<uint16_t>(nan ? (u >> 16) | 0x40u : (u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
  }
  MICA_HD explicit operator float() const {
    const uint32_t u = uint32_t{bits} << 16;
    float value;
    std::memcpy(&value, &u, 4);
    return value;
  }
};

constexpr size_t size_of(DType dtype) {
  switch (dtype) {
    case DType::float32:
    case DType::int32: return 4;
    case DType::float64:
    case DType::int64: return 8;
    case DType::bfloat16: return 2;
    case DType::uint8: return 1;
  }
  return 0;
}

constexpr bool is_floating(DType dtype) {
  return dtype == DType::float32 || dtype == DType::float64 || dtype == DType::bfloat16;
}

std::string_view to_string(DType dtype);
std::ostream& operator<<(std::ostream& out, DType dtype);

void append_text(std::string& text, DType dtype);

namespace detail {

template <class T>
struct dtype_of_t;
template <>
struct dtype_of_t<float> {
  static constexpr DType value = DType::float32;
};
template <>
struct dtype_of_t<double> {
  static constexpr DType value = DType::float64;
};
template <>
struct dtype_of_t<BFloat16> {
  static constexpr DType value = DType::bfloat16;
};
template <>
struct dtype_of_t<int32_t> {
  static constexpr DType value = DType::int32;
};
template <>
struct dtype_of_t<int64_t> {
  static constexpr DType value = DType::int64;
};
template <>
struct dtype_of_t<uint8_t> {
  static constexpr DType value = DType::uint8;
};

}  // namespace detail

/// The DType of a C++ element type.
template <class T>
inline constexpr DType dtype_of = detail::dtype_of_t<T>::value;

}  // namespace mica
