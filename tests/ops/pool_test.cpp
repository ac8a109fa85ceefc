// Pooling against the definition, written as loops in float64.
#include "mica/ops/pool.h"

#include <limits>

#include "mica/autograd/gradcheck.h"
#include "mica/autograd/tape.h"
#include "mica/ops/manipulate.h"
#include "mica/ops/reduce.h"
#include "support/devices.h"
#include "support/golden.h"
#include "support/keep_threads.h"
#include "support/wrong_use.h"

using namespace mica;
using namespace mica::test;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

struct Pooling {
  Shape x;
  Size2 window;
  PoolOptions options = {};
};

// Calls visit(output, inputs) with the flat positions of each window's elements inside of the image, in their order.
template <class F>
Shape for_windows(const Pooling& p, const F& visit) {
  const Size2 strides(p.options.strides.h ? p.options.strides.h : p.window.h,
                      p.options.strides.w ? p.options.strides.w : p.window.w);
  const Windows rows = windows("test", p.x[1], p.window.h, strides.h, p.options.padding);
  const Windows cols = windows("test", p.x[2], p.window.w, strides.w, p.options.padding);
  const Shape y{p.x[0], rows.count, cols.count, p.x[3]};
  for (int64_t i = 0; i < y.elements(); ++i) {
    const int64_t c = i % y[3], ow = i / y[3] % y[2], oh = i / y[3] / y[2] % y[1], n = i / y[3] / y[2] / y[1];
    std::vector<size_t> inside;
    for (int64_t kh = 0; kh < p.window.h; ++kh)
      for (int64_t kw = 0; kw < p.window.w; ++kw) {
        const int64_t h = oh * strides.h - rows.before + kh, w = ow * strides.w - cols.before + kw;
        if (h >= 0 && h < p.x[1] && w >= 0 && w < p.x[2])
          inside.push_back(static_cast<size_t>(((n * p.x[1] + h) * p.x[2] + w) * p.x[3] + c));
      }
    visit(static_cast<size_t>(i), inside);
  }
  return y;
}

// Both poolings of `x` and their gradients against loops. The gradient of a maximum goes to the first of equals.
void check(const Pooling& p, const Tensor& values) {
  CAPTURE(p.x);
  CAPTURE(p.window.h);
  CAPTURE(p.window.w);
  for (const DType dtype : {float32, float64})
    for (const bool maximum : {true, false}) {
      CAPTURE(dtype);
      CAPTURE(maximum);
      Tape tape;
      Tensor x = values.to(dtype);
      tape.watch(x);
      const Tensor y = maximum ? max_pool2d(x, p.window, p.options) : average_pool2d(x, p.window, p.options);
      const Tensor dy = sample(y.shape(), dtype, 9);
      const Tensor dx = tape.gradient(sum(y * dy), {x})[0];

      const std::vector<double> X = doubles(x), DY = doubles(dy);
      std::vector<double> Y(DY.size()), DX(X.size());
      const Shape shape = for_windows(p, [&](size_t out, const std::vector<size_t>& inside) {
        REQUIRE(!inside.empty());
        if (maximum) {
          size_t best = inside[0];
          for (const size_t i : inside)
            if (X[i] > X[best] || (std::isnan(X[i]) && !std::isnan(X[best]))) best = i;
          Y[out] = X[best];
          DX[best] += DY[out];
        } else {
          for (const size_t i : inside) {
            Y[out] += X[i] / static_cast<double>(inside.size());
            DX[i] += DY[out] / static_cast<double>(inside.size());
          }
        }
      });
      REQUIRE(y.shape() == shape);
      CHECK(close(y, Y, tolerance_of(dtype, kPointwise)));
      CHECK(close(dx, DX, tolerance_of(dtype, kPointwise)));
    }
}

void check(const Pooling& p) { check(p, sample(p.x, float32, 7)); }

}  // namespace

TEST_CASE("pooling and its gradients are PyTorch's") {
  for (const GoldenCase& c : golden("pool")) {
    const auto [h, w] = c.pair("pool");
    const auto [sh, sw] = c.pair("strides");
    const Size2 window(h, w);
    const PoolOptions options{{sh, sw}, c.text("padding") == "same" ? Padding::same : Padding::valid};
    replay(c, kPointwise, [&](const Tensors& x) {
      return c.op == "max_pool2d" ? max_pool2d(x[0], window, options) : average_pool2d(x[0], window, options);
    });
  }
}

