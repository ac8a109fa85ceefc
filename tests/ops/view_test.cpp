// Shapes and types changed: what reshape, slice, clone and to() keep, their gradients, and how numbers convert.
#include "mica/ops/manipulate.h"

#include <limits>

#include "mica/autograd/gradcheck.h"
#include "support/golden.h"
#include "support/wrong_use.h"

using namespace mica;
using namespace mica::test;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr DType kAll[] = {float32, float64, bfloat16, int32, int64, uint8};

}  // namespace

TEST_CASE("reshape and slices along the first axis are views") {
  Tensor x = counting({4, 3, 2});
  for (const Tensor& view : {x.reshape({2, 12}), x.reshape({-1}), x.slice(1, 3), x.slice(-1, 4), x[2], x[-1][0]})
    CHECK(view.shares_storage_with(x));
  CHECK(x.reshape({2, -1}).shape() == Shape{2, 12});
  CHECK(x.reshape({24, 1, -1}).shape() == Shape{24, 1, 1});
  CHECK(close(x[1], tensor({{6, 7}, {8, 9}, {10, 11}}), kExact));
  CHECK(close(x[-1][2], {22, 23}));
  CHECK(close(x.slice(-2, -1), x[2].reshape({1, 3, 2}), kExact));
  CHECK(x.slice(4, 4).shape() == Shape{0, 3, 2});
  CHECK(zeros({0, 3}).reshape({-1}).shape() == Shape{0});
  CHECK(zeros({0, 3}).reshape({7, 0}).shape() == Shape{7, 0});
  x.fill(5);
  CHECK(close(x.slice(0, 1)[0][0], {5, 5}));
}

TEST_CASE("a clone is a copy of the values, of a view as well") {
  Tensor x = counting({4, 2});
  const Tensor copy = x.slice(1, 3).clone();
  CHECK(!copy.shares_storage_with(x));
  x.fill(0);
  CHECK(close(copy, tensor({{2, 3}, {4, 5}}), kExact));
}

TEST_CASE("views, clones and broadcasts pass a gradient check") {
  const Shape shapes[] = {{1}, {7}, {3, 5}, {4, 0}, {2, 3, 5}, {5, 1, 1, 3}};
  for (const Shape& shape : shapes) {
    CAPTURE(shape);
    const Tensor x = sample(shape);
    const auto check = [&](Tensor (*f)(const Tensor&)) {
      CHECK(gradcheck([&](const Tensors& t) { return f(t[0]); }, {x}) <= 1e-6);
    };
    check([](const Tensor& t) { return t.reshape({t.elements(), 1}); });
    check([](const Tensor& t) { return t.slice(0, 1); });
    check([](const Tensor& t) { return t.slice(t.dim(0), t.dim(0)); });
    check([](const Tensor& t) { return t[-1] * t[0]; });  // rows of one tensor, whose gradients add up
    check([](const Tensor& t) { return t.slice(0, -1) * 2; });
    check([](const Tensor& t) { return t.clone(); });
    check([](const Tensor& t) { return broadcast_to(t, t.shape().with_first(3)); });
    check([](const Tensor& t) { return square(t.reshape({1, -1}).reshape(t.shape()).slice(0, t.dim(0))); });
  }
}

TEST_CASE("a conversion between floats passes the gradient back in the dtype that it came from") {
  Tape tape;
  Tensor x = tensor({1, 2, 3});
  tape.watch(x);
  const Tensor y = sum(square(x.to(float64)));
  const Tensor d = tape.gradient(y, {x})[0];
  CHECK(d.dtype() == float32);
  CHECK(close(d, {2, 4, 6}));
}

TEST_CASE("the tape does not follow a tensor into bfloat16 or the integers") {
  Tape tape;
  Tensor x = tensor({1, 2, 3});
  tape.watch(x);
  for (const DType dtype : {bfloat16, int32, int64, uint8}) CHECK(!tape.wants(x.to(dtype)));
  CHECK(tape.wants(x.to(float64)));
}

TEST_CASE("to() between any two dtypes keeps the numbers that both hold") {
  for (const DType from : kAll)
    for (const DType to : kAll) {
      CAPTURE(from);
      CAPTURE(to);
      const Tensor x = tensor({0, 1, 2, 100, 128, 255}, {from});
      CHECK(x.dtype() == from);
      CHECK(x.to(to).dtype() == to);
      CHECK(close(x.to(to), {0, 1, 2, 100, 128, 255}));
      if (from != uint8 && to != uint8) CHECK(close(tensor({-1, -128}, {from}).to(to), {-1, -128}));
      CHECK(zeros({3, 0}, {from}).to(to).shape() == Shape{3, 0});
    }
}

TEST_CASE("to() of the same dtype or device is the tensor itself") {
  const Tensor x = ones({2});
  CHECK(x.to(float32).shares_storage_with(x));
  CHECK(x.to(x.device()).shares_storage_with(x));
}

TEST_CASE("floats to integers truncate toward zero, saturate, and NaN gives 0") {
  for (const DType from : {float32, float64}) {
    CAPTURE(from);
    const Tensor x =
        tensor({1.9, -1.9, 0.5, -0.5, 254.99, 255.5, 300, -5, kNan, kInfinity, -kInfinity, 1e30, -1e30}, {from});
    CHECK(close(x.to(uint8), {1, 0, 0, 0, 254, 255, 255, 0, 0, 255, 0, 255, 0}));
    const double most = INT32_MAX, least = INT32_MIN;
    CHECK(close(x.to(int32), {1, -1, 0, 0, 254, 255, 300, -5, 0, most, least, most, least}));
    const int64_t wide[] = {1, -1, 0, 0, 254, 255, 300, -5, 0, INT64_MAX, INT64_MIN, INT64_MAX, INT64_MIN};
    CHECK(same_bits(x.to(int64), tensor(std::span<const int64_t>(wide), {13})));
  }
  CHECK(close(tensor({2147483646.9, 2147483647.5, -2147483648.9}, {float64}).to(int32),
              {2147483646, INT32_MAX, INT32_MIN}));
  CHECK(close(tensor({kNan, kInfinity, -1.5}).to(bfloat16).to(int32), {0, INT32_MAX, -1}));
}

