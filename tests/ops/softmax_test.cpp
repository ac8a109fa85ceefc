// Softmax and its logarithm.
#include "mica/ops/softmax.h"

#include <limits>

#include "mica/autograd/gradcheck.h"
#include "support/golden.h"
#include "support/wrong_use.h"

using namespace mica;
using namespace mica::test;

namespace {
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
const Shape kShapes[] = {{1}, {7}, {3, 5}, {4, 1}, {2, 3, 17}, {0, 3}, {3, 0}, {1, 100}, {2, 1, 33}};
}  // namespace

TEST_CASE("softmax, its logarithm and their gradients are PyTorch's") {
  for (const GoldenCase& c : golden("softmax")) {
    const Shape shape = c.input("x", float64).shape();
    if (shape.index(static_cast<int>(c.number("axis"))) != shape.rank() - 1) continue;  // Mica's is of the last axis
    replay(c, kPointwise, [&](const Tensors& x) { return c.op == "softmax" ? softmax(x[0]) : log_softmax(x[0]); });
  }
}

TEST_CASE("softmax and its logarithm pass a gradient check") {
  for (const Shape& shape : kShapes) {
    CAPTURE(shape);
    CHECK(gradcheck([](const Tensors& x) { return softmax(x[0]); }, {sample(shape, float64, 1, -3, 3)}) <= 1e-6);
    CHECK(gradcheck([](const Tensors& x) { return log_softmax(x[0]); }, {sample(shape, float64, 1, -3, 3)}) <= 1e-6);
  }
}

TEST_CASE("each row of a softmax sums to 1 and is the exponential of its logarithm") {
  for (const DType dtype : {float32, float64})
    for (const Shape& shape : kShapes) {
      CAPTURE(shape);
      const Tensor x = sample(shape, dtype, 2, -20, 20), y = softmax(x);
      CHECK(close(exp(log_softmax(x)), y, tolerance_of(dtype, {1e-5, 1e-6})));
      if (shape[-1] > 0) CHECK(close(sum(y, -1), ones(sum(y, -1).shape()), tolerance_of(dtype, kPointwise)));
    }
}

TEST_CASE("softmax does not change when a number is added to a row") {
  for (const DType dtype : {float32, float64}) {
    const Tensor x = tensor({1, 2, 3, 4}, {dtype});
    CHECK(same_bits(softmax(x + 4096), softmax(x)));
    CHECK(same_bits(log_softmax(x - 4096), log_softmax(x)));
  }
}

TEST_CASE("logits however large or small neither overflow nor vanish") {
  for (const DType dtype : {float32, float64}) {
    CHECK(close(softmax(tensor({1e30, 0, -1e30}, {dtype})), {1, 0, 0}));
    CHECK(close(log_softmax(tensor({1e4, 0, -1e4}, {dtype})), {0, -1e4, -2e4}));
    CHECK(close(softmax(tensor({-1e30, -1e30}, {dtype})), {0.5, 0.5}));
    CHECK(close(log_softmax(tensor({-1000, -1000}, {dtype})), {-std::log(2), -std::log(2)}, kPointwise));
    CHECK(close(softmax(full({1000}, 88, {dtype})), full({1000}, 1e-3, {float64}), kPointwise));
  }
}

TEST_CASE("a logit of minus infinity has probability 0; a row of nothing else, or with NaN or infinity, is NaN") {
  for (const DType dtype : {float32, float64}) {
    const auto row = [&](const std::vector<double>& values) {
      return tensor(values, {static_cast<int64_t>(values.size())}).to(dtype);
    };
    CHECK(close(softmax(row({0, -kInfinity, 0})), {0.5, 0, 0.5}));
    CHECK(close(log_softmax(row({-kInfinity, 7})), {-kInfinity, 0}));
    for (const Tensor& bad : {row({-kInfinity, -kInfinity}), row({1, kNan}), row({kInfinity, kInfinity})}) {
      CHECK(close(softmax(bad), {kNan, kNan}));
      CHECK(close(log_softmax(bad), {kNan, kNan}));
    }
    // A long row, whose NaN may be missed by a maximum in vectors.
    for (const int64_t at : {0, 5, 16, 40, 99}) {
      Tensor x = zeros({100}, {float64});
      put(x, at, kNan);
      CHECK(close(softmax(x.to(dtype)), full({100}, kNan), kExact));
    }
  }
}

TEST_CASE("softmax refuses scalars and what is not float") {
  std::vector<WrongUse> table;
  const auto add = [&](Tensor (*op)(const Tensor&), const std::string& name) {
    table.push_back({"[" + name + "] the input must have an axis, shape []", [=] { op(ones({})); }});
    table.push_back(
        {"[" + name + "] the input must be float32 or float64, got int64", [=] { op(ones({2}, {int64})); }});
    table.push_back({"[" + name + "] the input is undefined", [=] { op(Tensor()); }});
  };
  add(softmax, "softmax");
  add(log_softmax, "log_softmax");
  check_wrong_use(table);
}
