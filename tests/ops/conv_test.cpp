// Convolution against the definition, written as loops in float64.
#include "mica/ops/conv.h"

#include "mica/autograd/gradcheck.h"
#include "mica/core/memory.h"
#include "mica/ops/reduce.h"
#include "support/devices.h"
#include "support/golden.h"
#include "support/keep_threads.h"
#include "support/wrong_use.h"

using namespace mica;
using namespace mica::test;

namespace {

struct Convolution {
  Shape x, w;  // [N,H,W,C], [KH,KW,C/groups,O]
  Size2 strides = {1, 1};
  Padding padding = Padding::valid;
  Size2 dilation = {1, 1};
  int64_t groups = 1;

  ConvOptions options(UnaryOp activation = UnaryOp::identity) const {
    return {.strides = strides, .padding = padding, .activation = activation, .dilation = dilation, .groups = groups};
  }
};

// How many windows along an axis, and how many zeros before it. Keras's documentation of "same", "valid" and "causal".
std::pair<int64_t, int64_t> windows_along(int64_t size, int64_t window, int64_t stride, Padding padding) {
  if (padding == Padding::valid) return {(size - window) / stride + 1, 0};
  const int64_t count = (size + stride - 1) / stride;
  if (padding == Padding::causal) return {count, window - 1};
  return {count, std::max<int64_t>(0, (count - 1) * stride + window - size) / 2};
}

struct Results {
  Tensor y, dx, dw, db;
};

// y, and the gradients of sum(y * dy).
Results naive(const Convolution& c, const Tensor& x, const Tensor& w, const Tensor& b, const Tensor& dy) {
  const auto [oh, top] = windows_along(c.x[1], (c.w[0] - 1) * c.dilation.h + 1, c.strides.h, c.padding);
  const auto [ow, left] = windows_along(c.x[2], (c.w[1] - 1) * c.dilation.w + 1, c.strides.w, c.padding);
  const int64_t n = c.x[0], h = c.x[1], width = c.x[2], channels = c.x[3], filters = c.w[3];
  const int64_t part = c.w[2], each = filters / c.groups;
  const std::vector<double> X = doubles(x), W = doubles(w), B = doubles(b), DY = doubles(dy);
  std::vector<double> Y(static_cast<size_t>(n * oh * ow * filters)), DX(X.size()), DW(W.size()), DB(B.size());
  for (int64_t i = 0; i < n * oh * ow; ++i) {
    double *y = Y.data() + i * filters, *db = DB.data();
    const double* d = DY.data() + i * filters;
    for (int64_t o = 0; o < filters; ++o) {
      y[o] = B[static_cast<size_t>(o)];
      db[o] += d[o];
    }
    for (int64_t kh = 0; kh < c.w[0]; ++kh)
      for (int64_t kw = 0; kw < c.w[1]; ++kw) {
        const int64_t row = i / ow % oh * c.strides.h - top + kh * c.dilation.h;
        const int64_t column = i % ow * c.strides.w - left + kw * c.dilation.w;
        if (row < 0 || row >= h || column < 0 || column >= width) continue;
        for (int64_t channel = 0; channel < channels; ++channel) {
          const size_t at_x = static_cast<size_t>(((i / (oh * ow) * h + row) * width + column) * channels + channel);
          const size_t at_w = static_cast<size_t>(((kh * c.w[1] + kw) * part + channel % part) * filters);
          const int64_t group = channel / part;
          for (size_t o = static_cast<size_t>(group * each); o < static_cast<size_t>((group + 1) * each); ++o) {
            y[o] += X[at_x] * W[at_w + o];
            DX[at_x] += d[o] * W[at_w + o];
            DW[at_w + o] += d[o] * X[at_x];
          }
        }
      }
  }
  return {tensor(Y, dy.shape()), tensor(DX, x.shape()), tensor(DW, w.shape()), tensor(DB, b.shape())};
}

void check(const Convolution& c) {
  CAPTURE(c.x);
  CAPTURE(c.w);
  CAPTURE(c.strides.h);
  CAPTURE(c.strides.w);
  CAPTURE(static_cast<int>(c.padding));
  CAPTURE(c.dilation.h);
  CAPTURE(c.dilation.w);
  CAPTURE(c.groups);
  for (const DType dtype : {float32, float64}) {
    Tape tape;
    Tensor x = sample(c.x, dtype, 1), w = sample(c.w, dtype, 2), b = sample({c.w[3]}, dtype, 3);
    for (Tensor* t : {&x, &w, &b}) tape.watch(*t);
    const Tensor y = conv2d(x, w, b, c.options());
    const Tensor dy = sample(y.shape(), dtype, 4);
    const Results expected = naive(c, x, w, b, dy);
    const Tensors d = tape.gradient(sum(y * dy), {x, w, b});
    CHECK(close(y, expected.y, sums_tolerance(dtype, expected.y)));
    CHECK(close(d[0], expected.dx, sums_tolerance(dtype, expected.dx)));
    CHECK(close(d[1], expected.dw, sums_tolerance(dtype, expected.dw)));
    CHECK(close(d[2], expected.db, sums_tolerance(dtype, expected.db)));
    for (const bool of_x : {true, false}) {  // and where only one of them is asked for
      Tensor x1 = x.detach(), w1 = w.detach();
      Tensor& operand = of_x ? x1 : w1;
      Tape other;
      other.watch(operand);
      const Tensor& by_itself = of_x ? expected.dx : expected.dw;
      CHECK(close(other.gradient(sum(conv2d(x1, w1, {}, c.options()) * dy), {operand})[0], by_itself,
                  sums_tolerance(dtype, by_itself)));
    }
  }
}

Padding padding_of(const GoldenCase& c) {
  const std::string padding = c.text("padding");
  return padding == "same" ? Padding::same : padding == "causal" ? Padding::causal : Padding::valid;
}

UnaryOp activation_of(const GoldenCase& c) {
  const std::string activation = c.text("activation");
  return activation == "relu"      ? UnaryOp::relu
         : activation == "tanh"    ? UnaryOp::tanh
         : activation == "sigmoid" ? UnaryOp::sigmoid
                                   : UnaryOp::identity;
}

}  // namespace

