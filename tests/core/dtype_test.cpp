// Element types: names, sizes, and the rounding of bfloat16.
#include "mica/core/dtype.h"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <sstream>

using namespace mica;

TEST_CASE("dtype: each has a name, a size and a C++ type") {
  struct {
    DType dtype;
    const char* name;
    size_t size;
    bool floating;
  } const all[] = {{float32, "float32", 4, true}, {float64, "float64", 8, true}, {bfloat16, "bfloat16", 2, true},
                   {int32, "int32", 4, false},    {int64, "int64", 8, false},    {uint8, "uint8", 1, false}};
  for (const auto& d : all) {
    CHECK(to_string(d.dtype) == d.name);
    CHECK(size_of(d.dtype) == d.size);
    CHECK(is_floating(d.dtype) == d.floating);
    std::ostringstream out;
    out << d.dtype;
    CHECK(out.str() == d.name);
  }
  CHECK(dtype_of<float> == float32);
  CHECK(dtype_of<double> == float64);
  CHECK(dtype_of<BFloat16> == bfloat16);
  CHECK(dtype_of<int32_t> == int32);
  CHECK(dtype_of<int64_t> == int64);
  CHECK(dtype_of<uint8_t> == uint8);
}

TEST_CASE("bfloat16: rounds to nearest, ties to even") {
  const auto rounded = [](float x) { return static_cast<float>(BFloat16(x)); };
  // Between 1 and 2 neighbours are 2^-7 apart.
  CHECK(rounded(1) == 1);
  CHECK(rounded(1 + 0x1p-9f) == 1);
  CHECK(rounded(1 + 0x1p-8f) == 1);                // a tie: 1.0000000 is even
  CHECK(rounded(1 + 0x1.01p-8f) == 1 + 0x1p-7f);   // just above it
  CHECK(rounded(1 + 3 * 0x1p-8f) == 1 + 0x1p-6f);  // a tie: up to even
  CHECK(rounded(-(1 + 3 * 0x1p-8f)) == -(1 + 0x1p-6f));
  CHECK(rounded(3.1415927f) == 3.140625f);
}

TEST_CASE("bfloat16: zeros, infinities and NaN stay what they are; what is too large becomes infinite") {
  const float inf = std::numeric_limits<float>::infinity();
  CHECK(BFloat16(0.0f).bits == 0x0000);
  CHECK(BFloat16(-0.0f).bits == 0x8000);
  CHECK(static_cast<float>(BFloat16(inf)) == inf);
  CHECK(static_cast<float>(BFloat16(-inf)) == -inf);
  CHECK(static_cast<float>(BFloat16(std::numeric_limits<float>::max())) == inf);
  CHECK(std::isnan(static_cast<float>(BFloat16(std::nanf("")))));
  // A NaN whose mark is in the lower half must not become an infinity.
  CHECK(std::isnan(static_cast<float>(BFloat16(std::bit_cast<float>(uint32_t{0x7f800001})))));
  CHECK(std::isnan(static_cast<float>(BFloat16(std::bit_cast<float>(uint32_t{0xffffffff})))));
}

TEST_CASE("bfloat16: every one of them survives the way through float32") {
  for (uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const BFloat16 x = std::bit_cast<BFloat16>(static_cast<uint16_t>(bits));
    const float value = static_cast<float>(x);
    if (std::isnan(value)) continue;
    if (BFloat16(value).bits != bits) FAIL("bits ", bits);
  }
}
