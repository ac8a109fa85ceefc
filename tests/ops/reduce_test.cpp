// Sums, means and maxima over axes, against loops in float64.
#include "mica/ops/reduce.h"

#include <limits>

#include "mica/autograd/gradcheck.h"
#include "mica/ops/view.h"
#include "support/golden.h"
#include "support/wrong_use.h"

using namespace mica;
using namespace mica::test;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

const Shape kShapes[] = {{},           {1},       {7},      {0},          {3, 5},       {3, 0, 2},
                         {1, 9},       {2, 3, 5}, {65, 67}, {5, 1, 3, 1}, {2, 3, 2, 3}, {1, 2, 1, 2, 1, 2, 1, 3},
                         {129, 64, 3}, {20011}};

// Every set of axes of a shape, as flags and as Axes; no axes at all means all of them.
template <class F>
void for_each_axes(const Shape& shape, const F& body) {
  body((1u << shape.rank()) - 1, Axes());
  if (shape.rank() > 4) return body(0b10100101u, Axes{0, 2, 5, 7});
  const auto add = [&](std::initializer_list<int> axes) {
    unsigned mask = 0;
    for (const int axis : axes) {
      if (axis >= shape.rank()) return;
      mask |= 1u << axis;
    }
    body(mask, Axes(axes));
  };
  for (const auto& axes :
       {std::initializer_list<int>{0}, {1}, {2}, {3}, {0, 1}, {2, 0}, {1, 2}, {3, 1}, {0, 1, 2}, {0, 1, 3}})
    add(axes);
}

Tensor naive_sum(const Tensor& x, unsigned mask, bool keepdims) {
  std::vector<int64_t> kept, strides(static_cast<size_t>(x.rank()));
  int64_t count = 1;
  for (int axis = x.rank() - 1; axis >= 0; --axis) {
    const bool reduced = mask >> axis & 1u;
    strides[static_cast<size_t>(axis)] = reduced ? 0 : count;
    if (!reduced) count *= x.dim(axis);
    if (!reduced || keepdims) kept.insert(kept.begin(), reduced ? 1 : x.dim(axis));
  }
  std::vector<double> y(static_cast<size_t>(count));
  const std::vector<double> values = doubles(x);
  for (size_t i = 0; i < values.size(); ++i) {
    int64_t at = 0;
    for (int64_t axis = x.rank() - 1, rest = static_cast<int64_t>(i); axis >= 0; --axis) {
      at += rest % x.dim(static_cast<int>(axis)) * strides[static_cast<size_t>(axis)];
      rest /= x.dim(static_cast<int>(axis));
    }
    y[static_cast<size_t>(at)] += values[i];
  }
  return tensor(y, Shape(kept));
}

}  // namespace

TEST_CASE("sum and mean over any axes, kept or not, are the loops'") {
  for (const Shape& shape : kShapes)
    for_each_axes(shape, [&](unsigned mask, const Axes& axes) {
      for (const DType dtype : {float32, float64})
        for (const bool keepdims : {false, true}) {
          CAPTURE(shape);
          CAPTURE(mask);
          CAPTURE(keepdims);
          const Tensor x = sample(shape, dtype), expected = naive_sum(x, mask, keepdims);
          CHECK(close(sum(x, axes, keepdims), expected, tolerance_of(dtype, kPointwise)));
          CHECK(sum(x, axes).dtype() == dtype);
          double count = 1;
          for (int axis = 0; axis < shape.rank(); ++axis)
            count *= mask >> axis & 1u ? static_cast<double>(shape[axis]) : 1;
          CHECK(close(mean(x, axes, keepdims), expected / count, tolerance_of(dtype, kPointwise)));
        }
    });
}

TEST_CASE("sum and mean pass a gradient check over any axes") {
  for (const Shape& shape : kShapes) {
    if (shape.elements() > 1000) continue;
    for_each_axes(shape, [&](unsigned mask, const Axes& axes) {
      CAPTURE(shape);
      CAPTURE(mask);
      for (const bool keepdims : {false, true}) {
        CHECK(gradcheck([&](const Tensors& x) { return sum(x[0], axes, keepdims); }, {sample(shape)}) <= 1e-6);
        if (shape.elements() > 0)
          CHECK(gradcheck([&](const Tensors& x) { return mean(x[0], axes, keepdims); }, {sample(shape)}) <= 1e-6);
      }
    });
  }
}

TEST_CASE("axes may count from the end") {
  const Tensor x = sample({2, 3, 5});
  CHECK(same_bits(sum(x, -1), sum(x, 2)));
  CHECK(same_bits(sum(x, {-3, 1}), sum(x, {0, 1})));
  CHECK(same_bits(argmax(x, -2), argmax(x, 1)));
}

TEST_CASE("a sum over nothing is 0, a mean over nothing NaN") {
  CHECK(close(sum(zeros({0})), {0}));
  CHECK(close(sum(zeros({2, 0}), 1), {0, 0}));
  CHECK(close(mean(zeros({0})), {kNan}));
  CHECK(close(mean(zeros({2, 0}), 1), {kNan, kNan}));
  CHECK(mean(zeros({2, 0}), 0).shape() == Shape{0});
}

