// The functions of each element. Everything here runs over the lists of scalar.h: a new functor is tested by its line.
#include "mica/ops/elementwise.h"

#include <limits>

#include "mica/autograd/gradcheck.h"
#include "mica/ops/manipulate.h"
#include "support/devices.h"
#include "support/golden.h"
#include "support/wrong_use.h"

using namespace mica;
using namespace mica::test;

namespace {

struct UnaryFunction {
  const char* name;
  Tensor (*op)(const Tensor&);
  double (*exact)(double);
  double low, high;
};
const UnaryFunction kUnary[] = {
#define MICA_LINE(function, Functor)                                                                             \
  {#function, [](const Tensor& x) { return function(x); }, [](double x) { return scalar::Functor::forward(x); }, \
   scalar::Functor::low, scalar::Functor::high},
    MICA_UNARY_OPS(MICA_LINE)
#undef MICA_LINE
};

struct BinaryFunction {
  const char* name;
  Tensor (*op)(const Tensor&, const Tensor&);
  double (*exact)(double, double);
  double low, high;
};
const BinaryFunction kBinary[] = {
#define MICA_LINE(function, Functor)                                           \
  {#function, [](const Tensor& a, const Tensor& b) { return function(a, b); }, \
   [](double a, double b) { return scalar::Functor::forward(a, b); }, scalar::Functor::low, scalar::Functor::high},
    MICA_BINARY_OPS(MICA_LINE)
#undef MICA_LINE
};

// Sizes 0 and 1, odd ones, and more than a vector or a thread's grain.
const Shape kShapes[] = {{}, {1}, {7}, {0}, {3, 0, 2}, {5, 13}, {2, 1, 3, 1, 17}};

struct ShapePair {
  Shape a, b;
};
const ShapePair kBroadcasts[] = {
    {{}, {}},
    {{3, 5}, {3, 5}},
    {{3, 5}, {5}},
    {{5}, {3, 5}},
    {{3, 1}, {1, 5}},
    {{2, 3, 5}, {}},
    {{2, 1, 5}, {3, 1}},
    {{0, 5}, {5}},
    {{1}, {0}},
    {{1, 7}, {1}},
    {{2, 1, 3, 1}, {5, 1, 2}},
    {{1, 1, 1, 1, 1, 1, 1, 3}, {2, 1, 2, 1, 2, 1, 2, 1}},
};

template <class Function>
Tensor values(const Function& f, const Shape& shape, DType dtype, uint64_t seed = 0) {
  return sample(shape, dtype, seed, f.low, f.high);
}

// f of two tensors, element by element, by NumPy's rule and nothing of Mica's.
template <class F>
Tensor naive_broadcast(const Shape& shape, const Tensor& a, const Tensor& b, const F& f) {
  const std::vector<double> p = doubles(a), q = doubles(b);
  std::vector<double> y(static_cast<size_t>(shape.elements()));
  for (size_t i = 0; i < y.size(); ++i) {
    size_t rest = i, at_a = 0, at_b = 0, run_a = 1, run_b = 1;
    for (int axis = 1; axis <= shape.rank(); ++axis) {  // from the last axis to the first
      const size_t index = rest % static_cast<size_t>(shape[-axis]);
      rest /= static_cast<size_t>(shape[-axis]);
      if (axis <= a.rank()) {
        at_a += a.dim(-axis) == 1 ? 0 : index * run_a;
        run_a *= static_cast<size_t>(a.dim(-axis));
      }
      if (axis <= b.rank()) {
        at_b += b.dim(-axis) == 1 ? 0 : index * run_b;
        run_b *= static_cast<size_t>(b.dim(-axis));
      }
    }
    y[i] = f(p[at_a], q[at_b]);
  }
  return tensor(y, shape);
}

Tensor integers(std::initializer_list<int64_t> values, DType dtype) {
  return tensor(std::vector<int64_t>(values), {static_cast<int64_t>(values.size())}).to(dtype);
}

}  // namespace

TEST_CASE("elementwise functions and their gradients are PyTorch's") {
  for (const GoldenCase& c : golden("elementwise")) {
    bool found = false;
    for (const UnaryFunction& f : kUnary)
      if (f.name == c.op) {
        found = true;
        replay(c, kPointwise, [&](const Tensors& x) { return f.op(x[0]); });
      }
    for (const BinaryFunction& f : kBinary)
      if (f.name == c.op) {
        found = true;
        replay(c, kPointwise, [&](const Tensors& x) { return f.op(x[0], x[1]); });
      }
    CAPTURE(c.name);
    CHECK(found);
  }
}

