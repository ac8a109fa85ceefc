// Elements by their positions, against NumPy's on random shapes, and their gradients.
#include "mica/ops/index.h"

#include <algorithm>
#include <limits>

#include "mica/autograd/gradcheck.h"
#include "support/golden.h"
#include "support/wrong_use.h"

using namespace mica;
using namespace mica::test;

namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

Tensor call(const GoldenCase& c, const Tensors& x) {
  const int axis = static_cast<int>(c.number("axis"));
  if (c.op == "take") return take(x[0], x[1], axis);
  if (c.op == "gather") return gather(x[0], x[1], axis);
  if (c.op == "scatter_add") return scatter_add(x[0], x[1], x[2], axis);
  if (c.op == "sort") return sort(x[0], axis, {.descending = c.flag("descending")});
  if (c.op == "top_k") return top_k(x[0], static_cast<int64_t>(c.number("k")), axis).values;
  if (c.op == "cumsum") return cumsum(x[0], axis);
  throw std::runtime_error("no test for " + c.op);
}

Tensor indices(std::initializer_list<int64_t> values, const Shape& shape) {
  return tensor(std::vector<int64_t>(values), shape);
}

}  // namespace

TEST_CASE("take, gather, scatter_add, sort, top_k and cumsum are NumPy's, and their gradients PyTorch's") {
  for (const GoldenCase& c : golden("index")) {
    if (c.op != "argsort") replay(c, kPointwise, [&](const Tensors& x) { return call(c, x); });
  }
}

TEST_CASE("argsort is NumPy's stable one, in either direction, of every dtype") {
  int cases = 0;
  for (const GoldenCase& c : golden("index")) {
    if (c.op != "argsort") continue;
    ++cases;
    CAPTURE(c.name);
    for (const DType dtype : {float32, float64, int32, int64}) {
      const Tensor x = c.input("x", float64).to(dtype);
      const Tensor order = argsort(x, static_cast<int>(c.number("axis")), {.descending = c.flag("descending")});
      CHECK(order.dtype() == int64);
      CHECK(close(order, c.expected("y"), kExact));
    }
  }
  CHECK(cases >= 5);
}

TEST_CASE("each of them passes a gradient check") {
  const Shape shapes[] = {{1}, {7}, {3, 5}, {2, 3, 5}, {4, 1, 3}, {5, 0}};
  for (const Shape& shape : shapes) {
    CAPTURE(shape);
    const Tensor x = sample(shape);
    const Tensor rows = indices({0, -1, 0, 0}, {2, 2});
    CHECK(gradcheck([&](const Tensors& t) { return take(t[0], rows, 0); }, {x}) <= 1e-6);
    CHECK(gradcheck([&](const Tensors& t) { return sort(t[0], 0); }, {x}) <= 1e-6);
    CHECK(gradcheck([&](const Tensors& t) { return top_k(t[0], 1, 0).values; }, {x}) <= 1e-6);
    CHECK(gradcheck([&](const Tensors& t) { return cumsum(t[0], 0) * t[0]; }, {x}) <= 1e-6);
    const Tensor along = argsort(sample(shape, float64, 1), 0);
    CHECK(gradcheck([&](const Tensors& t) { return gather(t[0], along, 0) * t[0]; }, {x}) <= 1e-6);
    const Tensor first = zeros(shape, {int64});
    CHECK(gradcheck([&](const Tensors& t) { return square(scatter_add(t[0], first, t[1], 0)); },
                    {x, sample(shape, float64, 2)}) <= 1e-6);
  }
}

TEST_CASE("an embedding's gradient adds up where a token repeats") {
  Tape tape;
  Tensor table = counting({4, 2}, float32);
  tape.watch(table);
  const Tensor y = embedding(table, indices({3, 1, 3, 3}, {2, 2}));
  CHECK(y.shape() == Shape{2, 2, 2});
  CHECK(close(y[0], tensor({{6, 7}, {2, 3}}), kExact));
  CHECK(close(tape.gradient(sum(y), {table})[0], tensor({{0, 0}, {1, 1}, {0, 0}, {3, 3}}), kExact));
}

TEST_CASE("indices may be of any integer dtype, and pick from tensors of any dtype") {
  for (const DType of_index : {int32, int64, uint8})
    for (const DType dtype : {float32, float64, bfloat16, int32, int64, uint8}) {
      const Tensor x = counting({4, 2}).to(dtype), i = tensor({2, 0}, {of_index});
      CHECK(same_bits(take(x, i), tensor({{4, 5}, {0, 1}}).to(dtype)));
      CHECK(same_bits(take(x, i, 0).slice(0, 1), x.slice(2, 3)));
    }
}

