// Dropout: how many elements it zeroes, which ones, and that the gradient is zeroed where the value was.
#include "mica/ops/dropout.h"

#include <limits>

#include "mica/autograd/gradcheck.h"
#include "mica/core/threads.h"
#include "support/golden.h"
#include "support/wrong_use.h"

using namespace mica;
using namespace mica::test;

namespace {
constexpr RandomKey kKey{42, 7};
}

TEST_CASE("dropout zeroes `rate` of the elements and divides the others by 1 - rate") {
  constexpr int64_t kCount = 100003;
  for (const DType dtype : {float32, float64})
    for (const double rate : {0.1, 0.5, 0.9}) {
      CAPTURE(rate);
      const Tensor y = dropout(ones({kCount}, {dtype}), rate, kKey);
      int64_t zeroed = 0;
      for (const double v : doubles(y)) {
        REQUIRE((v == 0 || v == doctest::Approx(1 / (1 - rate)).epsilon(1e-6)));
        zeroed += v == 0;
      }
      const double deviation = std::sqrt(kCount * rate * (1 - rate));
      CHECK(std::fabs(static_cast<double>(zeroed) - kCount * rate) < 4 * deviation);
    }
}

TEST_CASE("neighbours are dropped independently of each other") {
  const std::vector<double> y = doubles(dropout(ones({100000}), 0.5, kKey));
  for (const size_t distance : {1, 2, 3, 4, 8, 16}) {
    size_t both = 0;
    for (size_t i = 0; i + distance < y.size(); ++i) both += y[i] == 0 && y[i + distance] == 0;
    CHECK(std::fabs(static_cast<double>(both) / static_cast<double>(y.size()) - 0.25) < 0.01);
  }
}

TEST_CASE("which elements are dropped is a function of key and position alone") {
  const Tensor x = sample({1001}, float32), y = dropout(x, 0.3, kKey);
  CHECK(same_bits(dropout(x, 0.3, kKey), y));
  CHECK(same_bits(dropout(x.reshape({7, 143}), 0.3, kKey).reshape({1001}), y));
  CHECK(same_bits(dropout(x.slice(0, 10), 0.3, kKey), y.slice(0, 10)));
  CHECK(close(dropout(x.to(float64), 0.3, kKey), y, kPointwise));
  CHECK(!same_bits(dropout(x, 0.3, {42, 8}), y));
  CHECK(!same_bits(dropout(x, 0.3, {43, 7}), y));
}

TEST_CASE("the gradient of dropout is dropped where the value was") {
  Tape tape;
  Tensor x = ones({10007});
  tape.watch(x);
  const Tensor y = dropout(x, 0.4, kKey);
  CHECK(same_bits(tape.gradient(sum(y), {x})[0], y));  // x and dy are all ones
}

TEST_CASE("dropout passes a gradient check") {
  for (const Shape& shape : {Shape{}, Shape{1}, Shape{7}, Shape{0}, Shape{3, 5}, Shape{2, 3, 17}})
    for (const double rate : {0.0, 0.3, 0.9}) {
      CAPTURE(shape);
      CHECK(gradcheck([&](const Tensors& x) { return dropout(x[0], rate, kKey) + x[0]; }, {sample(shape)}) <= 1e-6);
    }
}

TEST_CASE("dropout at rate 0 is the input itself") {
  const Tensor x = ones({3});
  CHECK(dropout(x, 0, kKey).shares_storage_with(x));
}

TEST_CASE("dropout refuses rates outside of [0, 1), and what is not float") {
  const Tensor x = ones({3});
  check_wrong_use({
      {"[dropout] the rate must be in [0, 1), got 1", [=] { dropout(x, 1, kKey); }},
      {"[dropout] the rate must be in [0, 1), got -0.1", [=] { dropout(x, -0.1, kKey); }},
      {"[dropout] the rate must be in [0, 1), got nan",
       [=] { dropout(x, std::numeric_limits<double>::quiet_NaN(), kKey); }},
      {"[dropout] the input must be float32 or float64, got int32", [=] { dropout(x.to(int32), 0.5, kKey); }},
      {"[dropout] the input is undefined", [=] { dropout({}, 0.5, kKey); }},
  });
}