TEST_CASE("integers to narrower integers saturate") {
  const std::vector<int64_t> wide = {INT64_MAX, INT64_MIN, int64_t{1} << 31, -1, 256};
  const Tensor x = tensor(wide, {5});
  CHECK(close(x.to(int32), {INT32_MAX, INT32_MIN, INT32_MAX, -1, 256}));
  CHECK(close(x.to(uint8), {255, 0, 255, 0, 255}));
}

TEST_CASE("int32 and uint8 to int64, and int64 to float64 below 2^53, are exact") {
  const std::vector<int32_t> narrow = {INT32_MAX, INT32_MIN, 0, -1};
  const std::vector<int64_t> wide = {INT32_MAX, INT32_MIN, 0, -1};
  CHECK(same_bits(tensor(narrow, {4}).to(int64), tensor(wide, {4})));
  const std::vector<int64_t> large = {(int64_t{1} << 53) - 1, -(int64_t{1} << 53),
                                      (int64_t{1} << 62) + (int64_t{1} << 20)};
  CHECK(same_bits(tensor(large, {3}).to(float64).to(int64), tensor(large, {3})));
}

TEST_CASE("conversions between floats keep infinities, NaN, the sign of zero and subnormal numbers") {
  for (const DType from : {float32, float64, bfloat16})
    for (const DType to : {float32, float64, bfloat16}) {
      CAPTURE(from);
      CAPTURE(to);
      const Tensor x = tensor({kInfinity, -kInfinity, kNan, 0, -0.0, 0x1p-133}, {from});
      const std::vector<double> y = doubles(x.to(to));
      CHECK(close(x.to(to), {kInfinity, -kInfinity, kNan, 0, 0, 0x1p-133}));
      CHECK(!std::signbit(y[3]));
      CHECK(std::signbit(y[4]));
    }
  CHECK(close(tensor({1e39, -1e39, 1e-50}, {float64}).to(float32), {kInfinity, -kInfinity, 0}));
}

TEST_CASE("float32 to bfloat16 rounds to nearest, ties to even, as BFloat16 does") {
  const double step = 0x1p-7;  // between neighbours above 1
  const Tensor x =
      tensor({1 + 0.5 * step, 1 + 1.5 * step, 1 + 0.49 * step, 1 + 0.51 * step, -(1 + 1.5 * step), 3.4e38});
  CHECK(close(x.to(bfloat16), {1, 1 + 2 * step, 1, 1 + step, -(1 + 2 * step), kInfinity}));
  const Tensor sampled = sample({1000}, float32, 5, -1e3, 1e3);
  const Tensor y = on_cpu(sampled), halves = on_cpu(sampled.to(bfloat16));
  for (int64_t i = 0; i < 1000; ++i) REQUIRE(halves.data<BFloat16>()[i].bits == BFloat16(y.data<float>()[i]).bits);
}

TEST_CASE("filling saturates as conversion does") {
  CHECK(close(full({2}, -1, {uint8}), {0, 0}));
  CHECK(close(full({1}, 1e10, {int32}), {INT32_MAX}));
  CHECK(close(full({1}, kNan, {int64}), {0}));
}

TEST_CASE("views refuse shapes and rows that the tensor does not have") {
  const Tensor x = ones({2, 3});
  check_wrong_use({
      {"[reshape] the number of elements must stay the same: [2,3] to [4]", [=] { x.reshape({4}); }},
      {"[reshape] cannot infer the -1: [2,3] to [4,-1]",
       [=] {
         x.reshape({4, -1});
       }},
      {"[reshape] cannot infer the -1: [0] to [0,-1]",
       [=] {
         zeros({0}).reshape({0, -1});
       }},
      {"[reshape] only one size may be -1: [-1,-1]",
       [=] {
         x.reshape({-1, -1});
       }},
      {"[reshape] sizes must not be negative: [-2,-3]",
       [=] {
         x.reshape({-2, -3});
       }},
      {"[reshape] the tensor is undefined", [=] { Tensor().reshape({1}); }},
      {"[slice] rows [0, 3) are not within [2,3]", [=] { x.slice(0, 3); }},
      {"[slice] rows [2, 1) are not within [2,3]", [=] { x.slice(2, 1); }},
      {"[slice] rows [-3, 2) are not within [2,3]", [=] { x.slice(-3, 2); }},
      {"[slice] the tensor must have an axis to slice, shape []", [=] { ones({}).slice(0, 1); }},
      {"[index] row 2 is not within [2,3]", [=] { x[2]; }},
      {"[index] row -3 is not within [2,3]", [=] { x[-3]; }},
      {"[index] the tensor must have an axis to index, shape []", [=] { ones({})[0]; }},
      {"[clone] the tensor is undefined", [=] { Tensor().clone(); }},
      {"[to] the tensor is undefined", [=] { Tensor().to(float64); }},
      {"[to] the tensor is undefined", [=] { Tensor().to(Device::cpu()); }},
  });
}