TEST_CASE("NaN sorts behind all others, and before them when the order descends") {
  const Tensor x = tensor({kNan, 2, kNan, -1, 5});
  CHECK(close(sort(x), {-1, 2, 5, kNan, kNan}));
  CHECK(close(sort(x, 0, {.descending = true}), {kNan, kNan, 5, 2, -1}));
  CHECK(close(argsort(x), {3, 1, 4, 0, 2}));
  CHECK(close(top_k(x, 3).indices, {0, 2, 4}));
}

TEST_CASE("a long row is sorted, and the best of it are those of the sorted one, few or many") {
  const Tensor x = sample({2, 10007}, float32);
  const Tensor sorted = sort(x, 1, {.descending = true});
  const std::vector<double> row = doubles(sorted[1]);
  CHECK(std::is_sorted(row.rbegin(), row.rend()));
  CHECK(sum(sorted).item() == doctest::Approx(sum(x).item()).epsilon(1e-4));
  for (const int64_t k : {0, 1, 5, 16, 17, 1000, 10007}) {
    CAPTURE(k);
    const TopK best = top_k(x, k);
    CHECK(best.values.shape() == Shape{2, k});
    CHECK(same_bits(best.values[1], sorted[1].slice(0, k)));
    CHECK(same_bits(gather(x, best.indices, 1), best.values));
  }
}

TEST_CASE("running sums of float32 do not drift, and those of integers are exact") {
  const Tensor x = full({1000003}, 0.1);
  CHECK(cumsum(x, 0).at({1000002}) == doctest::Approx(1000003 * static_cast<double>(0.1f)).epsilon(1e-6));
  CHECK(close(cumsum(tensor({200, 100, 50}, {uint8}), 0), {200, 300, 350}));
  CHECK(cumsum(tensor({1}, {int32}), 0).dtype() == int64);
}

TEST_CASE("of very many rows without elements there is nothing to do") {
  const Tensor x = zeros({int64_t{1} << 40, 0});
  CHECK(take(x, zeros({2}, {int64})).shape() == Shape{2, 0});
  CHECK(take(x, zeros({0}, {int64}), 1).shape() == x.shape());
  CHECK(argsort(x).shape() == x.shape());
  CHECK(cumsum(x, 1).shape() == x.shape());
  CHECK(cumsum(x, 0).shape() == x.shape());
  CHECK(scatter_add(x, zeros({0, 0}, {int64}), zeros({0, 0}), 0).shape() == x.shape());
  CHECK(eye(int64_t{1} << 40, 0).shape() == x.shape());
}

TEST_CASE("positions that are not there are refused") {
  const Tensor x = ones({2, 3});
  check_wrong_use({
      {"[take] index 2 at position 1 is outside of -2..1",
       [=] {
         take(x, indices({0, 2}, {2}));
       }},
      {"[take] index -3 at position 0 is outside of -2..1", [=] { take(x, indices({-3}, {1})); }},
      {"[take] index 0 at position 0 is outside of 0..-1", [=] { take(zeros({0}), indices({0}, {1})); }},
      {"[take] indices must be integers, got float32", [=] { take(x, ones({1})); }},
      {"[take] axis 2 is out of range for shape [2,3]", [=] { take(x, indices({0}, {1}), 2); }},
      {"[take] the indices are undefined", [=] { take(x, {}); }},
      {"[take] the result would have more than 8 axes: [2,3] and indices [1,1,1,1,1,1,1,1]",
       [=] {
         take(x, zeros({1, 1, 1, 1, 1, 1, 1, 1}, {int64}));
       }},
      {"[gather] indices must have the input's shape but for axis 1: [2,3] and [3,3]",
       [=] {
         gather(x, zeros({3, 3}, {int64}), 1);
       }},
      {"[gather] index 3 at position 0 is outside of -3..2",
       [=] {
         gather(x, indices({3, 0}, {2, 1}), 1);
       }},
      {"[scatter_add] updates must have the indices' shape: [2,3] and [2,1]",
       [=] {
         scatter_add(x, zeros({2, 1}, {int64}), x, 1);
       }},
      {"[scatter_add] the input must be float32 or float64, got int64",
       [=] {
         scatter_add(x.to(int64), zeros({2, 1}, {int64}), x, 1);
       }},
      {"[embedding] token -1 at position 1 is outside of 0..1",
       [=] {
         embedding(x, indices({0, -1}, {2}));
       }},
      {"[embedding] the table must be [tokens, size], got [3]", [=] { embedding(ones({3}), indices({0}, {1})); }},
      {"[top_k] there are no 4 elements along axis -1 of [2,3]", [=] { top_k(x, 4); }},
      {"[top_k] there are no -1 elements along axis -1 of [2,3]", [=] { top_k(x, -1); }},
      {"[sort] axis 0 is out of range for shape []", [=] { sort(Tensor(1), 0); }},
      {"[argsort] not defined for bfloat16", [=] { argsort(x.to(bfloat16)); }},
      {"[cumsum] axis 5 is out of range for shape [2,3]", [=] { cumsum(x, 5); }},
  });
}