TEST_CASE("conv2d and its gradients are PyTorch's") {
  for (const GoldenCase& c : golden("conv")) {
    const auto [sh, sw] = c.pair("strides");
    const auto [dh, dw] = c.pair("dilation");
    const ConvOptions options{.strides = {sh, sw},
                              .padding = padding_of(c),
                              .activation = activation_of(c),
                              .dilation = {dh, dw},
                              .groups = static_cast<int64_t>(c.number("groups"))};
    replay(c, kSums, [&](const Tensors& x) { return conv2d(x[0], x[1], x.size() > 2 ? x[2] : Tensor(), options); });
  }
}

TEST_CASE("conv2d is the sum over its windows, for any number of channels and filters") {
  for (const int64_t channels : {1, 3, 5, 33})
    for (const int64_t filters : {1, 10, 16, 33, 64})
      for (const Padding padding : {Padding::valid, Padding::same})
        check({.x = {1, 5, 9, channels}, .w = {3, 3, channels, filters}, .padding = padding});
}

TEST_CASE("conv2d is the sum over its windows, whatever their size, strides and padding") {
  struct Geometry {
    int64_t h, w;
    Size2 kernel, strides;
  };
  const Geometry geometries[] = {
      {6, 7, 1, 1},           {6, 7, 1, {2, 3}}, {6, 7, {6, 7}, 1}, {6, 7, 3, 2},
      {7, 6, {2, 3}, {1, 2}}, {7, 6, {3, 2}, 3}, {9, 8, 2, {3, 4}}, {1, 9, {1, 3}, {1, 2}},
      {9, 1, {3, 1}, 1},      {1, 1, 1, 1},      {5, 31, 5, 1},     {2, 33, {2, 5}, {1, 2}},
  };
  for (const Geometry& g : geometries)
    for (const int64_t n : {0, 1, 3})
      for (const Padding padding : {Padding::valid, Padding::same})
        check({.x = {n, g.h, g.w, 3}, .w = {g.kernel.h, g.kernel.w, 3, 10}, .strides = g.strides, .padding = padding});
  // Larger than the image, which only `same` allows.
  check({.x = {1, 3, 2, 3}, .w = {5, 5, 3, 4}, .padding = Padding::same});
  check({.x = {2, 2, 3, 1}, .w = {7, 4, 1, 16}, .strides = 2, .padding = Padding::same});
}