TEST_CASE("each unary function of float32 is the rounding of its float64 one, over its range and far beyond it") {
  for (const UnaryFunction& f : kUnary) {
    CAPTURE(f.name);
    const auto check = [&](double low, double high) {
      const Tensor x = sample({4099}, float32, 1, low, high), y = f.op(x);
      std::vector<double> exact;
      for (const double v : doubles(x)) exact.push_back(static_cast<float>(f.exact(v)));
      CHECK(y.dtype() == float32);
      CHECK(close(y, exact, kPointwise));
      CHECK(close(f.op(x.to(float64)), tensor(exact, {4099}), {1e-6, 1e-6}));
    };
    check(f.low, f.high);
    if (f.low < 0) check(-80, 80);
  }
}

TEST_CASE("each unary function passes a gradient check") {
  for (const UnaryFunction& f : kUnary)
    for (const Shape& shape : kShapes) {
      CAPTURE(f.name);
      CAPTURE(shape);
      CHECK(gradcheck([&](const Tensors& x) { return f.op(x[0]); }, {values(f, shape, float64)}) <= 1e-6);
    }
}

TEST_CASE("each binary function passes a gradient check, broadcast in every way") {
  for (const BinaryFunction& f : kBinary)
    for (const ShapePair& shapes : kBroadcasts) {
      CAPTURE(f.name);
      CAPTURE(shapes.a);
      CAPTURE(shapes.b);
      CHECK(gradcheck([&](const Tensors& x) { return f.op(x[0], x[1]); },
                      {values(f, shapes.a, float64), values(f, shapes.b, float64, 1)}) <= 1e-6);
    }
}

TEST_CASE("a function gives a value the same bits wherever in a tensor it stands") {
  constexpr int64_t kLength = 131;
  const auto check = [](const auto& f, const auto& apply) {
    CAPTURE(f.name);
    for (const DType dtype : {float32, float64}) {
      const Tensor x = values(f, {kLength}, dtype, 2), y = apply(x);
      for (const int64_t offset : {1, 2, 3, 5, 8, 13, 31, 63}) {  // the vectors begin elsewhere
        CAPTURE(offset);
        CHECK(same_bits(apply(x.slice(offset, kLength)), y.slice(offset, kLength)));
      }
      for (int64_t i = 0; i < kLength; i += 10) CHECK(same_bits(apply(x[i]), y[i]));
      CHECK(same_bits(apply(x.slice(0, 1)), y.slice(0, 1)));
    }
  };
  for (const UnaryFunction& f : kUnary) check(f, f.op);
  for (const BinaryFunction& f : kBinary) check(f, [&](const Tensor& x) { return f.op(x, x + 0.25); });
}

TEST_CASE("NaN in, NaN out") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const DType dtype : {float32, float64}) {
    for (const UnaryFunction& f : kUnary) {
      CAPTURE(f.name);
      CHECK(std::isnan(f.op(full({}, nan, {dtype})).item()));
    }
    for (const BinaryFunction& f : kBinary) {
      CAPTURE(f.name);
      const Tensor bad = full({}, nan, {dtype}), good = full({}, 1.5, {dtype});
      CHECK(std::isnan(f.op(bad, good).item()));
      CHECK(std::isnan(f.op(good, bad).item()));
    }
  }
}

TEST_CASE("infinities and zeros go through as the limits say") {
  const double inf = std::numeric_limits<double>::infinity();
  for (const DType dtype : {float32, float64}) {
    const Tensor x = tensor({-inf, -0.0, 0.0, inf}, {dtype});
    CHECK(close(relu(x), {0, 0, 0, inf}));
    CHECK(close(sigmoid(x), {0, 0.5, 0.5, 1}));
    CHECK(close(tanh(x), {-1, 0, 0, 1}));
    CHECK(close(exp(x), {0, 1, 1, inf}));
    CHECK(close(abs(x), {inf, 0, 0, inf}));
    CHECK(close(softplus(x), {0, std::log(2), std::log(2), inf}, kPointwise));
    CHECK(close(1 / x, {0, -inf, inf, 0}));
    CHECK(close(log(x.slice(1, 4)), {-inf, -inf, inf}));
  }
}

