// CPU convolution with windows of 3 by 3 and no stride, by Winograd's minimal filtering: F(4x4, 3x3) of Lavin and Gray,
// "Fast algorithms for convolutional neural networks", CVPR 2016. A tile of 4 by 4 results takes 36 multiplications for
// each pair of channels in place of 144:
//
//   y = A' (G w G' * B' x B) A      x 6 by 6, w 3 by 3, y 4 by 4; * element by element, summed over input channels
//
// The sums over channels are 36 products of matrices, a row for each tile: those run on register tiles. A, B and G are
// built from interpolation points, here 0, +-3/4, +-3/2 and infinity: their errors are a quarter of those of the usual
// +-1 and +-2, and twice those of a direct sum (after Barabasz et al., "Error analysis and improving the accuracy of
// Winograd convolution for deep neural networks", ACM TOMS 46, 2020). Both gradients are the adjoints of the same three
// maps over the same tiles, so they save as much.
#include "cpu/conv.h"
#include "cpu/tile.h"

namespace mica::kernels::cpu::MICA_CPU_LEVEL {

namespace {

using V = Vector<float>;
using Values = V::Type;
constexpr int kOut = 4, kIn = 6, kPoints = kIn * kIn;
constexpr float kA = 0.75f, kB = 1.5f, kA2 = kA * kA, kB2 = kB * kB;  // the points are 0, +-kA, +-kB, infinity

// The maps, on one row or column of a tile. In the gradients' direction they are transposed.
struct Input {  // B': 6 pixels to 6 points
  static constexpr int kFrom = kIn, kTo = kIn;
  [[gnu::always_inline]] static void map(const Values* d, Values* v) {
    const Values even_a = d[4] - kB2 * d[2], odd_a = kA * (d[3] - kB2 * d[1]);
    const Values even_b = d[4] - kA2 * d[2], odd_b = kB * (d[3] - kA2 * d[1]);
    v[0] = d[4] - (kA2 + kB2) * d[2] + kA2 * kB2 * d[0];
    v[1] = even_a + odd_a;
    v[2] = even_a - odd_a;
    v[3] = even_b + odd_b;
    v[4] = even_b - odd_b;
    v[5] = d[5] - (kA2 + kB2) * d[3] + kA2 * kB2 * d[1];
  }
};
struct InputGradient {  // B
  static constexpr int kFrom = kIn, kTo = kIn;
  [[gnu::always_inline]] static void map(const Values* v, Values* d) {
    const Values even_a = v[1] + v[2], odd_a = kA * (v[1] - v[2]);
    const Values even_b = v[3] + v[4], odd_b = kB * (v[3] - v[4]);
    d[0] = kA2 * kB2 * v[0];
    d[1] = kA2 * kB2 * v[5] - kB2 * odd_a - kA2 * odd_b;
    d[2] = -(kA2 + kB2) * v[0] - kB2 * even_a - kA2 * even_b;
    d[3] = odd_a + odd_b - (kA2 + kB2) * v[5];
    d[4] = v[0] + even_a + even_b;
    d[5] = v[5];
  }
};
struct Output {  // A': 6 points to 4 pixels
  static constexpr int kFrom = kIn, kTo = kOut;
  [[gnu::always_inline]] static void map(const Values* m, Values* y) {
    const Values even_a = m[1] + m[2], odd_a = kA * (m[1] - m[2]);
    const Values even_b = m[3] + m[4], odd_b = kB * (m[3] - m[4]);
    y[0] = m[0] + even_a + even_b;
    y[1] = odd_a + odd_b;
    y[2] = kA2 * even_a + kB2 * even_b;
    y[3] = kA2 * odd_a + kB2 * odd_b + m[5];
  }
};
struct OutputGradient {  // A
  static constexpr int kFrom = kOut, kTo = kIn;
  [[gnu::always_inline]] static void map(const Values* y, Values* m) {
    const Values even_a = y[0] + kA2 * y[2], odd_a = kA * (y[1] + kA2 * y[3]);
    const Values even_b = y[0] + kB2 * y[2], odd_b = kB * (y[1] + kB2 * y[3]);
    m[0] = y[0];
    m[1] = even_a + odd_a;
    m[2] = even_a - odd_a;
    m[3] = even_b + odd_b;
    m[4] = even_b - odd_b;
    m[5] = y[3];
  }
};
// What is common to the values at +-p: 1 / (product of the distances to the other finite points).
constexpr float k0 = 1 / (kA2 * kB2), k1 = 1 / (2 * kA2 * (kA2 - kB2)), k2 = 1 / (2 * kB2 * (kB2 - kA2));
struct Filter {  // G: 3 taps to 6 points
  static constexpr int kFrom = 3, kTo = kIn;
  [[gnu::always_inline]] static void map(const Values* w, Values* u) {
    const Values even_a = k1 * (w[0] + kA2 * w[2]), odd_a = k1 * kA * w[1];
    const Values even_b = k2 * (w[0] + kB2 * w[2]), odd_b = k2 * kB * w[1];
    u[0] = k0 * w[0];
    u[1] = even_a + odd_a;
    u[2] = even_a - odd_a;
    u[3] = even_b + odd_b;
    u[4] = even_b - odd_b;
    u[5] = w[2];
  }
};
struct FilterGradient {  // G'
  static constexpr int kFrom = kIn, kTo = 3;
  [[gnu::always_inline]] static void map(const Values* u, Values* w) {
    const Values even_a = k1 * (u[1] + u[2]), even_b = k2 * (u[3] + u[4]);
    w[0] = k0 * u[0] + even_a + even_b;
    w[1] = k1 * kA * (u[1] - u[2]) + k2 * kB * (u[3] - u[4]);
    w[2] = kA2 * even_a + kB2 * even_b + u[5];
  }
};

// A map in two dimensions, on a vector of channels: columns, then rows. load(i, j) gives a value of the tile, and
// store(i, j, value) takes one of the result.
template <class Map, class Load, class Store>
[[gnu::always_inline]] inline void transform(const Load& load, const Store& store) {
  Values half[Map::kTo][Map::kFrom];
#pragma GCC unroll 6
  for (int j = 0; j < Map::kFrom; ++j) {
    Values from[Map::kFrom], to[Map::kTo];
#pragma GCC unroll 6
    for (int i = 0; i < Map::kFrom; ++i) from[i] = load(i, j);
    Map::map(from, to);
#pragma GCC unroll 6
    for (int i = 0; i < Map::kTo; ++i) half[i][j] = to[i];
  }
#pragma GCC unroll 6
  for (int i = 0; i < Map::kTo; ++i) {
    Values to[Map::kTo];
    Map::map(half[i], to);
#pragma GCC unroll 6
    for (int j = 0; j < Map::kTo; ++j) store(i, j, to[j]);
  }
}

// The tiles of the results of all images, in order.
struct Tiles {
  explicit Tiles(const Conv2DArgs& args)
      : a(args), rows((args.oh + kOut - 1) / kOut), columns((args.ow + kOut - 1) / kOut), each(rows * columns),
        count(args.n * each) {}

