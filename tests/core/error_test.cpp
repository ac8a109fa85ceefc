// Errors: what they say.
#include "mica/core/error.h"

#include <doctest/doctest.h>

#include <cstring>
#include <stdexcept>
#include <string>

#include "mica/core/device.h"
#include "mica/core/dtype.h"
#include "mica/core/shape.h"
#include "support/error_text.h"

using namespace mica;
using mica::test::contains;
using mica::test::error_text;

TEST_CASE("error: reads [op] rule: values") {
  CHECK(std::string(Error("conv2d", "channels must match").what()) == "[conv2d] channels must match");
  CHECK(error_text([] {
          fail("matmul", "inner sizes must match: ", Shape{2, 3}, " and ", Shape{4, 5});
        }) == "[matmul] inner sizes must match: [2,3] and [4,5]");
}

TEST_CASE("error: values are written shortly and exactly") {
  const auto text = [](auto value) { return error_text([&] { fail("x", value); }); };
  CHECK(text(3) == "[x] 3");
  CHECK(text(int64_t{-9223372036854775807 - 1}) == "[x] -9223372036854775808");
  CHECK(text(uint64_t{18446744073709551615u}) == "[x] 18446744073709551615");
  CHECK(text(0.1) == "[x] 0.1");
  CHECK(text(1e300) == "[x] 1e+300");
  CHECK(text(-0.0) == "[x] -0");
  CHECK(text(std::string("text")) == "[x] text");
  CHECK(text("text") == "[x] text");
  CHECK(text(bfloat16) == "[x] bfloat16");
  CHECK(text(Device::cpu()) == "[x] cpu");
  CHECK(text(Shape{1, 2}) == "[x] [1,2]");
}

TEST_CASE("error: check throws only when the rule is broken") {
  CHECK(error_text([] { check(true, "op", "nothing"); }) == "no error");
  CHECK(error_text([] { check(false, "op", "rates must be positive, got ", -1.5); }) ==
        "[op] rates must be positive, got -1.5");
  CHECK_THROWS_AS(check<FileError>(false, "load", "cut short"), FileError);
}

TEST_CASE("error: each layer on the way out puts its name in front") {
  Error error("conv2d", "channels must match");
  error.add_layer("conv2d_1");
  CHECK(std::string(error.what()) == "conv2d_1: [conv2d] channels must match");
  error.add_layer("encoder");
  CHECK(std::string(error.what()) == "encoder: conv2d_1: [conv2d] channels must match");
}

TEST_CASE("error: a FileError is an Error, and both are std::exceptions") {
  CHECK_THROWS_AS(fail<FileError>("load", "x"), Error);
  CHECK_THROWS_AS(fail<FileError>("load", "x"), std::exception);
}

TEST_CASE("error: a broken invariant of Mica's own is a logic_error that names its place") {
  CHECK_NOTHROW(MICA_ASSERT(1 + 1 == 2));
  try {
    MICA_ASSERT(1 + 1 == 3);
    FAIL("no exception");
  } catch (const std::logic_error& error) {
    CHECK(contains(error.what(), "a bug in Mica: 1 + 1 == 3 does not hold at "));
    CHECK(contains(error.what(), "error_test.cpp:"));
  }
}