TEST_CASE("the cross-entropy of a logit is finite however large it is, and so is its gradient") {
  for (const DType dtype : {float32, float64}) {
    CAPTURE(dtype);
    Tensor logits = tensor({-1e4, 1e4, 1e4, -1e4, 0}, {dtype});
    const Tensor targets = tensor({0, 1, 0, 1, 0.25}, {dtype});
    Tape tape;
    tape.watch(logits);
    const Tensor loss = sigmoid_cross_entropy(logits, targets);
    CHECK(close(loss, {0, 0, 1e4, 1e4, std::log(2)}, kPointwise));
    CHECK(close(tape.gradient(sum(loss), {logits})[0], {0, 0, 1, -1, 0.25}, kPointwise));
  }
}

TEST_CASE("the small cross-entropy of a confident right answer keeps its digits") {
  for (const double logit : {2.0, 8.0, 12.0, 16.0, 30.0}) {
    CAPTURE(logit);
    const double expected = std::log1p(std::exp(-logit));
    CHECK(sigmoid_cross_entropy(tensor({logit}), tensor({1})).item() == doctest::Approx(expected).epsilon(1e-5));
    CHECK(sigmoid_cross_entropy(tensor({-logit}), tensor({0})).item() == doctest::Approx(expected).epsilon(1e-5));
  }
}

TEST_CASE("broadcasting follows NumPy's rule on random shapes of rank 0 to 8") {
  uint64_t state = 1;
  const auto draw = [&](uint64_t n) {  // 0..n-1
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (state >> 33u) % n;
  };
  for (int round = 0; round < 300; ++round) {
    const int rank = static_cast<int>(draw(9));
    int64_t sizes_a[8], sizes_b[8];
    for (int i = 0; i < rank; ++i) {
      const int64_t size = draw(24) == 0 ? 0 : 1 + static_cast<int64_t>(draw(3));
      const uint64_t kind = draw(4);
      sizes_a[i] = kind == 0 ? 1 : size;
      sizes_b[i] = kind == 1 ? 1 : size;
    }
    // Leading axes are left out of one operand.
    const size_t cut = draw(static_cast<uint64_t>(rank) + 1), count = static_cast<size_t>(rank);
    Shape a(std::span<const int64_t>(sizes_a, count)), b(std::span<const int64_t>(sizes_b + cut, count - cut));
    if (draw(2)) std::swap(a, b);
    CAPTURE(a);
    CAPTURE(b);
    const Tensor x = sample(a, float64, 3), y = sample(b, float64, 4);
    const Tensor z = x - y;
    const Shape expected = broadcast("test", a, b);
    REQUIRE(z.shape() == expected);
    CHECK(close(z, naive_broadcast(expected, x, y, [](double p, double q) { return p - q; }), kExact));
    CHECK(
        close(broadcast_to(y, expected), naive_broadcast(expected, x, y, [](double, double q) { return q; }), kExact));
    const Tensor i = (x * 100).to(int32), j = (y * 100).to(int32);
    CHECK(close(i * j, naive_broadcast(expected, i, j, [](double p, double q) { return p * q; }), kExact));
  }
}

TEST_CASE("a number in place of a tensor takes the tensor's dtype") {
  for (const DType dtype : {float32, float64, int32, int64}) {
    const Tensor x = tensor({1, 2, 3}, {dtype});
    CHECK((x + 1).dtype() == dtype);
    CHECK(close(x + 1, {2, 3, 4}));
    CHECK(close(10 - x, {9, 8, 7}));
    CHECK(close(2 * x, {2, 4, 6}));
    CHECK(close(6 / x, {6, 3, 2}));
    CHECK(close(maximum(x, 2), {2, 2, 3}));
    CHECK(close(power(x, 2), {1, 4, 9}));
  }
  CHECK(close(-tensor({1, -2}), {-1, 2}));
}

TEST_CASE("squares of whole numbers are exact, and so is what is raised to 1") {
  for (const DType dtype : {float32, float64}) {
    CAPTURE(dtype);
    const Tensor x = arange(1, 1001, 1, {dtype}), squares = x * x;
    CHECK(close(power(x, 2), squares, kExact));
    CHECK(close(power(x, full({1000}, 2, {dtype})), squares, kExact));
    CHECK(close(power(-x, 2), squares, kExact));
    CHECK(close(power(x, 1), x, kExact));
    CHECK(close(power(x, full({1000}, 1, {dtype})), x, kExact));
  }
}

