// Comparisons, logic and selection, against NumPy's on random shapes.
#include "mica/ops/compare.h"

#include <limits>
#include <string>

#include "mica/autograd/gradcheck.h"
#include "mica/ops/manipulate.h"
#include "support/golden.h"
#include "support/wrong_use.h"

using namespace mica;
using namespace mica::test;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

struct Comparison {
  const char* name;
  Tensor (*op)(const Tensor&, const Tensor&);
};
const Comparison kComparisons[] = {
#define MICA_LINE(function, Functor) {#function, [](const Tensor& a, const Tensor& b) { return function(a, b); }},
    MICA_COMPARE_OPS(MICA_LINE)
#undef MICA_LINE
};

}  // namespace

TEST_CASE("comparisons and logic are NumPy's, of every dtype") {
  int cases = 0;
  for (const GoldenCase& c : golden("compare"))
    for (const Comparison& f : kComparisons) {
      if (f.name != c.op) continue;
      ++cases;
      CAPTURE(c.name);
      for (const DType dtype : {float32, float64, int32, int64}) {
        const Tensor y = f.op(c.input("a", float64).to(dtype), c.input("b", float64).to(dtype));
        CHECK(y.dtype() == uint8);
        CHECK(close(y, c.expected("y"), kExact));
      }
    }
  CHECK(cases >= 50);
}

TEST_CASE("where and clip are NumPy's, and their gradients PyTorch's") {
  for (const GoldenCase& c : golden("compare")) {
    if (c.op == "where") replay(c, kPointwise, [](const Tensors& x) { return where(x[0], x[1], x[2]); });
    if (c.op == "clip")
      replay(c, kExact, [&](const Tensors& x) { return clip(x[0], c.number("low"), c.number("high")); });
  }
}

TEST_CASE("where and clip pass a gradient check, broadcast too") {
  const Shape shapes[] = {{1}, {7}, {0}, {3, 5}, {2, 3, 5}};
  for (const Shape& shape : shapes) {
    CAPTURE(shape);
    const Tensor condition = greater(sample(shape), 0), scalar = sample({1});
    CHECK(gradcheck([&](const Tensors& x) { return where(condition, x[0], x[1]); }, {sample(shape), scalar}) <= 1e-6);
    CHECK(gradcheck([&](const Tensors& x) { return where(condition, x[1] * 2, x[0]); }, {sample(shape), scalar}) <=
          1e-6);
    CHECK(gradcheck([&](const Tensors& x) { return clip(x[0], -0.5, 0.4); }, {sample(shape)}) <= 1e-6);
  }
}

TEST_CASE("NaN is equal to nothing, not to itself, and neither more nor less") {
  const Tensor x = tensor({kNan, 1, kInfinity, -kInfinity});
  CHECK(close(equal(x, x), {0, 1, 1, 1}));
  CHECK(close(not_equal(x, x), {1, 0, 0, 0}));
  CHECK(close(less(x, 2), {0, 1, 0, 1}));
  CHECK(close(greater_equal(x, 2), {0, 0, 1, 0}));
  CHECK(close(isnan(x), {1, 0, 0, 0}));
  CHECK(close(isfinite(x), {0, 1, 0, 0}));
  CHECK(close(isinf(x), {0, 0, 1, 1}));
  CHECK(close(isfinite(tensor({1, 2}, {int32})), {1, 1}));
  CHECK(close(logical_not(tensor({0, 2, -1})), {1, 0, 0}));
}

TEST_CASE("where hides what it does not choose, and gives it no gradient") {
  Tape tape;
  Tensor a = tensor({1, kNan}), b = tensor({kInfinity, 5});
  tape.watch(a);
  tape.watch(b);
  const Tensor y = where(tensor({1, 0}, {uint8}), a, b);
  CHECK(close(y, {1, 5}));
  const Tensors gradients = tape.gradient(sum(y), {a, b});
  CHECK(close(gradients[0], {1, 0}));
  CHECK(close(gradients[1], {0, 1}));
}

TEST_CASE("a number that the integer dtype does not have is refused, not cut to its range") {
  const Tensor bytes = tensor({0, 255}, {uint8}), ints = tensor({1}, {int32});
  CHECK(close(less_equal(bytes, 255), {1, 1}));
  const auto refused = [](const char* dtype, const char* value) {
    return std::string("[scalar] a tensor of ") + dtype + " and " + value +
           " do not mix: convert the tensor with .to(float32) first";
  };
  check_wrong_use({
      {refused("uint8", "256"), [=] { less(bytes, 256); }},
      {refused("uint8", "-1"), [=] { greater(bytes, -1); }},
      {refused("int32", "3e+09"), [=] { less(ints, 3e9); }},
      {refused("int32", "inf"), [=] { equal(ints, kInfinity); }},
      {refused("uint8", "300"), [=] { where(bytes, bytes, 300); }},
      {"[pad] -3 is no value of uint8",
       [=] {
         pad(bytes, {{1, 1}}, {.value = -3});
       }},
  });
}

TEST_CASE("operands that do not fit are refused") {
  const Tensor x = ones({2, 3}), yes = ones({2, 3}, {uint8});
  check_wrong_use({
      {"[equal] dtypes must match: float32 and int64 (the second operand)", [=] { equal(x, x.to(int64)); }},
      {"[less] shapes do not broadcast: [2,3] and [2]", [=] { less(x, ones({2})); }},
      {"[greater] not defined for bfloat16", [=] { greater(x.to(bfloat16), x.to(bfloat16)); }},
      {"[scalar] a tensor of int32 and 0.5 do not mix: convert the tensor with .to(float32) first",
       [=] { less(x.to(int32), 0.5); }},
      {"[where] the condition must be uint8, as comparisons give, got float32", [=] { where(x, x, x); }},
      {"[where] dtypes must match: float32 and float64 (the second choice)", [=] { where(yes, x, x.to(float64)); }},
      {"[where] shapes do not broadcast: [2,3] and [4]", [=] { where(yes, ones({4}), 0); }},
      {"[clip] the bounds must be in order, got 1 and 0", [=] { clip(x, 1, 0); }},
      {"[clip] the bounds must be in order, got nan and 1", [=] { clip(x, kNan, 1); }},
      {"[isinf] the input is undefined", [=] { isinf({}); }},
  });
}
