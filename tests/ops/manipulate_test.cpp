// Values moved and put together, against NumPy's on random shapes, and their gradients.
#include "mica/ops/manipulate.h"

#include "mica/autograd/gradcheck.h"
#include "support/golden.h"
#include "support/wrong_use.h"

using namespace mica;
using namespace mica::test;

namespace {

Axes axes_of(const GoldenCase& c, const std::string& argument = "axes") {
  std::vector<int> axes;
  for (const int64_t axis : c.list(argument)) axes.push_back(static_cast<int>(axis));
  return Axes(std::span<const int>(axes));
}

int axis_of(const GoldenCase& c) { return static_cast<int>(c.number("axis")); }
int64_t count_of(const GoldenCase& c, const std::string& argument) { return static_cast<int64_t>(c.number(argument)); }

std::vector<Range> ranges_of(const GoldenCase& c) {
  std::vector<Range> ranges;
  const std::vector<int64_t> flat = c.list("ranges");
  for (size_t i = 0; i < flat.size(); i += 3) ranges.push_back({flat[i], flat[i + 1], flat[i + 2]});
  return ranges;
}

std::vector<PadWidth> widths_of(const GoldenCase& c) {
  std::vector<PadWidth> widths;
  const std::vector<int64_t> flat = c.list("widths");
  for (size_t i = 0; i < flat.size(); i += 2) widths.push_back({flat[i], flat[i + 1]});
  return widths;
}

PadOptions pad_options_of(const GoldenCase& c) {
  const std::string mode = c.text("mode");
  return {mode == "edge" ? PadMode::edge : mode == "reflect" ? PadMode::reflect : PadMode::constant, c.number("value")};
}

Tensor call(const GoldenCase& c, const Tensors& x) {
  if (c.op == "transpose") return x[0].rank() ? transpose(x[0], axes_of(c)) : transpose(x[0]);
  if (c.op == "concat") return concat(x, axis_of(c));
  if (c.op == "stack") return stack(x, axis_of(c));
  if (c.op == "split") return split(x[0], c.list("sizes"), axis_of(c))[static_cast<size_t>(count_of(c, "index"))];
  if (c.op == "slice") return slice(x[0], ranges_of(c));
  if (c.op == "pad") return pad(x[0], widths_of(c), pad_options_of(c));
  if (c.op == "roll") return roll(x[0], count_of(c, "shift"), axis_of(c));
  if (c.op == "flip") return flip(x[0], axes_of(c));
  if (c.op == "repeat") return repeat(x[0], count_of(c, "count"), axis_of(c));
  if (c.op == "tile") return tile(x[0], c.list("counts"));
  if (c.op == "tril") return tril(x[0], count_of(c, "k"));
  if (c.op == "triu") return triu(x[0], count_of(c, "k"));
  if (c.op == "diagonal")
    return diagonal(x[0], static_cast<int>(c.number("axis1")), static_cast<int>(c.number("axis2")));
  throw std::runtime_error("no test for " + c.op);
}

const Shape kShapes[] = {{1}, {7}, {0}, {3, 5}, {3, 0, 2}, {2, 3, 5}, {1, 2, 1, 3}};

}  // namespace

TEST_CASE("joining, splitting, padding and rearranging are NumPy's, and their gradients PyTorch's") {
  for (const GoldenCase& c : golden("manipulate")) replay(c, kPointwise, [&](const Tensors& x) { return call(c, x); });
}