TEST_CASE("pooling takes the maximum or mean of each window's elements inside of the image") {
  for (const int64_t channels : {1, 2, 7, 8, 16, 17, 33})
    for (const Padding padding : {Padding::valid, Padding::same}) {
      check({{2, 5, 6, channels}, 2, {.padding = padding}});
      check({{1, 5, 5, channels}, 3, {.strides = 1, .padding = padding}});
      check({{1, 6, 5, channels}, {3, 2}, {.strides = {2, 3}, .padding = padding}});
      check({{3, 4, 5, channels}, {4, 5}, {.padding = padding}});
      check({{1, 5, 7, channels}, 1, {.strides = {2, 3}, .padding = padding}});
      check({{0, 4, 4, channels}, 2, {.padding = padding}});
    }
  check({{1, 2, 3, 5}, 5, {.strides = 1, .padding = Padding::same}});
  check({{1, 1, 1, 1}, 1});
  check({{2, 3, 3, 0}, 2});
}

TEST_CASE("strides that are left out are the window's") {
  const Tensor x = sample({1, 6, 9, 2});
  CHECK(max_pool2d(x, {2, 3}).shape() == Shape{1, 3, 3, 2});
  CHECK(average_pool2d(x, {2, 3}, {.strides = {0, 1}}).shape() == Shape{1, 3, 7, 2});
}

TEST_CASE("windows of 256 and more elements remember where each maximum was") {
  for (const Size2 window : {Size2(16, 16), Size2(1, 256), Size2(1, 257), Size2(17, 19), Size2(20, 20)}) {
    const int64_t h = window.h * 2 + 1, w = window.w + 3;
    for (const int64_t channels : {1, 17}) check({{1, h, w, channels}, window, {.strides = {window.h, 2}}});
    // The maximum in the last place of the window.
    Tensor x = zeros({1, window.h, window.w, 1});
    put(x, x.elements() - 1, 1);
    check({x.shape(), window}, x);
  }
}

TEST_CASE("of equals, the first one gets the gradient") {
  for (const int64_t channels : {1, 16, 19}) {
    const Pooling p{{2, 4, 5, channels}, 3, {.strides = 1, .padding = Padding::same}};
    check(p, zeros(p.x));
    check(p, (sample(p.x, float32, 1) * 2).to(int32).to(float32));
    check(p, full(p.x, -kInfinity) * 0 + 1);
  }
}

TEST_CASE("a maximum of NaN is NaN, of minus infinities is minus infinity") {
  for (const int64_t channels : {1, 16, 19})
    for (const DType dtype : {float32, float64}) {
      for (int64_t where = 0; where < 4; ++where) {
        std::vector<double> values(static_cast<size_t>(4 * channels), 5.0);
        for (int64_t c = 0; c < channels; ++c) values[static_cast<size_t>(where * channels + c)] = kNan;
        Tape tape;
        Tensor x = tensor(values, {1, 2, 2, channels}).to(dtype);
        tape.watch(x);
        const Tensor y = max_pool2d(x, 2);
        CHECK(close(y, std::vector<double>(static_cast<size_t>(channels), kNan)));
        const Tensor dx = tape.gradient(sum(y), {x})[0];
        for (int64_t i = 0; i < 4; ++i) CHECK(dx.reshape({4, channels})[i].reshape({channels}).at({0}) == (i == where));
      }
      // Infinities of both signs are no NaN, though their sum is.
      const Tensor x =
          concat({full({1, 2, 1, channels}, -kInfinity, {dtype}), full({1, 2, 1, channels}, kInfinity, {dtype})}, 2);
      CHECK(close(max_pool2d(x, 2), full({1, 1, 1, channels}, kInfinity), kExact));
      const Tensor low = full({1, 3, 3, channels}, -kInfinity, {dtype});
      CHECK(close(max_pool2d(low, 2, {.padding = Padding::same}), full({1, 2, 2, channels}, -kInfinity), kExact));
    }
}

