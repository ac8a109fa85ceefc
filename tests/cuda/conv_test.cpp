// The CUDA convolutions beside the CPU's: what the tests of the ops do not reach, which are sizes that cross
// tiles, each way of reading memory, and every combination of strides, dilation, padding and groups.
#include <doctest/doctest.h>

#include <cmath>

#include "kernels/kernels.h"
#include "mica/core/stream.h"
#include "support/devices.h"
#include "support/pinned.h"

using namespace mica;
using namespace mica::kernels;

namespace {

using test::Pinned;

template <class T>
Pinned<T> numbers(int64_t count, int64_t salt) {
  Pinned<T> values(count);
  for (int64_t i = 0; i < count; ++i) values[i] = static_cast<T>(((i + salt) * 7919 + 13) % 101 - 50) / 32;
  return values;
}

template <class T>
double difference(const Pinned<T>& a, const Pinned<T>& b) {
  double worst = 0;
  for (int64_t i = 0; i < a.size(); ++i) {
    const double d =
        std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])) / (1 + std::abs(static_cast<double>(b[i])));
    worst = d <= worst ? worst : d != d ? HUGE_VAL : d;
  }
  return worst;
}

struct Side {
  int64_t size, window, stride = 1, dilation = 1, pad = 0;
  int64_t count() const { return (size + 2 * pad - (window - 1) * dilation - 1) / stride + 1; }
};

Conv2DArgs conv(DType dtype, int64_t n, Side h, Side w, int64_t c, int64_t o, int64_t groups = 1) {
  return {.dtype = dtype,
          .n = n,
          .h = h.size,
          .w = w.size,
          .c = c,
          .o = o,
          .kh = h.window,
          .kw = w.window,
          .sh = h.stride,
          .sw = w.stride,
          .oh = h.count(),
          .ow = w.count(),
          .pad_top = h.pad,
          .pad_left = w.pad,
          .dh = h.dilation,
          .dw = w.dilation,
          .groups = groups};
}

// `shift` elements from where memory is aligned.
template <class T>
void check_conv(Conv2DArgs args, int64_t shift = 0) {
  args.dtype = dtype_of<T>;
  CAPTURE(args.h);
  CAPTURE(args.w);
  CAPTURE(args.c);
  CAPTURE(args.o);
  CAPTURE(args.kh);
  CAPTURE(args.sh);
  CAPTURE(args.dh);
  CAPTURE(args.groups);
  const int64_t xs = args.n * args.h * args.w * args.c, ws = args.kh * args.kw * args.c / args.groups * args.o,
                ys = args.n * args.oh * args.ow * args.o;
  const Pinned<T> x = numbers<T>(xs + shift, 1), w = numbers<T>(ws + shift, 2), bias = numbers<T>(args.o, 3),
                  dy = numbers<T>(ys + shift, 4);
  const double tolerance = sizeof(T) == 4 ? 1e-4 : 1e-12;
  const auto each_device = [&](const auto& run) {
    Pinned<T> expected;
    test::for_each_device([&](Device device) {
      Context ctx = context(device);
      Pinned<T> y;
      run(ctx, table(device), y);
      synchronize(device);
      if (device == Device::cpu())
        expected = std::move(y);
      else
        CHECK(difference(y, expected) < tolerance);
    });
  };
  for (UnaryOp activation : {UnaryOp::identity, UnaryOp::relu, UnaryOp::tanh}) {
    args.activation = activation;
    each_device([&](Context& ctx, const Table& k, Pinned<T>& y) {
      y = numbers<T>(ys + shift, 5);
      k.conv2d(ctx, args, x.data() + shift, w.data() + shift, activation == UnaryOp::relu ? nullptr : bias.data(),
               y.data() + shift);
    });
  }
  for (Write write : {Write::overwrite, Write::accumulate}) {
    each_device([&](Context& ctx, const Table& k, Pinned<T>& dx) {
      dx = numbers<T>(xs + shift, 6);
      k.conv2d_gradient(ctx, args, nullptr, w.data() + shift, dy.data() + shift, dx.data() + shift, write, nullptr,
                        write);
    });
    each_device([&](Context& ctx, const Table& k, Pinned<T>& dw) {
      dw = numbers<T>(ws + shift, 7);
      k.conv2d_gradient(ctx, args, x.data() + shift, nullptr, dy.data() + shift, nullptr, write, dw.data() + shift,
                        write);
    });
  }
}

}  // namespace