TEST_CASE("each of them passes a gradient check") {
  for (const Shape& shape : kShapes) {
    CAPTURE(shape);
    const Tensor x = sample(shape), y = sample(shape, float64, 1);
    const auto check = [&](auto f) {
      CHECK(gradcheck([&](const Tensors& t) { return square(f(t)); }, {x, y}) <= 1e-6);
    };
    const int last = shape.rank() - 1;
    check([](const Tensors& t) { return transpose(t[0]) * transpose(t[1]); });
    check([](const Tensors& t) { return concat({t[0], t[1], t[0]}); });
    check([&](const Tensors& t) { return concat({t[1], t[0]}, last); });
    check([](const Tensors& t) { return stack({t[0], t[1]}, -1); });
    check([](const Tensors& t) { return slice(t[0], {{Range::kNone, Range::kNone, -2}}); });
    check([](const Tensors& t) { return slice(t[0] * t[1], {{1, -1}}); });
    check([](const Tensors& t) { return roll(t[0], 2, 0) + t[1]; });
    check([](const Tensors& t) { return flip(t[0]) * t[0]; });
    check([&](const Tensors& t) { return repeat(t[0], 3, last); });
    check([](const Tensors& t) { return tile(t[0], {2, 3}); });
    check([](const Tensors& t) {
      const int64_t n = t[0].dim(0);
      return split(t[0], {n / 2, n - n / 2}, 0)[1] * 2;
    });
  }
}

TEST_CASE("each of them keeps the bits of every dtype") {
  for (const DType dtype : {float32, float64, bfloat16, int32, int64, uint8}) {
    CAPTURE(dtype);
    const Tensor x = counting({3, 4}, float64).to(dtype);
    const auto expected = [&](std::initializer_list<std::initializer_list<double>> rows) {
      return tensor(rows, {float64}).to(dtype);
    };
    CHECK(same_bits(transpose(x), expected({{0, 4, 8}, {1, 5, 9}, {2, 6, 10}, {3, 7, 11}})));
    CHECK(same_bits(slice(x, {{2, 0, -1}, {1, Range::kNone, 2}}), expected({{9, 11}, {5, 7}})));
    CHECK(same_bits(concat({x, x}, 1), tile(x, {1, 2})));
    CHECK(same_bits(pad(slice(x, {{0, 1}, {0, 1}}), {{0, 1}, {1, 0}}, {.value = 7}), expected({{7, 0}, {7, 7}})));
    CHECK(same_bits(triu(x, 1), expected({{0, 1, 2, 3}, {0, 0, 6, 7}, {0, 0, 0, 11}})));
    CHECK(transpose(x).dtype() == dtype);
  }
}

TEST_CASE("a transposition of a large matrix, of any sides, is right at every element") {
  for (const Shape& shape : {Shape{100, 257}, {16, 16}, {17, 33}, {1000, 3}, {3, 1000}, {8, 9}, {7, 8}}) {
    CAPTURE(shape);
    const Tensor x = on_cpu(counting(shape, float32)), y = on_cpu(transpose(counting(shape, float32)));
    int64_t wrong = 0;
    for (int64_t i = 0; i < shape[0]; ++i)
      for (int64_t j = 0; j < shape[1]; ++j)
        wrong += y.data<float>()[j * shape[0] + i] != x.data<float>()[i * shape[1] + j];
    CHECK(wrong == 0);
  }
  const Tensor x = counting({20, 3, 37, 2}, float32);  // columns of tiles, with axes around them
  const Tensor y = transpose(x, {3, 2, 1, 0});
  const std::vector<double> values = doubles(y);
  int64_t wrong = 0;
  for (int64_t i = 0; i < x.elements(); ++i) {
    const int64_t d = i % 2, c = i / 2 % 37, b = i / 74 % 3, a = i / 222;
    wrong += values[static_cast<size_t>(((d * 37 + c) * 3 + b) * 20 + a)] != static_cast<double>(i);
  }
  CHECK(wrong == 0);
  CHECK(same_bits(transpose(y, {3, 2, 1, 0}), x));
}

TEST_CASE("the gradients of two transpositions of a large matrix add up") {
  Tape tape;
  Tensor x = counting({40, 50}, float32);
  tape.watch(x);
  const Tensor w = sample({50, 40}, float32), y = sum(transpose(x) * w) + sum(transpose(x) * w * 2);
  CHECK(close(tape.gradient(y, {x})[0], transpose(w * 3), kPointwise));
}