TEST_CASE("integers wrap around, divide toward negative infinity, and give 0 when divided by 0") {
  for (const DType dtype : {int32, int64}) {
    CAPTURE(dtype);
    const int64_t most = dtype == int32 ? INT32_MAX : INT64_MAX, least = -most - 1;
    const auto same = [&](const Tensor& actual, std::initializer_list<int64_t> expected) {
      CHECK(same_bits(actual, integers(expected, dtype)));
    };
    const Tensor edges = integers({most, least, -1}, dtype), one = integers({1}, dtype), two = integers({2}, dtype);
    same(edges + one, {least, least + 1, 0});
    same(edges - one, {most - 1, most, -2});
    same(edges * two, {-2, 0, -2});
    same(edges / integers({-1}, dtype), {-most, least, 1});
    same(edges / integers({0}, dtype), {0, 0, 0});
    same(integers({7, -7, 7, -7, 6, 0}, dtype) / integers({2, 2, -2, -2, -3, 5}, dtype), {3, -4, -4, 3, -2, 0});
    same(maximum(edges, one), {most, 1, 1});
    same(minimum(edges, one), {1, least, -1});
    same(power(integers({2, -3, 0, 5, 1, -1, -1, 2, 0}, dtype), integers({10, 3, 0, 0, -2, -3, -2, -1, -1}, dtype)),
         {1024, -27, 1, 1, 1, -1, 1, 0, 0});
    same(power(two, integers({dtype == int32 ? 31 : 63}, dtype)), {least});
  }
}

TEST_CASE("ops on integers leave no record") {
  Tape tape;
  Tensor x = tensor({1, 2});
  tape.watch(x);
  const Tensor y = x.to(int32) + 1;
  CHECK(tape.producer(y) == nullptr);
}

TEST_CASE("the larger of two equals shares its gradient with the other") {
  Tape tape;
  Tensor a = tensor({1, 2, 3}), b = tensor({1, 3, 2});
  tape.watch(a);
  tape.watch(b);
  const Tensors d = tape.gradient(sum(maximum(a, b)), {a, b});
  CHECK(close(d[0], {0.5, 0, 1}));
  CHECK(close(d[1], {0.5, 1, 0}));
}

TEST_CASE("elementwise functions refuse what they are not defined for") {
  std::vector<WrongUse> table;
  for (const UnaryFunction& f : kUnary) {
    const std::string op = std::string("[") + f.name + "] ";
    for (const DType dtype : {int32, int64, uint8, bfloat16})
      table.push_back({op + "the input must be float32 or float64, got " + std::string(to_string(dtype)),
                       [=] { f.op(zeros({2}, {dtype})); }});
    table.push_back({op + "the input is undefined", [=] { f.op(Tensor()); }});
  }
  for (const BinaryFunction& f : kBinary) {
    const std::string op = std::string("[") + f.name + "] ";
    table.push_back({op + "the first operand is undefined", [=] { f.op(Tensor(), ones({2})); }});
    table.push_back({op + "the second operand is undefined", [=] { f.op(ones({2}), Tensor()); }});
    table.push_back({op + "dtypes must match: float32 and float64 (the second operand)",
                     [=] { f.op(ones({2}), ones({2}, {float64})); }});
    table.push_back({op + "not defined for uint8", [=] { f.op(ones({2}, {uint8}), ones({2}, {uint8})); }});
    table.push_back({op + "not defined for bfloat16", [=] { f.op(ones({2}, {bfloat16}), ones({2}, {bfloat16})); }});
    table.push_back({op + "shapes do not broadcast: [2,3] and [2]", [=] { f.op(ones({2, 3}), ones({2})); }});
    table.push_back({op + "shapes do not broadcast: [2] and [0]", [=] { f.op(ones({2}), ones({0})); }});
    table.push_back(
        {op + two_devices() + " (the second operand)", [=] { f.op(ones({2}), ones({2}).to(another_device())); }});
  }
  for (const DType dtype : {int32, int64}) {
    const std::string name(to_string(dtype));
    for (size_t i = 0; i < std::size(kBinary); ++i)
      if (!of_integers(static_cast<BinaryOp>(i)))
        table.push_back({std::string("[") + kBinary[i].name + "] not defined for " + name,
                         [=] { kBinary[i].op(ones({2}, {dtype}), ones({2}, {dtype})); }});
    table.push_back({"[scalar] a tensor of " + name + " and 0.5 do not mix: convert the tensor with .to(float32) first",
                     [=] { ones({2}, {dtype}) * 0.5; }});
  }
  check_wrong_use(table);
}