TEST_CASE("conv2d with dilation skips pixels of its windows, with groups channels, in any combination") {
  struct Parts {
    int64_t channels, filters, groups;
  };
  // One group, some, and one for each channel, with as many filters and with more.
  for (const Parts& p : {Parts{3, 5, 1}, {4, 6, 2}, {34, 34, 2}, {9, 3, 3}, {5, 5, 5}, {33, 33, 33}, {3, 9, 3}})
    for (const Size2 dilation : {Size2(1), Size2(2), Size2(1, 3), Size2(3, 1)})
      for (const Size2 strides : {Size2(1), Size2(2, 1), Size2(3)})
        for (const Padding padding : {Padding::valid, Padding::same, Padding::causal})
          check({.x = {2, 7, 9, p.channels},
                 .w = {3, 2, p.channels / p.groups, p.filters},
                 .strides = strides,
                 .padding = padding,
                 .dilation = dilation,
                 .groups = p.groups});
  // Rows of one pixel and of many, and a window as long.
  for (const int64_t groups : {1, 2, 4})
    for (const int64_t width : {1, 4, 5, 40})
      for (const int64_t kernel : {1, 3, 6})
        check({.x = {1, 2, width, 4},
               .w = {1, kernel, 4 / groups, 4},
               .padding = Padding::same,
               .dilation = {1, 2},
               .groups = groups});
  // No images, no filters, and no pixels.
  for (const int64_t groups : {2, 4}) {
    check({.x = {0, 5, 5, 4}, .w = {3, 3, 4 / groups, 8}, .dilation = 2, .groups = groups});
    check({.x = {2, 5, 5, 4}, .w = {3, 3, 4 / groups, 0}, .dilation = 2, .groups = groups});
    check({.x = {2, 0, 5, 4}, .w = {3, 3, 4 / groups, 8}, .padding = Padding::same, .dilation = 2, .groups = groups});
  }
}

TEST_CASE("conv2d of groups reads no further than its operands, whatever vectors hold") {
  for (const int64_t filters : {8, 16, 32})
    for (const int64_t groups : {2, 4, 8})
      check({.x = {1, 4, 4, 16}, .w = {3, 3, 16 / groups, filters}, .groups = groups});
}

TEST_CASE("conv2d of windows with three values a row, of one channel or of one column, is the sum over its windows") {
  for (const Size2 strides : {Size2(1), Size2(2, 1)})
    for (const int64_t dilation : {1, 2})
      for (const int64_t rows : {2, 3, 5, 7}) {
        check({.x = {2, 16, 9, 1}, .w = {rows, 3, 1, 40}, .strides = strides, .dilation = {dilation, 1}});
        check({.x = {2, 16, 9, 3}, .w = {rows, 1, 3, 8}, .strides = strides, .dilation = {dilation, 1}});
      }
}

TEST_CASE("conv2d: a dilation that leads out of the image costs nothing") {
  for (const int64_t groups : {1, 2, 4})
    for (const int64_t kernel : {2, 3}) {
      const auto before = memory_statistics();
      check({.x = {2, 4, 3, 4},
             .w = {kernel, kernel, 4 / groups, 4},
             .padding = Padding::same,
             .dilation = 1 << 20,
             .groups = groups});
      CHECK(memory_statistics().peak - before.peak < (1 << 20));
    }
  check({.x = {1, 4, 3, 2}, .w = {3, 2, 2, 3}, .padding = Padding::causal, .dilation = 1 << 20});
}