TEST_CASE("a border around nothing that leaves nothing is on the tape: its gradient is empty") {
  for (const PadMode mode : {PadMode::constant, PadMode::edge, PadMode::reflect}) {
    Tensor x = zeros({0, 3});
    Tape tape;
    tape.watch(x);
    const Tensor y = pad(x, {{0, 0}, {2, 1}}, {.mode = mode});
    CHECK(y.shape() == Shape{0, 6});
    CHECK(tape.gradient(sum(y), {x})[0].shape() == x.shape());
  }
}

TEST_CASE("results that are empty cost nothing, whatever their sides; those that are too large are refused at once") {
  const Tensor none = zeros({int64_t{1} << 40, 0});
  CHECK(transpose(none).shape() == Shape{0, int64_t{1} << 40});
  CHECK(tril(none).shape() == none.shape());
  CHECK(pad(zeros({0, 1}), {{0, 0}, {int64_t{1} << 30, 0}}, {.mode = PadMode::edge}).shape() ==
        Shape{0, (int64_t{1} << 30) + 1});
  check_wrong_use({
      {"[tile] too many elements: 17179869184 times axis 0 of [1073741824,0]",
       [] {
         tile(zeros({1 << 30, 0}), {int64_t{1} << 34, 1});
       }},
      {"[repeat] too many elements: [1099511627775,1024]",
       [] {
         repeat(ones({1, 1024}), (int64_t{1} << 40) - 1, 0);
       }},
      {"[pad] too many elements: [1099511627776,1024]",
       [] {
         pad(ones({1, 1024}), {{(int64_t{1} << 40) - 1, 0}, {0, 0}}, {.mode = PadMode::edge});
       }},
  });
}

TEST_CASE("expand_dims and squeeze are views that undo each other") {
  const Tensor x = counting({2, 3});
  CHECK(expand_dims(x, 0).shape() == Shape{1, 2, 3});
  CHECK(expand_dims(x, 1).shape() == Shape{2, 1, 3});
  CHECK(expand_dims(x, -1).shape() == Shape{2, 3, 1});
  CHECK(squeeze(expand_dims(x, -2), 1).shape() == x.shape());
  CHECK(expand_dims(x, 0).shares_storage_with(x));
}

TEST_CASE("what is joined is a copy: writing to a part leaves the whole alone") {
  Tensor a = ones({2});
  const Tensor joined = concat({a}), tiled = tile(a, {1}), repeated = repeat(a, 1, 0), rolled = roll(a, 0, 0);
  a.fill(5);
  for (const Tensor& y : {joined, tiled, repeated, rolled}) CHECK(close(y, {1, 1}));
}

TEST_CASE("many tensors are joined as few are") {
  Tensors rows;
  for (int i = 0; i < 50; ++i) rows.push_back(full({1, 3}, i));
  Tape tape;
  for (Tensor& row : rows) tape.watch(row);
  const Tensor y = concat(rows);
  CHECK(y.shape() == Shape{50, 3});
  CHECK(y.at({37, 2}) == 37);
  const Tensors gradients = tape.gradient(sum(y * counting({50, 3}, float32)), rows);
  CHECK(close(gradients[49], tensor({{147, 148, 149}}), kExact));
}

