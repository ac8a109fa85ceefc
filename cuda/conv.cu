// Convolutions and their gradients as products whose operands are windows of images (conv_windows.h). Windows of one
// pixel are plain products; one group for each channel is depthwise.cu's, and up to four channels are conv_few.cu's.
#include "cuda/conv.h"

#include "cuda/conv_windows.h"

namespace mica::kernels::MICA_CUDA_BACKEND {

namespace {

constexpr int64_t kMostPixels = int64_t{1} << 28;  // of one launch: indices of pixels are int

bool is_depthwise(const Conv2DArgs& args) { return args.groups > 1 && args.groups == args.c && args.o > 0; }
bool has_few_channels(const Conv2DArgs& args) {
  return args.groups == 1 && args.c > 0 && args.c <= kFewChannels && args.o > 0;
}

// Whether each result is made of one pixel, the one in its place.
bool is_product(const Conv2DArgs& args) {
  return args.kh == 1 && args.kw == 1 && args.sh == 1 && args.sw == 1 && args.groups == 1 && args.h == args.oh &&
         args.w == args.ow;
}

void check_sizes(const Conv2DArgs& a) {
  check(a.h * a.w <= kMostPixels && a.oh * a.ow <= kMostPixels &&
            (a.kh - 1) * a.dh + a.oh * a.sh + a.pad_top <= kMostPixels &&
            (a.kw - 1) * a.dw + a.ow * a.sw + a.pad_left <= kMostPixels &&
            a.kh * a.kw * at_least(a.c, a.o) <= kMostPixels,
        "conv2d", "the CUDA kernels take images and windows of up to ", kMostPixels, " pixels");
}

// Calls f(first image, arguments for some images), all in one where there are not too many pixels.
template <class F>
void for_images(const Conv2DArgs& args, const F& f) {
  Conv2DArgs some = args;
  // A thread of the direct kernels takes a channel of up to four pixels; others count pixels alone.
  const int64_t channels = is_depthwise(args) || has_few_channels(args) ? at_least<int64_t>(args.o, 8) : 1;
  const int64_t pixels = at_least<int64_t>(1, at_least(args.h * args.w, args.oh * args.ow) * channels);
  const int64_t most = at_least<int64_t>(1, kMostPixels / pixels);
  for (int64_t first = 0; first == 0 || first < args.n; first += most) {
    some.n = at_most(args.n - first, most);
    f(first, some);
  }
}

FastDivide divide_by(int64_t n) { return FastDivide(at_least<int64_t>(1, n)); }

template <class T>
Windows<T> windows_of(const Conv2DArgs& a, const T* x) {
  Windows<T> v;
  v.data = x;
  v.h = to_int(a.h);
  v.w = to_int(a.w);
  v.pixel_stride = a.c;
  v.image_stride = a.h * a.w * a.c;
  v.group_stride = a.c / a.groups;
  v.stride_h = to_int(a.sh);
  v.stride_w = to_int(a.sw);
  v.step_h = to_int(a.dh);
  v.step_w = to_int(a.dw);
  v.image = divide_by(a.oh * a.ow);
  v.line = divide_by(a.ow);
  v.channels = divide_by(a.c / a.groups);
  v.pixels = to_int(a.n * a.oh * a.ow);
  v.packs = keeps_packs<T>(x, a.c, a.c / a.groups);
  return v;
}

Taps taps_of(const Conv2DArgs& a) {
  return {-to_int(a.pad_top), -to_int(a.pad_left), divide_by(a.kw * (a.c / a.groups))};
}

template <class T>
void forward(Context& ctx, const Conv2DArgs& a, const T* x, const T* w, const T* bias, T* y) {
  const int64_t o = a.o / a.groups, depth = a.kh * a.kw * (a.c / a.groups);
  ForwardOperands<T> operands;
  operands.x = windows_of(a, x);
  operands.taps = taps_of(a);
  operands.w = {w, to_int(o), 1, a.o, o, keeps_packs<T>(w, a.o, o)};
  operands.depth = to_int(depth);
  MatrixOutput<T> output;
  output.c = y;
  output.ldc = a.o;
  output.batch_stride = output.bias_stride = o;
  output.bias = bias;
  output.rows = operands.x.pixels;
  output.columns = to_int(o);
  output.packs = keeps_packs<T>(y, a.o, o);
  multiply_tiles(ctx, operands, output, a.activation, depth, a.groups);
}

template <class T>
void gradient_of_filters(Context& ctx, const Conv2DArgs& a, const T* x, const T* dy, T* dw, bool accumulate) {
  const int64_t o = a.o / a.groups;
  FilterGradientOperands<T> operands;
  operands.x = windows_of(a, x);
  operands.taps = taps_of(a);
  operands.dy = {dy, to_int(o), 1, a.o, o, keeps_packs<T>(dy, a.o, o)};
  operands.rows = to_int(a.kh * a.kw * (a.c / a.groups));
  MatrixOutput<T> output;
  output.c = dw;
  output.ldc = a.o;
  output.batch_stride = o;
  output.rows = operands.rows;
  output.columns = to_int(o);
  output.accumulate = accumulate;
  output.packs = keeps_packs<T>(dw, a.o, o);
  multiply_tiles(ctx, operands, output, UnaryOp::identity, operands.x.pixels, a.groups);
}

template <class T>
void gradient_of_input(Context& ctx, const Conv2DArgs& a, const T* w, const T* dy, T* dx, bool accumulate) {
  const int64_t c = a.c / a.groups, o = a.o / a.groups;
  InputGradientOperands<T> operands;
  Phases& phases = operands.phases;
  phases.h = PhaseAxis(a.h, a.kh, a.sh, a.dh, a.pad_top);
  phases.w = PhaseAxis(a.w, a.kw, a.sw, a.dw, a.pad_left);
  phases.count_h = static_cast<unsigned>(phases.h.count());
  phases.count_w = static_cast<unsigned>(phases.w.count());
  const int64_t lines = phases.h.pixels(), columns = phases.w.pixels();
  Windows<T>& v = operands.dy;
  v.data = dy;
  v.h = to_int(a.oh);
  v.w = to_int(a.ow);
  v.pixel_stride = a.o;
  v.image_stride = a.oh * a.ow * a.o;
  v.group_stride = o;
  v.step_h = phases.h.result_step();
  v.step_w = phases.w.result_step();
  v.image = divide_by(lines * columns);
  v.line = divide_by(columns);
  v.channels = divide_by(o);
  v.pixels = to_int(a.n * lines * columns);
  v.packs = keeps_packs<T>(dy, a.o, o);
  operands.w = {w, to_int(c), a.kw * c * a.o, c * a.o, a.o, o, keeps_packs<T>(w, a.o, o)};
  operands.most_taps = phases.w.most_taps();
  operands.most = divide_by(operands.most_taps * o);
  operands.fewer = divide_by((operands.most_taps - 1) * o);
  operands.group_channels = to_int(o);
  const int64_t depth = phases.h.most_taps() * operands.most_taps * o;  // at most
  const auto fill = [&](MatrixOutput<T>& output) {
    output.c = dx;
    output.rows = v.pixels;
    output.columns = to_int(c);
    output.accumulate = accumulate;
    output.packs = keeps_packs<T>(dx, a.c, c);
  };
  if (phases.count_h == 1 && phases.count_w == 1) {
    MatrixOutput<T> output;
    fill(output);
    output.ldc = a.c;
    output.batch_stride = c;
    return multiply_tiles(ctx, operands, output, UnaryOp::identity, depth, a.groups);
  }
  PhaseOutput<T> output;
  fill(output);
  output.phases = phases;
  output.image = v.image;
  output.line = v.line;
  output.image_stride = a.h * a.w * a.c;
  output.row_stride = a.w * a.c;
  output.pixel_stride = a.c;
  output.group_stride = c;
  const int64_t batch = a.groups * phases.count_h * phases.count_w;
  for_tile<T>(output.rows, output.columns, batch, operands.packs() && output.packs, [&](auto tile) {
    using Tile = decltype(tile);
    const TileGrid grid = tile_grid<Tile>(output.rows, output.columns, depth, batch, false);
    launch(tile_kernel<Tile, InputGradientOperands<T>, PhaseOutput<T>>, grid.blocks(), {Tile::kThreads}, 0, ctx.stream,
           operands, output, grid);
  });
}

MatmulArgs product_args(const Conv2DArgs& a) {
  MatmulArgs args;
  args.dtype = a.dtype;
  args.m = a.n * a.h * a.w;
  args.n = a.o;
  args.k = a.c;
  args.lda = a.c;
  args.ldb = args.ldc = a.o;
  return args;
}

}  // namespace

void conv2d(Context& ctx, const Conv2DArgs& args, const void* x, const void* w, const void* bias, void* y) {
  if (args.n * args.oh * args.ow == 0 || args.o == 0) return;
  if (is_product(args)) {
    MatmulArgs product = product_args(args);
    product.bias = bias;
    product.activation = args.activation;
    return matmul(ctx, product, x, w, y);
  }
  check_sizes(args);
  for_float(args.dtype, [&](auto t) {
    using T = decltype(t);
    for_images(args, [&](int64_t first, const Conv2DArgs& some) {
      const T* const images = static_cast<const T*>(x) + first * args.h * args.w * args.c;
      T* const results = static_cast<T*>(y) + first * args.oh * args.ow * args.o;
      if (is_depthwise(args)) return depthwise(ctx, some, images, w, bias, results);
      if (has_few_channels(args)) return few_channels(ctx, some, images, w, bias, results);
      forward(ctx, some, images, static_cast<const T*>(w), static_cast<const T*>(bias), results);
    });
  });
}

void conv2d_gradient(Context& ctx, const Conv2DArgs& args, const void* x, const void* w, const void* dy, void* dx,
                     Write write_dx, void* dw, Write write_dw) {
  if (args.n * args.h * args.w * args.c == 0) dx = nullptr;
  if (args.kh * args.kw * args.c * args.o == 0) dw = nullptr;
  if (is_product(args)) {
    const MatmulArgs product = product_args(args);
    if (dx) {
      MatmulArgs of_x = product;
      of_x.n = of_x.ldc = args.c;
      of_x.k = of_x.lda = args.o;
      of_x.transpose_b = true;
      of_x.write = write_dx;
      matmul(ctx, of_x, dy, w, dx);
    }
    if (dw) {
      MatmulArgs of_w = product;
      of_w.m = args.c;
      of_w.k = product.m;
      of_w.transpose_a = true;
      of_w.write = write_dw;
      matmul(ctx, of_w, x, dy, dw);
    }
    return;
  }
  check_sizes(args);
  for_float(args.dtype, [&](auto t) {
    using T = decltype(t);
    for_images(args, [&](int64_t first, const Conv2DArgs& some) {
      const int64_t begin = first * args.h * args.w * args.c;
      const T* const images = x ? static_cast<const T*>(x) + begin : nullptr;
      const T* const results = static_cast<const T*>(dy) + first * args.oh * args.ow * args.o;
      const Write write = first > 0 ? Write::accumulate : write_dw;
      if (is_depthwise(args)) {
        if (dx) depthwise_gradient_input(ctx, some, results, w, static_cast<T*>(dx) + begin, write_dx);
        if (dw) depthwise_gradient_filter(ctx, some, images, results, dw, write);
        return;
      }
      if (has_few_channels(args)) {
        if (dx) few_channels_gradient_input(ctx, some, results, w, static_cast<T*>(dx) + begin, write_dx);
        if (dw) few_channels_gradient_filter(ctx, some, images, results, dw, write);
        return;
      }
      if (dx)
        gradient_of_input(ctx, some, static_cast<const T*>(w), results, static_cast<T*>(dx) + begin,
                          write_dx == Write::accumulate);
      if (dw) gradient_of_filters(ctx, some, images, results, static_cast<T*>(dw), write == Write::accumulate);
    });
  });
}

}  // namespace mica::kernels::MICA_CUDA_BACKEND
