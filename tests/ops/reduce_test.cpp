// Sums, means and maxima over axes, against loops in float64.
#include "mica/ops/reduce.h"

#include <limits>
#include <string>

#include "mica/autograd/gradcheck.h"
#include "mica/ops/manipulate.h"
#include "ops/common.h"
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

namespace {

Axes axes_of(const GoldenCase& c) {
  std::vector<int> axes;
  for (const int64_t axis : c.list("axes")) axes.push_back(static_cast<int>(axis));
  return Axes(std::span<const int>(axes));
}

Tensor call(const GoldenCase& c, const Tensor& x) {
  const Axes axes = axes_of(c);
  const bool keep = c.flag("keepdims");
  if (c.op == "sum") return sum(x, axes, keep);
  if (c.op == "mean") return mean(x, axes, keep);
  if (c.op == "prod") return prod(x, axes, keep);
  if (c.op == "max") return max(x, axes, keep);
  if (c.op == "min") return min(x, axes, keep);
  if (c.op == "var") return var(x, axes, keep, static_cast<int64_t>(c.number("ddof")));
  if (c.op == "stddev") return stddev(x, axes, keep, static_cast<int64_t>(c.number("ddof")));
  if (c.op == "logsumexp") return logsumexp(x, axes, keep);
  if (c.op == "norm") return norm(x, axes, keep, std::stod(c.text("p")));
  if (c.op == "any") return any(x, axes, keep);
  if (c.op == "all") return all(x, axes, keep);
  throw std::runtime_error("no test for " + c.op);
}

}  // namespace

TEST_CASE("reductions over random axes are NumPy's, and their gradients PyTorch's") {
  for (const GoldenCase& c : golden("reduce")) {
    CAPTURE(c.name);
    if (c.op == "argmax" || c.op == "argmin") {
      const int axis = static_cast<int>(c.number("axis"));
      for (const DType dtype : {float32, float64, int32, int64}) {
        const Tensor x = c.input("x", float64).to(dtype);
        CHECK(close(c.op == "argmax" ? argmax(x, axis) : argmin(x, axis), c.expected("y"), kExact));
      }
    } else if (c.op == "any" || c.op == "all") {
      for (const DType dtype : {float32, int64, uint8})
        CHECK(close(call(c, c.input("x", float64).to(dtype)), c.expected("y"), kExact));
    } else {
      replay(c, kPointwise, [&](const Tensors& x) { return call(c, x[0]); });
    }
  }
}

TEST_CASE("each reduction passes a gradient check over any axes") {
  struct Reduction {
    const char* name;
    Tensor (*op)(const Tensor&, const Axes&);
    bool of_nothing;
  };
  const Reduction reductions[] = {
      {"prod", [](const Tensor& x, const Axes& a) { return prod(x, a); }, true},
      {"max", [](const Tensor& x, const Axes& a) { return max(x, a, true); }, false},
      {"min", [](const Tensor& x, const Axes& a) { return min(x, a); }, false},
      {"var", [](const Tensor& x, const Axes& a) { return var(x, a); }, false},
      {"stddev", [](const Tensor& x, const Axes& a) { return stddev(x, a, true); }, false},
      {"norm 1", [](const Tensor& x, const Axes& a) { return norm(x, a, false, 1); }, true},
      {"norm 2", [](const Tensor& x, const Axes& a) { return norm(x, a); }, true},
      {"norm of infinity", [](const Tensor& x, const Axes& a) { return norm(x, a, false, kInfinity); }, false},
      {"logsumexp", [](const Tensor& x, const Axes& a) { return logsumexp(x, a); }, true},
  };
  for (const Reduction& r : reductions)
    for (const Shape& shape : kShapes) {
      if (shape.elements() > 100 || (shape.elements() == 0 && !r.of_nothing)) continue;
      CAPTURE(r.name);
      CAPTURE(shape);
      // Of one value there is no deviation, and its root's gradient is 0 by definition.
      const bool lone = std::string(r.name) == "stddev";
      for_each_axes(shape, [&](unsigned mask, const Axes& axes) {
        CAPTURE(mask);
        int64_t count = 1;
        for (int axis = 0; axis < shape.rank(); ++axis) count *= mask >> axis & 1u ? shape[axis] : 1;
        if (lone && count < 2) return;
        CHECK(gradcheck([&](const Tensors& x) { return r.op(x[0], axes); }, {sample(shape)}) <= 1e-6);
      });
    }
}

TEST_CASE("reductions of nothing, of NaN and of infinities") {
  const Tensor nothing = zeros({2, 0});
  CHECK(close(prod(nothing, 1), {1, 1}));
  CHECK(close(logsumexp(nothing, 1), {-kInfinity, -kInfinity}));
  CHECK(close(norm(nothing, 1), {0, 0}));
  CHECK(close(any(nothing, 1), {0, 0}));
  CHECK(close(all(nothing, 1), {1, 1}));
  CHECK(close(var(nothing, 1), {kNan, kNan}));
  CHECK(max(zeros({0, 3}), 1).shape() == Shape{0});
  for (const DType dtype : {float32, float64}) {
    const Tensor x = tensor({{1, kNan, 3}, {kInfinity, 2, -kInfinity}, {-kInfinity, -kInfinity, -kInfinity}}, {dtype});
    CHECK(close(max(x, 1), {kNan, kInfinity, -kInfinity}));
    CHECK(close(min(x, 1), {kNan, -kInfinity, -kInfinity}));
    CHECK(close(logsumexp(x, 1), {kNan, kInfinity, -kInfinity}));
    CHECK(close(argmin(x, 1), {1, 2, 0}));
  }
}