TEST_CASE("a sum of a scalar is a copy of it") {
  Tensor x = full({}, 3);
  const Tensor y = sum(x);
  x.fill(4);
  CHECK(y.item() == 3);
}

TEST_CASE("a million float32 are summed as in float64, but for a last rounding in each thousand") {
  const Tensor x = full({1000003}, 0.1);
  CHECK(sum(x).item() == doctest::Approx(1000003 * static_cast<double>(0.1f)).epsilon(1e-6));
  CHECK(mean(x).item() == doctest::Approx(static_cast<double>(0.1f)).epsilon(1e-6));
  CHECK(sum(x.reshape({1, 1000003}), 0).shape() == Shape{1000003});
  // Summed one after the other in float32, these would stand still at 2^24.
  CHECK(sum(ones({1 << 25})).item() == 1 << 25);
  CHECK(close(sum(ones({1 << 18, 3}), 0), {1 << 18, 1 << 18, 1 << 18}));
}

TEST_CASE("NaN and infinity go through a sum") {
  for (const double bad : {kNan, kInfinity, -kInfinity}) {
    Tensor x = zeros({3, 100}, {float64});
    x.mutable_data<double>()[150] = bad;
    CHECK(close(sum(x, 1), {0, bad, 0}));
    CHECK(close(sum(x), {bad}));
  }
}

TEST_CASE("argmax is the first position of the largest, and NaN is larger than all") {
  for (const DType dtype : {float32, float64}) {
    const Tensor x = tensor({{1, 3, 3}, {5, 2, 5}, {kNan, 9, kNan}, {-kInfinity, -kInfinity, -kInfinity}}, {dtype});
    CHECK(same_bits(argmax(x), tensor({1, 0, 0, 0}, {int64})));
    CHECK(same_bits(argmax(x.slice(0, 2), 0), tensor({1, 0, 1}, {int64})));
    CHECK(argmax(zeros({0, 3}), 1).shape() == Shape{0});
    CHECK(argmax(counting({2, 3, 4}, dtype), 1).shape() == Shape{2, 4});
    CHECK(close(argmax(counting({2, 3, 4}, dtype), 1), {2, 2, 2, 2, 2, 2, 2, 2}));
  }
}

TEST_CASE("sum_to undoes broadcast_to") {
  const std::pair<Shape, Shape> pairs[] = {
      {{}, {2, 3}},     {{3}, {2, 3}},    {{1, 3}, {2, 3}}, {{2, 1}, {2, 3}},
      {{1, 1}, {2, 3}}, {{2, 3}, {2, 3}}, {{1}, {0}},       {{3, 1, 2}, {5, 3, 7, 2}}};
  for (const auto& pair : pairs) {
    const Shape &from = pair.first, &to = pair.second;
    CAPTURE(from);
    CAPTURE(to);
    const Tensor x = sample(from), wide = broadcast_to(x, to);
    const double copies = static_cast<double>(to.elements()) / static_cast<double>(from.elements());
    CHECK(close(sum_to(wide, from), x * copies, kFloat64));
    CHECK(gradcheck([&](const Tensors& t) { return broadcast_to(t[0], to); }, {x}) <= 1e-6);
  }
}

TEST_CASE("reductions refuse axes that the tensor does not have, and what is not float") {
  const Tensor x = ones({2, 3});
  check_wrong_use({
      {"[sum] axis 2 is out of range for shape [2,3]", [=] { sum(x, 2); }},
      {"[mean] axis -3 is out of range for shape [2,3]",
       [=] {
         mean(x, {0, -3});
       }},
      {"[sum] axis -1 is given twice",
       [=] {
         sum(x, {1, -1});
       }},
      {"[sum] axis 0 is out of range for shape []", [=] { sum(ones({}), 0); }},
      {"[axes] a tensor has at most 8 axes",
       [=] {
         sum(x, {0, 1, 2, 3, 4, 5, 6, 7, 8});
       }},
      {"[sum] the input must be float32 or float64, got int32", [=] { sum(x.to(int32)); }},
      {"[mean] the input is undefined", [=] { mean({}); }},
      {"[argmax] axis 1 of [2,0] is empty",
       [=] {
         argmax(zeros({2, 0}), 1);
       }},
      {"[argmax] axis 2 is out of range for shape [2,3]", [=] { argmax(x, 2); }},
      {"[argmax] axis -1 is out of range for shape []", [=] { argmax(ones({})); }},
      {"[argmax] the input must be float32 or float64, got uint8", [=] { argmax(x.to(uint8)); }},
      {"[broadcast_to] shapes do not broadcast: [2,3] and [2,4]",
       [=] {
         broadcast_to(x, {2, 4});
       }},
      {"[broadcast_to] shape [2,3] does not broadcast to [3]", [=] { broadcast_to(x, {3}); }},
      {"[broadcast_to] shape [2,3] does not broadcast to [2,1]",
       [=] {
         broadcast_to(x, {2, 1});
       }},
      {"[broadcast_to] the tensor is undefined", [=] { broadcast_to({}, {2}); }},
  });
}