TEST_CASE("arguments that do not fit are refused") {
  const Tensor x = ones({2, 3});
  check_wrong_use({
      {"[transpose] each axis must be named once: 1 axes for shape [2,3]", [=] { transpose(x, 0); }},
      {"[transpose] axis 1 is given twice",
       [=] {
         transpose(x, {1, 1});
       }},
      {"[transpose] the tensor is undefined", [=] { transpose({}); }},
      {"[concat] sizes must match but for axis 0: [2,3] and [2,4]",
       [=] {
         concat({x, ones({2, 4})});
       }},
      {"[concat] sizes must match but for axis 0: [2,3] and [3]",
       [=] {
         concat({x, ones({3})});
       }},
      {"[concat] dtypes must match: float32 and int64",
       [=] {
         concat({x, x.to(int64)});
       }},
      {"[concat] there must be at least one tensor", [=] { concat(Tensors{}); }},
      {"[concat] tensor 1 is undefined",
       [=] {
         concat({x, Tensor()});
       }},
      {"[concat] axis 2 is out of range for shape [2,3]",
       [=] {
         concat({x, x}, 2);
       }},
      {"[concat] axis 0 is out of range for shape []",
       [=] {
         concat({Tensor(1), Tensor(2)});
       }},
      {"[stack] shapes must match: [2,3] and [3]",
       [=] {
         stack({x, ones({3})});
       }},
      {"[stack] there is no place 4 for an axis in shape [2,3]",
       [=] {
         stack({x, x}, 4);
       }},
      {"[split] axis 1 of [2,3] cannot be cut into 2 equal parts", [=] { split(x, 2, 1); }},
      {"[split] axis 1 of [2,3] cannot be cut into 0 equal parts", [=] { split(x, int64_t{0}, 1); }},
      {"[split] the parts must add up to axis 1 of [2,3], not to 2",
       [=] {
         split(x, {1, 1}, 1);
       }},
      {"[split] the parts must add up to axis 1 of [2,3], not to more",
       [=] {
         split(x, {2, 2}, 1);
       }},
      {"[split] a part of -1 does not fit axis 1 of [2,3]",
       [=] {
         split(x, {-1, 4}, 1);
       }},
      {"[slice] 3 ranges are too many for shape [2,3]",
       [=] {
         slice(x, {{}, {}, {}});
       }},
      {"[slice] the step of axis 1 must be a number other than 0",
       [=] {
         slice(x, {{}, {0, 1, 0}});
       }},
      {"[pad] there must be one width an axis: 1 for shape [2,3]",
       [=] {
         pad(x, {{1, 1}});
       }},
      {"[pad] widths must not be negative or huge: -1 and 0 of axis 1",
       [=] {
         pad(x, {{0, 0}, {-1, 0}});
       }},
      {"[pad] axis 0 of [2,3] has too few elements for a border of 2",
       [=] {
         pad(x, {{0, 2}, {0, 0}}, {.mode = PadMode::reflect});
       }},
      {"[pad] axis 0 of [0,3] has too few elements for a border of 1",
       [=] {
         pad(zeros({0, 3}), {{0, 1}, {0, 0}}, {.mode = PadMode::edge});
       }},
      {"[roll] axis 2 is out of range for shape [2,3]", [=] { roll(x, 1, 2); }},
      {"[flip] axis -3 is out of range for shape [2,3]", [=] { flip(x, -3); }},
      {"[repeat] the count must not be negative or huge, got -1", [=] { repeat(x, -1, 0); }},
      {"[tile] the count must not be negative or huge, got -2", [=] { tile(x, {-2}); }},
      {"[tile] a tensor has at most 8 axes, got 9 counts",
       [=] {
         tile(x, {1, 1, 1, 1, 1, 1, 1, 1, 2});
       }},
      {"[squeeze] axis 1 must have size 1, shape [2,3]", [=] { squeeze(x, 1); }},
      {"[expand_dims] there is no place -4 for an axis in shape [2,3]", [=] { expand_dims(x, -4); }},
      {"[expand_dims] a tensor has at most 8 axes: [1,1,1,1,1,1,1,1]",
       [=] {
         expand_dims(ones({1, 1, 1, 1, 1, 1, 1, 1}), 0);
       }},
      {"[diagonal] the two axes must differ, got 1 and -1", [=] { diagonal(x, 1, -1); }},
      {"[triu] the input must have at least 2 axes, got [3]", [=] { triu(ones({3})); }},
  });
}