TEST_CASE("where all values are equal, the gradients of stddev and norm are 0, and not NaN") {
  for (const bool deviation : {false, true}) {
    Tape tape;
    Tensor x = full({5}, deviation ? 3 : 0);
    tape.watch(x);
    CHECK(close(tape.gradient(deviation ? stddev(x) : norm(x), {x})[0], {0, 0, 0, 0, 0}));
  }
  Tape tape;
  Tensor x = full({2}, -kInfinity), rounded = full({100003}, 0.1);  // whose mean in float32 is not 0.1
  tape.watch(x);
  CHECK(close(tape.gradient(logsumexp(x), {x})[0], {0, 0}));
  Tape another;
  another.watch(rounded);
  CHECK(max(abs(another.gradient(stddev(rounded), {rounded})[0])).item() == 0);
}

TEST_CASE("gradients go to what made the result: infinities, NaN, the one zero of a product") {
  const auto gradient = [](Tensor (*f)(const Tensor&), const Tensor& values) {
    Tape tape;
    Tensor x = values;
    tape.watch(x);
    return tape.gradient(f(x), {x})[0];
  };
  const auto lse = [](const Tensor& x) { return logsumexp(x); };
  const auto largest = [](const Tensor& x) { return max(x); };
  const auto product = [](const Tensor& x) { return prod(x); };
  CHECK(close(gradient(lse, tensor({5, kInfinity})), {0, kNan}));  // exp(x - y), as PyTorch says
  CHECK(close(gradient(largest, tensor({1, kNan})), {0, 1}));
  CHECK(close(gradient(largest, tensor({2, 1, 2})), {0.5, 0, 0.5}));
  CHECK(close(gradient(product, tensor({1e30, 1e30, 1e-30, 0})), {0, 0, 0, 1e30}, kPointwise));
  CHECK(close(gradient(product, tensor({0, 3, 0})), {0, 0, 0}));
}

TEST_CASE("integers are reduced exactly: sums and products in int64, the others in their dtype") {
  const Tensor x = tensor({{200, 100}, {50, 7}}, {uint8});
  CHECK(sum(x).dtype() == int64);
  CHECK(close(sum(x, 0), {250, 107}));
  CHECK(close(sum(x, 1), {300, 57}));
  CHECK(close(prod(x), {7000000}));
  CHECK(max(x).dtype() == uint8);
  CHECK(close(max(x, 0), {200, 100}));
  CHECK(close(min(x, 1), {100, 7}));
  const Tensor big = full({3}, 1LL << 61, {int64});
  CHECK(on_cpu(sum(big.slice(0, 2))).data<int64_t>()[0] == 1LL << 62);
}

TEST_CASE("a long row has the maximum of all of its parts") {
  Tensor x = sample({200003}, float32);
  put(x, 137777, 5);
  put(x, 200002, -5);
  CHECK(max(x).item() == 5);
  CHECK(min(x).item() == -5);
  CHECK(max(x.reshape({1, 200003}), 0).shape() == Shape{200003});
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
    put(x, 150, bad);
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
    CHECK(close(ops::sum_to(wide, from), x * copies, kFloat64));
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
      {"[max] there is nothing to choose from along the axes of [2,0]",
       [=] {
         max(zeros({2, 0}), 1);
       }},
      {"[min] axis 2 is out of range for shape [2,3]", [=] { min(x, 2); }},
      {"[prod] not defined for bfloat16", [=] { prod(x.to(bfloat16)); }},
      {"[any] axis 2 is out of range for shape [2,3]", [=] { any(x, 2); }},
      {"[var] ddof must not be negative or huge, got -1", [=] { var(x, {}, false, -1); }},
      {"[norm] p must be 1, 2 or infinity, got 3", [=] { norm(x, {}, false, 3); }},
      {"[logsumexp] the input must be float32 or float64, got int32", [=] { logsumexp(x.to(int32)); }},
      {"[argmin] axis -1 of [0] is empty", [=] { argmin(zeros({0})); }},
      {"[mean] the input is undefined", [=] { mean({}); }},
      {"[argmax] axis 1 of [2,0] is empty",
       [=] {
         argmax(zeros({2, 0}), 1);
       }},
      {"[argmax] axis 2 is out of range for shape [2,3]", [=] { argmax(x, 2); }},
      {"[argmax] axis -1 is out of range for shape []", [=] { argmax(ones({})); }},
      {"[argmax] not defined for bfloat16", [=] { argmax(x.to(bfloat16)); }},
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