TEST_CASE("pooling passes a gradient check") {
  const Pooling shapes[] = {
      {{1, 1, 1, 1}, 1},
      {{2, 4, 6, 3}, 2},
      {{1, 5, 7, 2}, 3, {.strides = 1, .padding = Padding::same}},
      {{1, 7, 5, 17}, {2, 3}, {.strides = {3, 2}}},
      {{0, 4, 4, 1}, 2},
      {{1, 3, 4, 0}, 2},
      {{1, 2, 3, 1}, 5, {.strides = 1, .padding = Padding::same}},
  };
  for (const Pooling& p : shapes) {
    CAPTURE(p.x);
    // Distinct values, far apart: a difference step never changes which is the largest.
    std::vector<double> values(static_cast<size_t>(p.x.elements()));
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(i * 7919 % 1009) / 1009;
    const Tensor x = tensor(values, p.x);
    CHECK(gradcheck([&](const Tensors& t) { return max_pool2d(t[0], p.window, p.options); }, {x}) <= 1e-6);
    CHECK(gradcheck([&](const Tensors& t) { return average_pool2d(t[0], p.window, p.options); }, {x}) <= 1e-6);
  }
}

TEST_CASE("conv2d_max_pool2d is max_pool2d of conv2d, with its gradients, for any number of images and threads") {
  struct Case {
    Shape x, w;
    Size2 window;
    ConvOptions conv = {};
    PoolOptions pool = {};
  };
  const Case cases[] = {
      {.x = {9, 28, 28, 1}, .w = {3, 3, 1, 32}, .window = 2, .conv = {.activation = UnaryOp::relu}},
      {.x = {40, 13, 13, 16}, .w = {3, 3, 16, 32}, .window = 2, .conv = {.activation = UnaryOp::relu}},
      {.x = {5, 16, 14, 16}, .w = {3, 3, 16, 16}, .window = 2, .pool = {.strides = 3}},
      {.x = {6, 12, 11, 16}, .w = {3, 3, 16, 48}, .window = 3, .pool = {.strides = 2, .padding = Padding::same}},
      {.x = {5, 9, 8, 3}, .w = {2, 3, 3, 7}, .window = {3, 2}, .pool = {.strides = {2, 1}, .padding = Padding::same}},
      {.x = {3, 7, 9, 4}, .w = {3, 3, 2, 6}, .window = 3, .conv = {.activation = UnaryOp::tanh, .groups = 2}},
      {.x = {4, 6, 6, 3}, .w = {3, 3, 1, 3}, .window = 2, .conv = {.activation = UnaryOp::sigmoid, .groups = 3}},
      {.x = {1, 40, 40, 2}, .w = {5, 5, 2, 4}, .window = {17, 16}, .conv = {.padding = Padding::same}},
      {.x = {3, 60, 60, 1}, .w = {3, 3, 1, 8}, .window = 2, .conv = {.activation = UnaryOp::relu}},
      {.x = {0, 6, 6, 3}, .w = {3, 3, 3, 4}, .window = 2},
  };
  for (const Case& c : cases)
    for (const int threads : thread_counts({1, 2, 4}))
      for (const DType dtype : {float32, float64}) {
        CAPTURE(c.x);
        CAPTURE(threads);
        const KeepThreads keep(threads);
        const Shape shape = c.x.tail().with_first(emulated() ? std::min<int64_t>(c.x[0], 5) : c.x[0]);
        const auto run = [&](bool fused) {
          Tensor x = sample(shape, dtype, 1), w = sample(c.w, dtype, 2), b = sample({c.w[3]}, dtype, 3);
          Tape tape;
          for (Tensor* t : {&x, &w, &b}) tape.watch(*t);
          const auto op = [&] {
            return fused ? conv2d_max_pool2d(x, w, b, c.conv, c.window, c.pool)
                         : max_pool2d(conv2d(x, w, b, c.conv), c.window, c.pool);
          };
          const Tensor y = op(), twice = op();  // whose gradients add up
          Tensors all = tape.gradient(sum(y * sample(y.shape(), dtype, 4)) + sum(twice * twice), {x, w, b});
          all.push_back(y);
          return all;
        };
        const Tensors one = run(true), two = run(false);
        for (size_t i = 0; i < one.size(); ++i) CHECK(close(one[i], two[i], sums_tolerance(dtype, two[i])));
      }
}

TEST_CASE("conv2d_max_pool2d of one tensor that is both operands adds both gradients") {
  const auto f = [](const Tensors& t) { return conv2d_max_pool2d(t[0], t[0], {}, {}, 1); };
  CHECK(gradcheck(f, {sample({2, 2, 2, 2}, float64, 1)}) <= 1e-6);
  const Parameter p(sample({2, 2, 2, 2}, float64, 1));
  Tensor x = p.value().clone();
  Tape tape;
  tape.watch(x);
  const Tensor expected = tape.gradient(sum(max_pool2d(conv2d(x, x), 1)), {x})[0];
  for (const int times : {1, 2}) {  // the second time, they add to what is there
    Tape again;
    again.backward(sum(conv2d_max_pool2d(p.tensor(), p.tensor(), {}, {}, 1)));
    CHECK(close(p.gradient(), expected * times, kFloat64));
  }
}