TEST_CASE_TEMPLATE("cuda: convolution: strides, dilation, padding, groups", T, float, double) {
  const Conv2DArgs cases[] = {
      conv(float32, 2, {7, 3, 1, 1, 1}, {9, 3, 1, 1, 1}, 5, 5),
      conv(float32, 2, {7, 3, 2, 1, 1}, {8, 3, 2, 1, 1}, 8, 8),
      conv(float32, 1, {11, 3, 2, 3, 2}, {10, 2, 3, 2, 1}, 6, 4, 2),
      conv(float32, 2, {9, 3, 2, 2, 0}, {9, 3, 4, 2, 3}, 8, 12, 2),  // phases without taps
      conv(float32, 1, {6, 2, 3}, {5, 1, 3}, 8, 4),                  // pixels that no window reads
      conv(float32, 2, {5, 1}, {4, 1}, 8, 6),                        // a product
      conv(float32, 2, {6, 5, 6, 1, 2}, {7, 7, 1, 1, 3}, 7, 36),
      conv(float32, 1, {3, 3, 1, 40, 40}, {3, 3, 1, 50, 50}, 8, 4),  // only the middle taps meet the image
  };
  for (const Conv2DArgs& args : cases) {
    check_conv<T>(args);
    check_conv<T>(args, 1);
  }
}

TEST_CASE_TEMPLATE("cuda: convolution: up to four channels", T, float, double) {
  const Conv2DArgs cases[] = {
      conv(float32, 2, {7, 3, 1, 1, 1}, {9, 3, 1, 1, 1}, 1, 8),
      conv(float32, 3, {11, 3, 1, 1, 0}, {21, 3, 1, 1, 0}, 1, 36),
      conv(float32, 2, {7, 3, 2, 1, 1}, {8, 3, 2, 1, 1}, 3, 16),
      conv(float32, 2, {9, 5, 1, 1, 2}, {9, 5, 1, 1, 2}, 1, 40),
      conv(float32, 1, {11, 3, 2, 3, 2}, {10, 2, 3, 2, 1}, 4, 4),
      conv(float32, 2, {9, 7, 2, 1, 3}, {12, 7, 2, 1, 3}, 3, 5),
      conv(float32, 1, {6, 2, 3}, {5, 1, 3}, 2, 3),  // pixels that no window reads
      conv(float32, 1, {3, 3, 1, 40, 40}, {3, 3, 1, 50, 50}, 4, 1),
  };
  for (const Conv2DArgs& args : cases) {
    check_conv<T>(args);
    check_conv<T>(args, 1);
  }
}

TEST_CASE_TEMPLATE("cuda: convolution: depthwise", T, float, double) {
  const Conv2DArgs cases[] = {
      conv(float32, 2, {7, 3, 1, 1, 1}, {9, 3, 1, 1, 1}, 8, 8, 8),
      conv(float32, 2, {8, 3, 2, 1, 1}, {7, 3, 2, 2, 2}, 36, 36, 36),
      conv(float32, 3, {9, 5, 1, 1, 2}, {9, 5, 1, 1, 2}, 3, 6, 3),  // two results a channel
      conv(float32, 2, {9, 2, 3, 2, 1}, {11, 7, 1, 1, 3}, 5, 5, 5),
  };
  for (const Conv2DArgs& args : cases) {
    check_conv<T>(args);
    check_conv<T>(args, 1);
  }
}

TEST_CASE("cuda: convolution: each tile") {
  check_conv<float>(conv(float32, 3, {20, 3, 1, 1, 1}, {20, 3, 1, 1, 1}, 16, 72));   // 64 x 64, and splits
  check_conv<float>(conv(float32, 1, {6, 3, 1, 1, 1}, {5, 3, 1, 1, 1}, 36, 132));    // 32 x 128
  check_conv<float>(conv(float32, 5, {14, 3, 1, 1, 1}, {14, 3, 1, 1, 1}, 20, 24));   // 128 x 32
  check_conv<float>(conv(float32, 98, {16, 2, 1, 1, 0}, {17, 2, 1, 1, 0}, 8, 132));  // 128 x 128
}

TEST_CASE("cuda: convolution: depthwise of more blocks of channels than a grid has along y") {
  constexpr int64_t kChannels = 32 * 65536;
  const Conv2DArgs args = conv(float32, 1, {1, 1}, {1, 1}, kChannels, kChannels, kChannels);
  const Pinned<float> x = numbers<float>(kChannels, 1), dy = numbers<float>(kChannels, 2);
  test::for_each_device([&](Device device) {
    Context ctx = context(device);
    Pinned<float> dw(kChannels);
    table(device).conv2d_gradient(ctx, args, x.data(), nullptr, dy.data(), nullptr, Write::overwrite, dw.data(),
                                  Write::overwrite);
    synchronize(device);
    int64_t wrong = 0;
    for (int64_t i = 0; i < kChannels; ++i) wrong += dw[i] != x[i] * dy[i];
    CHECK(wrong == 0);
  });
}