// Where CPU kernels multiply less than once a window (src/cpu/winograd.cpp): windows of 3 by 3 over many channels.
TEST_CASE("conv2d is the sum over its windows, where it is computed by tiles of results") {
  struct Images {
    int64_t n, h, w, channels, filters;
  };
  const Images images[] = {{1, 6, 6, 16, 16},  {2, 13, 13, 32, 64}, {3, 5, 11, 48, 16}, {1, 10, 7, 16, 80},
                           {2, 4, 18, 64, 32}, {5, 9, 8, 32, 16},   {1, 31, 3, 32, 32}, {1, 14, 15, 128, 128}};
  for (const Images& i : images)
    for (const Padding padding : {Padding::valid, Padding::same, Padding::causal})
      for (const int threads : thread_counts({1, 2, 5})) {
        CAPTURE(threads);
        const KeepThreads keep(threads);
        check({.x = {i.n, i.h, i.w, i.channels}, .w = {3, 3, i.channels, i.filters}, .padding = padding});
      }
}

TEST_CASE("conv2d by tiles applies activations and adds to gradients as it does by windows") {
  const Tensor x = sample({2, 7, 9, 32}, float64, 1), w = sample({3, 3, 32, 48}, float64, 2, -0.1, 0.1);
  const Tensor b = sample({48}, float64, 3, 0.1, 0.3);
  const auto results = [&](DType dtype, UnaryOp activation) {
    Tensor x1 = x.to(dtype), w1 = w.to(dtype);
    Tape tape;
    tape.watch(x1);
    tape.watch(w1);
    const Tensor y = conv2d(x1, w1, b.to(dtype), {.activation = activation});
    Tensors all = tape.gradient(sum(y * conv2d(x1, w1, {}, {.padding = Padding::valid})), {x1, w1});
    all.push_back(y);
    return all;
  };
  for (const UnaryOp activation : {UnaryOp::identity, UnaryOp::relu, UnaryOp::tanh, UnaryOp::sigmoid}) {
    CAPTURE(static_cast<int>(activation));
    const Tensors tiles = results(float32, activation), windows = results(float64, activation);
    for (size_t i = 0; i < tiles.size(); ++i) CHECK(close(tiles[i], windows[i], sums_tolerance(float32, windows[i])));
  }
}

TEST_CASE("conv2d by tiles gives an image the same bits by itself, in a batch, and on each run") {
  const KeepThreads keep(3);
  for (const Shape& shape : {Shape{7, 13, 13, 32}, {5, 4, 5, 128}}) {
    const Tensor x = sample(shape, float32, 1), w = sample({3, 3, shape[3], 64}, float32, 2);
    const Tensor y = conv2d(x, w);
    for (int64_t i = 0; i < shape[0]; ++i) CHECK(same_bits(conv2d(x.slice(i, i + 1), w), y.slice(i, i + 1)));
    const auto gradient = [&] {
      Tensor filters = w.clone();
      Tape tape;
      tape.watch(filters);
      return tape.gradient(sum(square(conv2d(x, filters))), {filters})[0];
    };
    CHECK(same_bits(gradient(), gradient()));
  }
}

TEST_CASE("conv2d by tiles: what is not finite reaches all results that it belongs to, and none outside of its tiles") {
  for (const float value : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    Tensor x = ones({1, 14, 14, 16});
    put(x, (6 * 14 + 6) * 16, value);  // its windows begin at 4..6, all in the second tile of four
    const std::vector<double> y = doubles(conv2d(x, full({3, 3, 16, 16}, 0.01)));
    for (int64_t h = 0; h < 12; ++h)
      for (int64_t w = 0; w < 12; ++w) {
        const double result = y[static_cast<size_t>((h * 12 + w) * 16)];
        if (h >= 4 && h <= 6 && w >= 4 && w <= 6) CHECK(!std::isfinite(result));
        if (h / 4 != 1 || w / 4 != 1) CHECK(result == doctest::Approx(1.44));
      }
  }
}

TEST_CASE("conv2d of no channels is the bias, and by no filters is empty") {
  check({.x = {2, 4, 4, 0}, .w = {3, 3, 0, 5}});
  check({.x = {2, 4, 4, 3}, .w = {3, 3, 3, 0}});
  check({.x = {2, 0, 4, 3}, .w = {3, 3, 3, 2}, .padding = Padding::same});
}