  // Where the values of tile t lie in images x [N, height, width, channels], whose first tile begins at (-top, -left);
  // outside of the images, at `outside` [channels].
  template <int kSize, class T>
  void place(int64_t t, T* x, int64_t height, int64_t width, int64_t channels, int64_t top, int64_t left, T* outside,
             T* (&at)[kSize][kSize]) const {
    const int64_t y0 = t % each / columns * kOut - top, x0 = t % columns * kOut - left;
    T* image = x + t / each * height * width * channels;
    for (int i = 0; i < kSize; ++i)
      for (int j = 0; j < kSize; ++j) {
        const bool inside = y0 + i >= 0 && y0 + i < height && x0 + j >= 0 && x0 + j < width;
        at[i][j] = inside ? image + ((y0 + i) * width + x0 + j) * channels : outside;
      }
  }
  // That of the input, and of the results.
  template <class T>
  void input(int64_t t, T* x, T* outside, T* (&at)[kIn][kIn]) const {
    place(t, x, a.h, a.w, a.c, a.pad_top, a.pad_left, outside, at);
  }
  template <class T>
  void output(int64_t t, T* y, T* outside, T* (&at)[kOut][kOut]) const {
    place(t, y, a.oh, a.ow, a.o, 0, 0, outside, at);
  }