TEST_CASE("conv2d_max_pool2d gives the same bits on each run, and adds to the gradients of parameters") {
  const KeepThreads keep(4);
  const Tensor x = sample({23, 13, 13, 16}, float32, 1);
  const Parameter w(sample({3, 3, 16, 32}, float32, 2)), b(sample({32}, float32, 3));
  const auto backward = [&] {
    Tape tape;
    tape.backward(sum(conv2d_max_pool2d(x, w.tensor(), b.tensor(), {.activation = UnaryOp::relu}, 2)));
  };
  backward();
  const Tensor dw = w.gradient().clone(), db = b.gradient().clone();
  backward();
  CHECK(close(w.gradient(), dw * 2, sums_tolerance(float32, dw)));
  CHECK(close(b.gradient(), db * 2, sums_tolerance(float32, db)));
  w.zero_gradient();
  b.zero_gradient();
  backward();
  CHECK(same_bits(w.gradient(), dw));
  CHECK(same_bits(b.gradient(), db));
}

TEST_CASE("conv2d_max_pool2d passes a gradient check, of each operand by itself, too") {
  for (const UnaryOp activation : {UnaryOp::identity, UnaryOp::relu, UnaryOp::tanh, UnaryOp::square}) {
    CAPTURE(static_cast<int>(activation));
    const Tensor x = sample({2, 6, 7, 2}, float64, 1), w = sample({3, 2, 2, 3}, float64, 2),
                 b = sample({3}, float64, 3, 0.1, 1);
    const ConvOptions options{.activation = activation};
    CHECK(gradcheck([&](const Tensors& t) { return conv2d_max_pool2d(t[0], t[1], t[2], options, 2); }, {x, w, b}) <=
          1e-6);
    CHECK(gradcheck([&](const Tensors& t) { return conv2d_max_pool2d(t[0], w, {}, options, 2); }, {x}) <= 1e-6);
    CHECK(gradcheck([&](const Tensors& t) { return conv2d_max_pool2d(x, t[0], b, options, {2, 3}); }, {w}) <= 1e-6);
    CHECK(gradcheck([&](const Tensors& t) { return conv2d_max_pool2d(x, w, t[0], options, 2); }, {b}) <= 1e-6);
  }
}

TEST_CASE("conv2d_max_pool2d refuses what convolution refuses, and what pooling does") {
  check_wrong_use({
      {"[conv2d] input channels must match the filter's: input [1,4,4,2], filter [3,3,1,2]",
       [] {
         conv2d_max_pool2d(ones({1, 4, 4, 2}), ones({3, 3, 1, 2}), {}, {}, 2);
       }},
      {"[max_pool2d] the window (3) must not be larger than the input (2) without padding",
       [] {
         conv2d_max_pool2d(ones({1, 4, 4, 2}), ones({3, 3, 2, 2}), {}, {}, 3);
       }},
  });
}

TEST_CASE("pooling refuses what is not images, and windows that do not fit") {
  const Tensor x = ones({1, 4, 5, 2});
  std::vector<WrongUse> table;
  const auto add = [&](Tensor (*pool)(const Tensor&, Size2, PoolOptions), const std::string& name) {
    const std::string op = "[" + name + "] ";
    const auto wrong = [&](const std::string& text, const Tensor& input, Size2 window, PoolOptions options = {}) {
      table.push_back({op + text, [=] { pool(input, window, options); }});
    };
    wrong("the input must be images [N,H,W,C], got [4,5]", ones({4, 5}), 2);
    wrong("the input must be float32 or float64, got int32", ones({1, 4, 5, 2}, {int32}), 2);
    wrong("the input is undefined", Tensor(), 2);
    wrong("the window (5) must not be larger than the input (4) without padding", x, 5);
    wrong("the window (6) must not be larger than the input (5) without padding", x, {2, 6});
    wrong("the window must be at least 1, got 0", x, {0, 1});
    wrong("the window must be at least 1, got -1", x, {1, -1}, {.strides = 1});
    wrong("the stride must be at least 1, got -1", x, 2, {.strides = {1, -1}});
  };
  add(max_pool2d, "max_pool2d");
  add(average_pool2d, "average_pool2d");
  check_wrong_use(table);
}