TEST_CASE("conv2d with each activation is the activation of conv2d") {
  for (const DType dtype : {float32, float64})
    for (const int64_t filters : {1, 16, 33}) {
      const Tensor x = sample({1, 4, 5, 3}, dtype, 1, 0.1, 0.3), w = sample({2, 2, 3, filters}, dtype, 2, 0.1, 0.3);
      const Tensor b = sample({filters}, dtype, 3, 0.1, 0.3), z = conv2d(x, w, b);
#define MICA_CHECK(function, Functor) \
  CHECK(close(conv2d(x, w, b, {.activation = UnaryOp::function}), function(z), tolerance_of(dtype, kPointwise)));
      MICA_UNARY_OPS(MICA_CHECK)
#undef MICA_CHECK
    }
}

TEST_CASE("conv2d passes a gradient check with and without bias, padding and activation") {
  const Convolution shapes[] = {
      {.x = {1, 1, 1, 1}, .w = {1, 1, 1, 1}},
      {.x = {2, 5, 4, 3}, .w = {3, 3, 3, 2}, .padding = Padding::same},
      {.x = {1, 5, 7, 2}, .w = {2, 3, 2, 3}, .strides = {2, 1}},
      {.x = {1, 3, 3, 1}, .w = {3, 3, 1, 5}},
      {.x = {3, 3, 1, 1}, .w = {3, 1, 1, 1}, .strides = 3, .padding = Padding::same},
      {.x = {0, 3, 3, 2}, .w = {2, 2, 2, 3}},
      {.x = {2, 3, 3, 0}, .w = {2, 2, 0, 3}},
      {.x = {1, 5, 4, 2}, .w = {3, 2, 2, 3}, .padding = Padding::same, .dilation = {2, 3}},
      {.x = {2, 4, 3, 4}, .w = {2, 2, 2, 6}, .groups = 2},
      {.x = {1, 5, 5, 6}, .w = {3, 3, 2, 3}, .strides = 2, .padding = Padding::same, .dilation = 2, .groups = 3},
      {.x = {1, 4, 5, 3}, .w = {3, 3, 1, 3}, .padding = Padding::same, .groups = 3},
      {.x = {2, 5, 4, 2}, .w = {2, 3, 1, 4}, .strides = {2, 1}, .padding = Padding::causal, .groups = 2},
      {.x = {1, 1, 6, 2}, .w = {1, 3, 1, 2}, .padding = Padding::causal, .dilation = 2, .groups = 2},
      {.x = {0, 3, 3, 2}, .w = {2, 2, 1, 2}, .groups = 2},
  };
  for (const Convolution& c : shapes)
    for (const UnaryOp activation : {UnaryOp::identity, UnaryOp::relu, UnaryOp::tanh, UnaryOp::sigmoid}) {
      CAPTURE(c.x);
      CAPTURE(c.w);
      CAPTURE(static_cast<int>(activation));
      const auto f = [&](const Tensors& t) {
        return conv2d(t[0], t[1], t.size() > 2 ? t[2] : Tensor(), c.options(activation));
      };
      const Tensor x = sample(c.x, float64, 1), w = sample(c.w, float64, 2), b = sample({c.w[3]}, float64, 3, 0.1, 1);
      CHECK(gradcheck(f, {x, w, b}) <= 1e-6);
      CHECK(gradcheck(f, {x, w}) <= 1e-6);
    }
}