  const Conv2DArgs& a;
  int64_t rows, columns, each, count;
};

// An odd number of cache lines: rows at this distance do not fall on each other in the cache.
int64_t odd_lines(int64_t values) { return ((values + 15) / 16 | 1) * 16; }

// The distance from tile to tile of values [points][channels].
int64_t tile_stride(int64_t channels) { return odd_lines(kPoints * channels); }

// Tiles that are worked on at once: their values, of all channels, share the second-level cache with a product's.
int64_t block_of(const Conv2DArgs& args) {
  constexpr int64_t kMost = 384 << 10;
  const int64_t fit = kMost / (kPoints * (args.c + args.o) * static_cast<int64_t>(sizeof(float)));
  return max(1, min(4, fit / kTileRows)) * kTileRows;
}

// A range of filters, of whole panels.
struct Filters {
  int64_t begin, end;
};

// u, the filters at each point. Packed: [points] of pack_columns' [C, O]; else [points][C][O].
void transform_filters(int threads, const Conv2DArgs& args, const float* w, Filters filters, int64_t stride,
                       bool packed, float* u) {
  const int64_t plane = args.c * args.o;
  parallel::ranges(threads, args.c, max(1, kGrain / (32 * args.o)), [&](int64_t first, int64_t last, int) {
    for (int64_t c = first; c < last; ++c)
      for (int64_t o = filters.begin; o < filters.end; o += V::kWidth) {
        const float* from = w + c * args.o + o;
        float* to =
            u + (packed ? (o / kPanel<float> * args.c + c) * kPanel<float> + o % kPanel<float> : c * args.o + o);
        transform<Filter>([&](int i, int j) { return V::load(from + (i * 3 + j) * plane); },
                          [&](int i, int j, Values v) { V::store(to + (i * kIn + j) * stride, v); });
      }
  });
}

// A product for each point: rows are tiles, columns those of `range`, of n.
void multiply_points(int64_t tiles, int64_t k, int64_t n, Filters range, const float* a, const float* packed,
                     int64_t stride, float* c) {
  for (int point = 0; point < kPoints; ++point)
    run_tiles<float>(tiles, range.end - range.begin,
                     {.a = a + point * k,
                      .row_stride = tile_stride(k),
                      .step_stride = 1,
                      .steps = k,
                      .b = packed + point * stride + range.begin * k,
                      .c = c + point * n + range.begin,
                      .ldc = tile_stride(n),
                      .columns = 0},
                     UnaryOp::identity);
}

// How many parts the tiles fall into, of whole units each.
int parts_of(const Context& ctx, const Tiles& tiles, int64_t unit) {
  return static_cast<int>(min(ctx.threads, (tiles.count + unit - 1) / unit));
}

// Scratch of `values` for each part.
size_t room_of(const Context& ctx, const Tiles& tiles, int64_t unit, int64_t values) {
  return static_cast<size_t>(odd_lines(values) * parts_of(ctx, tiles, unit)) * sizeof(float);
}

// Runs body(first tile, last tile, scratch of `values`, part, whether the block is its part's first) for blocks of
// tiles.
template <class Body>
void for_blocks(Context& ctx, const Tiles& tiles, int64_t unit, int64_t values, float* room, const Body& body) {
  const int64_t block = block_of(tiles.a), units = (tiles.count + unit - 1) / unit;
  const int parts = parts_of(ctx, tiles, unit);
  parallel::run(parts, [&](int part) {
    float* scratch = room + odd_lines(values) * part;
    const int64_t begin = units * part / parts * unit, end = min(units * (part + 1) / parts * unit, tiles.count);
    for (int64_t t = begin; t < end; t += block) body(t, min(t + block, end), scratch, part, t == begin);
  });
}

}  // namespace

bool winograd_suits(const Conv2DArgs& args) {
  if (args.dtype != DType::float32 || args.groups != 1 || args.kh != 3 || args.kw != 3) return false;
  if (args.sh != 1 || args.sw != 1 || args.dh != 1 || args.dw != 1 || args.c % 16 || args.o % 16) return false;
  if (args.n == 0 || args.c == 0 || args.o == 0) return false;
  // In multiplications for one image, so that its bits do not depend on the batch: products, and maps as measured. What
  // transforming the filters takes is small where they stay in the cache.
  constexpr double kCache = 4 << 20, kMost = 16 << 20;
  const double c = static_cast<double>(args.c), o = static_cast<double>(args.o);
  const double bytes = kPoints * c * o * sizeof(float);
  const double direct = 9 * c * o * static_cast<double>(args.oh * args.ow);
  const double products = static_cast<double>(Tiles(args).each) * kPoints * (c * o + 6 * c + 4 * o);
  return bytes <= kMost && products + c * o * (bytes <= kCache ? 50 : 1200) < 0.9 * direct;
}

void winograd(Context& ctx, const Conv2DArgs& args, const float* x, const float* w, const float* bias, float* y) {
  const Tiles tiles(args);
  const int64_t block = min(block_of(args), tiles.count), ldv = tile_stride(args.c), ldm = tile_stride(args.o);
  const int64_t stride = odd_lines(packed_bytes<float>(args.c, args.o) / static_cast<int64_t>(sizeof(float)));
  const Workspace transformed = ctx.workspace(static_cast<size_t>(kPoints * stride) * sizeof(float));
  float* u = transformed.as<float>();
  const int64_t values = block * (ldv + ldm) + args.c + args.o;
  const Workspace room = ctx.workspace(room_of(ctx, tiles, 1, values));
  if (ctx.measures()) return;
  const bool relu = args.activation == UnaryOp::relu, activates = !relu && args.activation != UnaryOp::identity;
  const auto convolve = [&](int64_t first, int64_t last, Filters filters, float* scratch) {
    float *v = scratch, *m = v + block * ldv, *zeros = m + block * ldm, *unused = zeros + args.c;
    for (int64_t c = 0; c < args.c; ++c) zeros[c] = 0;
    for (int64_t t = first; t < last; ++t) {
      const float* at[kIn][kIn];
      tiles.input(t, x, static_cast<const float*>(zeros), at);
      for (int64_t c = 0; c < args.c; c += V::kWidth) {
        float* to = v + (t - first) * ldv + c;
        transform<Input>([&](int i, int j) { return V::load(at[i][j] + c); },
                         [&](int i, int j, Values value) { V::store(to + (i * kIn + j) * args.c, value); });
      }
    }
    multiply_points(last - first, args.c, args.o, filters, v, u, stride, m);
    for (int64_t t = first; t < last; ++t) {
      float* at[kOut][kOut];
      tiles.output(t, y, unused, at);
      for (int64_t o = filters.begin; o < filters.end; o += V::kWidth) {
        const float* from = m + (t - first) * ldm + o;
        const Values zero = {}, shift = bias ? V::load(bias + o) : zero;
        transform<Output>([&](int i, int j) { return V::load(from + (i * kIn + j) * args.o); },
                          [&](int i, int j, Values value) {
                            value += shift;
                            V::store(at[i][j] + o, relu ? (value < zero ? zero : value) : value);
                          });
      }
      if (activates)
        for (auto& row : at)
          for (float* pixel : row)
            if (pixel != unused)
              activate(1, filters.end - filters.begin, pixel + filters.begin, args.o, args.activation);
    }
  };
  const int64_t wide = panels<float>(args.o);
  if (tiles.count <= min(16, block) && wide > 1 && ctx.threads > 1) {
    // So few tiles, of one small image, that threads share out the filters: none waits for another's transforms.
    const int parts = static_cast<int>(min(parts_of(ctx, tiles, 1), wide));
    parallel::run(parts, [&](int part) {
      const Filters filters{wide * part / parts * kPanel<float>,
                            min(wide * (part + 1) / parts * kPanel<float>, args.o)};
      transform_filters(1, args, w, filters, stride, true, u);
      convolve(0, tiles.count, filters, room.as<float>() + odd_lines(values) * part);
    });
    return;
  }
  const Filters all{0, args.o};
  transform_filters(ctx.threads, args, w, all, stride, true, u);
  for_blocks(ctx, tiles, 1, values, room.as<float>(),
             [&](int64_t first, int64_t last, float* scratch, int, bool) { convolve(first, last, all, scratch); });
}

void winograd_gradient_input(Context& ctx, const Conv2DArgs& args, const float* dy, const float* w, float* dx,
                             Write write) {
  const Tiles tiles(args);
  const int64_t block = min(block_of(args), tiles.count), ldv = tile_stride(args.c), ldm = tile_stride(args.o);
  const int64_t plane = args.c * args.o;
  const int64_t stride = odd_lines(packed_bytes<float>(args.o, args.c) / static_cast<int64_t>(sizeof(float)));
  const Workspace filters = ctx.workspace(static_cast<size_t>(kPoints * (plane + stride)) * sizeof(float));
  const int64_t values = block * (ldv + ldm) + args.c + args.o, image = args.h * args.w * args.c;
  const Workspace room = ctx.workspace(room_of(ctx, tiles, tiles.each, values));
  if (ctx.measures()) return;
  float *plain = filters.as<float>(), *u = plain + kPoints * plane;
  transform_filters(ctx.threads, args, w, {0, args.o}, plane, false, plain);
  for (int point = 0; point < kPoints; ++point)
    pack_columns(args.o, args.c, plain + point * plane, args.o, true, u + point * stride);
  // Tiles of an image overlap in dx: one part adds them all.
  for_blocks(ctx, tiles, tiles.each, values, room.as<float>(),
             [&](int64_t first, int64_t last, float* scratch, int, bool) {
               float *v = scratch, *m = v + block * ldv, *unused = m + block * ldm, *zeros = unused + args.c;
               for (int64_t i = 0; i < args.c + args.o; ++i) unused[i] = 0;
               for (int64_t t = first; t < last; ++t) {
                 const float* at[kOut][kOut];
                 tiles.output(t, dy, static_cast<const float*>(zeros), at);
                 for (int64_t o = 0; o < args.o; o += V::kWidth) {
                   float* to = m + (t - first) * ldm + o;
                   transform<OutputGradient>(
                       [&](int i, int j) { return V::load(at[i][j] + o); },
                       [&](int i, int j, Values value) { V::store(to + (i * kIn + j) * args.o, value); });
                 }
               }
               multiply_points(last - first, args.o, args.c, {0, args.c}, m, u, stride, v);
               for (int64_t t = first; t < last; ++t) {
                 if (t % tiles.each == 0 && write == Write::overwrite) {
                   float* begin = dx + t / tiles.each * image;
                   for (int64_t i = 0; i < image; ++i) begin[i] = 0;
                 }
                 float* at[kIn][kIn];
                 tiles.input(t, dx, unused, at);
                 for (int64_t c = 0; c < args.c; c += V::kWidth) {
                   const float* from = v + (t - first) * ldv + c;
                   transform<InputGradient>(
                       [&](int i, int j) { return V::load(from + (i * kIn + j) * args.c); },
                       [&](int i, int j, Values value) { V::store(at[i][j] + c, V::load(at[i][j] + c) + value); });
                 }
               }
             });
}

void winograd_gradient_filter(Context& ctx, const Conv2DArgs& args, const float* x, const float* dy, float* dw,
                              Write write) {
  const Tiles tiles(args);
  const int64_t block = min(block_of(args), tiles.count), ldv = tile_stride(args.c);
  const int64_t plane = args.c * args.o, wide = panels<float>(args.o) * kPanel<float>, stride = odd_lines(block * wide);
  constexpr int64_t kUnit = 4 * kTileRows;  // tiles that are worth sums of their own
  const int parts = parts_of(ctx, tiles, kUnit);
  const Workspace sums = ctx.workspace(static_cast<size_t>(parts * kPoints * plane) * sizeof(float));
  float* du = sums.as<float>();
  const int64_t values = block * ldv + kPoints * stride + args.c + args.o;
  const Workspace room = ctx.workspace(room_of(ctx, tiles, kUnit, values));
  if (ctx.measures()) return;
  for_blocks(ctx, tiles, kUnit, values, room.as<float>(),
             [&](int64_t first, int64_t last, float* scratch, int part, bool starts) {
               float *v = scratch, *m = v + block * ldv, *zeros = m + kPoints * stride;
               const int64_t count = last - first;
               for (int64_t i = 0; i < args.c + args.o; ++i) zeros[i] = 0;
               for (int64_t t = first; t < last; ++t) {
                 const float *in[kIn][kIn], *out[kOut][kOut];
                 tiles.input(t, x, static_cast<const float*>(zeros), in);
                 tiles.output(t, dy, static_cast<const float*>(zeros), out);
                 for (int64_t c = 0; c < args.c; c += V::kWidth) {
                   float* to = v + (t - first) * ldv + c;
                   transform<Input>([&](int i, int j) { return V::load(in[i][j] + c); },
                                    [&](int i, int j, Values value) { V::store(to + (i * kIn + j) * args.c, value); });
                 }
                 for (int64_t o = 0; o < args.o; o += V::kWidth) {
                   float* to = m + (o / kPanel<float> * count + t - first) * kPanel<float> + o % kPanel<float>;
                   transform<OutputGradient>(
                       [&](int i, int j) { return V::load(out[i][j] + o); },
                       [&](int i, int j, Values value) { V::store(to + (i * kIn + j) * stride, value); });
                 }
               }
               for (int point = 0; point < kPoints; ++point)
                 run_tiles<float>(args.c, args.o,
                                  {.a = v + point * args.c,
                                   .row_stride = 1,
                                   .step_stride = ldv,
                                   .steps = count,
                                   .b = m + point * stride,
                                   .c = du + (part * kPoints + point) * plane,
                                   .ldc = args.o,
                                   .columns = 0,
                                   .accumulate = !starts},
                                  UnaryOp::identity);
             });
  parallel::ranges(ctx.threads, args.c, max(1, kGrain / (32 * args.o)), [&](int64_t first, int64_t last, int) {
    for (int64_t i = first * args.o; i < last * args.o; i += V::kWidth)
      transform<FilterGradient>(
          [&](int r, int s) {
            const float* at = du + (r * kIn + s) * plane + i;
            Values sum = V::load(at);
            for (int part = 1; part < parts; ++part) sum += V::load(at + part * kPoints * plane);
            return sum;
          },
          [&](int r, int s, Values value) {
            float* at = dw + (r * 3 + s) * plane + i;
            V::store(at, write == Write::accumulate ? V::load(at) + value : value);
          });
  });
}

}  // namespace mica::kernels::cpu::MICA_CPU_LEVEL