TEST_CASE("conv2d of operands that are used twice adds both gradients") {
  for (const int64_t groups : {1, 2, 4})
    for (const int64_t filters : {4, 8})
      for (const Size2 strides : {Size2(1), Size2(2)}) {
        CAPTURE(groups);
        CAPTURE(filters);
        CAPTURE(strides.h);
        const auto f = [&](const Tensors& t) {
          const ConvOptions options{.strides = strides, .padding = Padding::same, .groups = groups};
          return conv2d(t[0], t[1], {}, options) * conv2d(t[0], t[1], {}, options);
        };
        CHECK(gradcheck(f, {sample({1, 4, 5, 4}, float64, 1), sample({3, 3, 4 / groups, filters}, float64, 2)}) <=
              1e-6);
      }
  const auto of_itself = [](const Tensors& t) { return conv2d(t[0], t[0], {}, {.padding = Padding::same}); };
  CHECK(gradcheck(of_itself, {sample({3, 3, 2, 2}, float64, 1)}) <= 1e-6);
  const auto transposed = [](const Tensors& t) {
    return conv2d_transpose(t[0], t[1], {}, {.strides = 2}) * conv2d_transpose(t[0], t[1], {}, {.strides = 2});
  };
  CHECK(gradcheck(transposed, {sample({1, 3, 2, 4}, float64, 1), sample({3, 3, 2, 4}, float64, 2)}) <= 1e-6);
}

TEST_CASE("windows: `same` gives ceil(size / stride) of them, with the odd zero at the end") {
  const auto at = [](int64_t size, int64_t window, int64_t stride, Padding padding) {
    const Windows w = windows("test", size, window, stride, padding);
    return std::pair(w.count, w.before);
  };
  using Pair = std::pair<int64_t, int64_t>;
  CHECK(at(28, 3, 1, Padding::same) == Pair(28, 1));
  CHECK(at(28, 2, 1, Padding::same) == Pair(28, 0));
  CHECK(at(5, 3, 2, Padding::same) == Pair(3, 1));
  CHECK(at(6, 3, 2, Padding::same) == Pair(3, 0));
  CHECK(at(4, 1, 3, Padding::same) == Pair(2, 0));
  CHECK(at(2, 5, 1, Padding::same) == Pair(2, 2));
  CHECK(windows("test", 0, 3, 1, Padding::same).count == 0);
  CHECK(at(28, 3, 1, Padding::valid) == Pair(26, 0));
  CHECK(at(28, 28, 5, Padding::valid) == Pair(1, 0));
  CHECK(at(7, 3, 1, Padding::causal) == Pair(7, 2));
  CHECK(at(7, 3, 2, Padding::causal) == Pair(4, 2));
  CHECK(windows("test", 7, 3, 1, Padding::valid, 2).count == 3);
  CHECK(windows("test", 7, 3, 1, Padding::same, 3).before == 3);
  CHECK(windows("test", 7, 3, 1, Padding::causal, 3).before == 6);
  CHECK(at(6, 3, 2, Padding::valid) == Pair(2, 0));
}

TEST_CASE("conv2d refuses operands that do not fit") {
  const Tensor x = ones({2, 5, 4, 3}), w = ones({3, 3, 3, 6});
  const auto strided = [=](Size2 strides) { return [=] { conv2d(x, w, {}, {.strides = strides}); }; };
  const auto dilated = [=](Size2 dilation) { return [=] { conv2d(x, w, {}, {.dilation = dilation}); }; };
  const auto grouped = [=](int64_t groups, Shape filters) {
    return [=] { conv2d(x, ones(filters), {}, {.groups = groups}); };
  };
  check_wrong_use({
      {"[conv2d] the input must be images [N,H,W,C], got [5,4,3]",
       [=] {
         conv2d(ones({5, 4, 3}), w);
       }},
      {"[conv2d] the filter must be [KH,KW,C,O], got [3,3,3]",
       [=] {
         conv2d(x, ones({3, 3, 3}));
       }},
      {"[conv2d] input channels must match the filter's: input [2,5,4,3], filter [3,3,1,6]",
       [=] {
         conv2d(x, ones({3, 3, 1, 6}));
       }},
      {"[conv2d] the bias must have one value for each filter: filter [3,3,3,6], bias [3]",
       [=] { conv2d(x, w, ones({3})); }},
      {"[conv2d] the bias must have one value for each filter: filter [3,3,3,6], bias [1,6]",
       [=] {
         conv2d(x, w, ones({1, 6}));
       }},
      {"[conv2d] the window (6) must not be larger than the input (5) without padding",
       [=] {
         conv2d(x, ones({6, 3, 3, 1}));
       }},
      {"[conv2d] the window (5) must not be larger than the input (4) without padding",
       [=] {
         conv2d(x, ones({3, 5, 3, 1}));
       }},
      {"[conv2d] the window (3) must not be larger than the input (0) without padding",
       [=] {
         conv2d(ones({1, 0, 4, 3}), w);
       }},
      {"[conv2d] the window must be at least 1, got 0",
       [=] {
         conv2d(x, ones({0, 3, 3, 6}));
       }},
      {"[conv2d] the stride must be at least 1, got 0", strided({0, 1})},
      {"[conv2d] the stride must be at least 1, got 0", strided({1, 0})},
      {"[conv2d] the stride must be at least 1, got -2", strided(-2)},
      {"[conv2d] the dilation must be at least 1, got 0", dilated({0, 1})},
      {"[conv2d] the dilation must be at least 1, got -1", dilated({1, -1})},
      {"[conv2d] the dilation must be at most 1048576, got 1048577", dilated((1 << 20) + 1)},
      {"[conv2d] the dilated window (5) must not be larger than the input (4) without padding", dilated(2)},
      {"[conv2d] groups must be at least 1, got 0", grouped(0, {3, 3, 3, 6})},
      {"[conv2d] groups must be at least 1, got -1", grouped(-1, {3, 3, 3, 6})},
      {"[conv2d] groups must divide the channels and the filters: 2 groups, input [2,5,4,3], filter [3,3,3,6]",
       grouped(2, {3, 3, 3, 6})},
      {"[conv2d] groups must divide the channels and the filters: 3 groups, input [2,5,4,3], filter [3,3,1,5]",
       grouped(3, {3, 3, 1, 5})},
      {"[conv2d] groups must divide the channels and the filters: 6 groups, input [2,5,4,3], filter [3,3,1,6]",
       grouped(6, {3, 3, 1, 6})},
      {"[conv2d] a group's input channels must match the filter's: 3 groups, input [2,5,4,3], filter [3,3,3,6]",
       grouped(3, {3, 3, 3, 6})},
      {"[conv2d] the input must be float32 or float64, got uint8", [=] { conv2d(x.to(uint8), w); }},
      {"[conv2d] the input is undefined", [=] { conv2d({}, w); }},
      {"[conv2d] the filter is undefined", [=] { conv2d(x, {}); }},
      {"[conv2d] dtypes must match: float32 and float64 (the filter)", [=] { conv2d(x, w.to(float64)); }},
      {"[conv2d] dtypes must match: float32 and float64 (the bias)", [=] { conv2d(x, w, ones({6}, {float64})); }},
  });
}

TEST_CASE("conv2d_transpose and its gradients are PyTorch's, at Keras's size") {
  for (const GoldenCase& c : golden("conv_transpose")) {
    const auto [sh, sw] = c.pair("strides");
    const auto [dh, dw] = c.pair("dilation");
    const ConvTransposeOptions options{
        .strides = {sh, sw}, .padding = padding_of(c), .activation = activation_of(c), .dilation = {dh, dw}};
    replay(c, kSums,
           [&](const Tensors& x) { return conv2d_transpose(x[0], x[1], x.size() > 2 ? x[2] : Tensor(), options); });
  }
}

TEST_CASE("conv2d_transpose is the gradient of conv2d, to the bit") {
  const std::pair<Shape, Shape> shapes[] = {{{2, 3, 4, 5}, {3, 2, 4, 5}}, {{2, 7, 9, 32}, {3, 3, 16, 32}}};
  for (const Padding padding : {Padding::valid, Padding::same})
    for (const auto& [x_shape, w_shape] : shapes)
      for (const Size2 strides : {Size2(1), Size2(2, 3)}) {
        const Tensor x = sample(x_shape, float32, 1), w = sample(w_shape, float32, 2);
        const Tensor y = conv2d_transpose(x, w, {}, {.strides = strides, .padding = padding});
        Tape tape;
        Tensor image = sample(y.shape(), float32, 3);
        tape.watch(image);
        const Tensor z = conv2d(image, w, {}, {.strides = strides, .padding = padding});
        CHECK(z.shape() == x.shape());
        CHECK(same_bits(y, tape.gradient(sum(z * x), {image})[0]));
      }
}

TEST_CASE("conv2d_transpose passes a gradient check with and without bias and activation") {
  const Convolution shapes[] = {
      {.x = {1, 1, 1, 1}, .w = {1, 1, 1, 1}},
      {.x = {2, 3, 2, 3}, .w = {3, 3, 2, 3}, .strides = 2, .padding = Padding::same},
      {.x = {1, 2, 3, 2}, .w = {2, 3, 3, 2}, .strides = {3, 1}},
      {.x = {1, 3, 3, 1}, .w = {2, 2, 5, 1}, .dilation = {2, 1}},
      {.x = {3, 3, 1, 2}, .w = {1, 1, 1, 2}, .strides = 3, .padding = Padding::same},
      {.x = {0, 3, 3, 2}, .w = {2, 2, 3, 2}},
      {.x = {2, 3, 3, 0}, .w = {2, 2, 3, 0}},
      {.x = {2, 3, 3, 2}, .w = {2, 2, 0, 2}},
  };
  for (const Convolution& c : shapes)
    for (const UnaryOp activation : {UnaryOp::identity, UnaryOp::relu, UnaryOp::tanh, UnaryOp::sin}) {
      CAPTURE(c.x);
      CAPTURE(c.w);
      CAPTURE(static_cast<int>(activation));
      const auto f = [&](const Tensors& t) {
        return conv2d_transpose(
            t[0], t[1], t.size() > 2 ? t[2] : Tensor(),
            {.strides = c.strides, .padding = c.padding, .activation = activation, .dilation = c.dilation});
      };
      const Tensor x = sample(c.x, float64, 1), w = sample(c.w, float64, 2), b = sample({c.w[2]}, float64, 3, 0.1, 1);
      CHECK(gradcheck(f, {x, w, b}) <= 1e-6);
      CHECK(gradcheck(f, {x, w}) <= 1e-6);
    }
}

TEST_CASE("conv2d_transpose refuses operands that do not fit") {
  const Tensor x = ones({2, 5, 4, 3}), w = ones({3, 3, 6, 3});
  const auto with = [=](ConvTransposeOptions options) { return [=] { conv2d_transpose(x, w, {}, options); }; };
  check_wrong_use({
      {"[conv2d_transpose] the input must be images [N,H,W,C], got [5,4,3]",
       [=] {
         conv2d_transpose(ones({5, 4, 3}), w);
       }},
      {"[conv2d_transpose] the filter must be [KH,KW,F,C], got [3,3,3]",
       [=] {
         conv2d_transpose(x, ones({3, 3, 3}));
       }},
      {"[conv2d_transpose] input channels must match the filter's last axis: input [2,5,4,3], filter [3,3,3,6]",
       [=] {
         conv2d_transpose(x, ones({3, 3, 3, 6}));
       }},
      {"[conv2d_transpose] the bias must have one value for each filter: filter [3,3,6,3], bias [3]",
       [=] { conv2d_transpose(x, w, ones({3})); }},
      {"[conv2d_transpose] the padding must be valid or same", with({.padding = Padding::causal})},
      {"[conv2d_transpose] the window must be at least 1, got 0",
       [=] {
         conv2d_transpose(x, ones({3, 0, 6, 3}));
       }},
      {"[conv2d_transpose] the stride must be at least 1, got 0", with({.strides = {1, 0}})},
      {"[conv2d_transpose] the dilation must be at least 1, got 0", with({.dilation = {0, 1}})},
      {"[conv2d_transpose] the images must have pixels, and not be huge, got 0 along one axis",
       [=] {
         conv2d_transpose(ones({2, 0, 4, 3}), w);
       }},
      {"[conv2d_transpose] the input must be float32 or float64, got uint8", [=] { conv2d_transpose(x.to(uint8), w); }},
      {"[conv2d_transpose] the filter is undefined", [=] { conv2d_transpose(x, {}); }},
      {"[conv2d_transpose] dtypes must match: float32 and float64 (the bias)",
       [=] { conv2d_transpose(x, w, ones({6}, {float64})); }},
  });
}
