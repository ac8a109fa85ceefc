// CPU convolution with windows of 3 by 3 and no stride, by Winograd's minimal filtering: F(4x4, 3x3) of Lavin and Gray,
// "Fast algorithms for convolutional neural networks", CVPR 2016. A tile of 4 by 4 results takes 36 multiplications for
// each pair of channels in place of 144:
//
//   y = A' (G w G' * B' x B) A      x 6 by 6, w 3 by 3, y 4 by 4; * element by element, summed over input channels
//
// What four does not divide ends in a smaller tile, which takes fewer of the same points (winograd_maps.h): ten
// results in a row are 4 + 4 + 2, by 6 + 6 + 4 multiplications. The sums over channels are a product of matrices for
// each of the 36 points, a row for each tile that takes it: those run on register tiles. Both gradients are the
// adjoints of the same three maps over the same tiles, so they save as much, and share the map of dy.
#include "cpu/conv.h"
#include "cpu/tile.h"
#include "cpu/winograd_maps.h"

namespace mica::kernels::cpu::MICA_CPU_LEVEL {

namespace {

using namespace winograd_maps;
constexpr int kPoints = kIn * kIn;

// A tile of rows by columns results of image n, the first of them at (y, x).
struct Place {
  int64_t n, y, x;
  int rows, columns;
};

// The tiles of the results of all images, in order.
struct Tiles {
  explicit Tiles(const Conv2DArgs& args)
      : a(args), rows((args.oh + kOut - 1) / kOut), columns((args.ow + kOut - 1) / kOut), each(rows * columns),
        count(args.n * each) {}

  Place operator[](int64_t t) const {
    const int64_t y = t % each / columns * kOut, x = t % columns * kOut;
    return {t / each, y, x, static_cast<int>(min(kOut, a.oh - y)), static_cast<int>(min(kOut, a.ow - x))};
  }
  // Points of one image's tiles.
  int64_t points() const { return (a.oh + 2 * rows) * (a.ow + 2 * columns); }

  const Conv2DArgs& a;
  int64_t rows, columns, each, count;
};

// Where the pixels under a tile lie in image x [height, width, channels]; outside of it, at `outside` [channels].
template <class T>
struct Pixels {
  Pixels(const Conv2DArgs& a, const Place& p, T* x, T* outside) {
    const int64_t top = p.y - a.pad_top, left = p.x - a.pad_left;
    if (top >= 0 && left >= 0 && top + p.rows + 2 <= a.h && left + p.columns + 2 <= a.w) {
      T* row = x + (top * a.w + left) * a.c;
      for (int i = 0; i < p.rows + 2; ++i, row += a.w * a.c)
        for (int j = 0; j < p.columns + 2; ++j) at[i][j] = row + j * a.c;
      return;
    }
    for (int i = 0; i < p.rows + 2; ++i)
      for (int j = 0; j < p.columns + 2; ++j) {
        const bool inside = top + i >= 0 && top + i < a.h && left + j >= 0 && left + j < a.w;
        at[i][j] = inside ? x + ((top + i) * a.w + left + j) * a.c : outside;
      }
  }
  T* at[kIn][kIn];
};

// Tiles [first, last) in the order in which their values lie in scratch memory: those of each point in one run. Smaller
// ones are the last of their rows and columns.
class Block {
 public:
  Block(const Tiles& tiles, int64_t first, int64_t last)
      : tiles_(tiles), first_(first), last_(last), rows_(static_cast<int>(tiles.a.oh % kOut)),
        columns_(static_cast<int>(tiles.a.ow % kOut)) {
    for (int64_t t = first; t < last; ++t) ++begin_[kind(tiles[t]) + 1];
    for (int k = 1; k < 5; ++k) begin_[k] += begin_[k - 1];
  }
  // body(place, position) for each tile.
  template <class Body>
  [[gnu::always_inline]] void for_each(const Body& body) const {
    int64_t next[4];
    for (int k = 0; k < 4; ++k) next[k] = begin_[k];
    for (int64_t t = first_; t < last_; ++t) {
      const Place p = tiles_[t];
      body(p, next[kind(p)]++);
    }
  }
  // The positions of the tiles that take point (i, j).
  struct Range {
    int64_t begin, end;
    int64_t count() const { return end - begin; }
  };
  Range of(int i, int j) const {
    const bool whole_rows = rows_ && i >= rows_ + 2, whole_columns = columns_ && j >= columns_ + 2;
    return {begin_[whole_columns ? 1 : 0], begin_[whole_rows ? 2 : whole_columns ? 3 : 4]};
  }

 private:
  static int kind(const Place& p) { return p.rows == kOut ? (p.columns == kOut ? 1 : 0) : (p.columns == kOut ? 2 : 3); }

  const Tiles& tiles_;
  int64_t first_, last_;
  int rows_, columns_;  // of the smaller tiles; 0: there are none
  int64_t begin_[5] = {};
};

// An odd number of cache lines: rows at this distance do not fall on each other in the cache.
int64_t odd_lines(int64_t values) { return ((values + 15) / 16 | 1) * 16; }

// The distance from tile to tile of values [points][channels].
int64_t tile_stride(int64_t channels) { return odd_lines(kPoints * channels); }

// How tiles are shared out: in units of which a part takes whole ones, in groups that a stage sees at once, in blocks
// whose values of all channels share the second-level cache with a product's.
struct Work {
  Work(const Context& ctx, const Tiles& all, int64_t least, bool staged)
      : tiles(all), unit(least), parts(static_cast<int>(min(ctx.threads, (all.count + least - 1) / least))) {
    constexpr int64_t kMost = 512 << 10;
    const Conv2DArgs& a = tiles.a;
    const int64_t fit = kMost / (kPoints * (a.c + a.o) * static_cast<int64_t>(sizeof(float)));
    block = min(max(kTileRows, min(fit, 4 * kTileRows)), tiles.count);
    group = staged ? max(1, block / tiles.each) * tiles.each : block;
    z = staged ? group / tiles.each * a.oh * a.ow * a.o : 0;
    m = block * tile_stride(a.c);
    outside = m + block * tile_stride(a.o);
    values = odd_lines(outside + a.c + z);
  }
  size_t bytes() const { return static_cast<size_t>(values * parts) * sizeof(float); }

  const Tiles& tiles;
  int64_t unit;
  int parts;
  int64_t block, group;
  int64_t m, outside, z, values;  // of a part's scratch: where they begin (z at its end), and what it holds in all
};

// A part's scratch: tiles' values of the input, and of the results, a pixel outside of images, the stage's results.
struct Room {
  Room(const Work& work, float* all, int part)
      : v(all + work.values * part), m(v + work.m), outside(v + work.outside), z(v + work.values - work.z) {}
  void clear_outside(int64_t channels) const {
    for (int64_t c = 0; c < channels; ++c) outside[c] = 0;
  }
  float *v, *m, *outside, *z;
};

// Runs body(block, room, the first image in the stage's results, part, whether the block is its part's first) for all
// tiles, and between them before(first, count, z) and after(first, count, z) for each group of images.
template <class Before, class Body, class After>
void for_blocks(const Work& work, float* room, const Before& before, const Body& body, const After& after) {
  const Tiles& tiles = work.tiles;
  const int64_t units = (tiles.count + work.unit - 1) / work.unit;
  parallel::run(work.parts, [&](int part) {
    const Room r(work, room, part);
    const int64_t begin = units * part / work.parts * work.unit;
    const int64_t end = min(units * (part + 1) / work.parts * work.unit, tiles.count);
    for (int64_t g = begin; g < end; g += work.group) {
      const int64_t last = min(g + work.group, end), image = g / tiles.each;
      before(image, (last - g) / tiles.each, r.z);
      for (int64_t t = g; t < last; t += work.block)
        body(Block(tiles, t, min(t + work.block, last)), r, image, part, t == begin);
      after(image, (last - g) / tiles.each, r.z);
    }
  });
}

// A range of filters, of whole panels.
struct Filters {
  int64_t begin, end;
};

// How far apart the points are of `filters`, packed.
int64_t packed_stride(int64_t c, int64_t filters) {
  return odd_lines(packed_bytes<float>(c, filters) / static_cast<int64_t>(sizeof(float)));
}

// u, these filters at each point. Packed: [points] of pack_columns' [C, filters]; else [points][C][O].
void transform_filters(int threads, const Conv2DArgs& args, const float* w, Filters filters, int64_t stride,
                       bool packed, float* u) {
  const int64_t plane = args.c * args.o;
  parallel::ranges(threads, args.c, max(1, kGrain / (32 * args.o)), [&](int64_t first, int64_t last, int) {
    for (int64_t c = first; c < last; ++c)
      for (int64_t o = filters.begin; o < filters.end; o += V::kWidth) {
        const float* from = w + c * args.o + o;
        const int64_t column = o - filters.begin;
        float* to = u + (packed ? (column / kPanel<float> * args.c + c) * kPanel<float> + column % kPanel<float>
                                : c * args.o + column);
        transform<Filter>([&](int i, int j) { return V::load(from + (i * 3 + j) * plane); },
                          [&](int i, int j, Values v) { V::store(to + (i * kIn + j) * stride, v); });
      }
  });
}

// v, the points of a block's pixels, from images x.
void transform_input(const Conv2DArgs& a, const Block& block, const float* x, const float* zeros, float* v) {
  block.for_each([&](const Place& p, int64_t position) {
    const Pixels<const float> pixels(a, p, x + p.n * a.h * a.w * a.c, zeros);
    for (int64_t c = 0; c < a.c; c += V::kWidth) {
      float* to = v + position * tile_stride(a.c) + c;
      transform<Input>(
          p.rows, p.columns, [&](int i, int j) { return V::load(pixels.at[i][j] + c); },
          [&](int i, int j, Values value) { V::store(to + (i * kIn + j) * a.c, value); });
    }
  });
}

// A product for each point: rows are tiles, columns those of `range`, of n; `packed` holds these.
void multiply_points(const Block& block, int64_t k, int64_t n, Filters range, const float* a, const float* packed,
                     int64_t stride, float* c) {
  for (int point = 0; point < kPoints; ++point) {
    const Block::Range tiles = block.of(point / kIn, point % kIn);
    run_tiles<float>(tiles.count(), range.end - range.begin,
                     {.a = a + tiles.begin * tile_stride(k) + point * k,
                      .row_stride = tile_stride(k),
                      .step_stride = 1,
                      .steps = k,
                      .b = packed + point * stride,
                      .c = c + tiles.begin * tile_stride(n) + point * n + range.begin,
                      .ldc = tile_stride(n),
                      .columns = 0},
                     UnaryOp::identity);
  }
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
  const double products = static_cast<double>(Tiles(args).points()) * (c * o + 6 * c + 4 * o);
  return bytes <= kMost && products + c * o * (bytes <= kCache ? 50 : 1200) < 0.9 * direct;
}

void winograd(Context& ctx, const Conv2DArgs& args, const float* x, const float* w, const float* bias, float* y,
              const Stage<float>* stage) {
  const Tiles tiles(args);
  const Work work(ctx, tiles, stage ? tiles.each : 1, stage);
  // Threads share out the tiles; of one small image, so few, the filters: none waits for another's transforms.
  const int64_t wide = panels<float>(args.o);
  const bool by_filters = !stage && tiles.count <= min(16, work.block) && wide > 1 && ctx.threads > 1;
  const int shares = by_filters ? static_cast<int>(min(work.parts, wide)) : 1;
  const int64_t stride = packed_stride(args.c, min((wide + shares - 1) / shares * kPanel<float>, args.o));
  const Workspace transformed = ctx.workspace(static_cast<size_t>(shares * kPoints * stride) * sizeof(float));
  const Workspace room = ctx.workspace(work.bytes());
  const bool relu = args.activation == UnaryOp::relu, activates = !relu && args.activation != UnaryOp::identity;
  // With u, the filters, to images of which to[0] is image `image`.
  const auto convolve = [&](const Block& block, const Room& r, Filters filters, const float* u, int64_t image,
                            float* to) {
    r.clear_outside(args.c);
    transform_input(args, block, x, r.outside, r.v);
    multiply_points(block, args.c, args.o, filters, r.v, u, stride, r.m);
    block.for_each([&](const Place& p, int64_t position) {
      float* pixel = to + (((p.n - image) * args.oh + p.y) * args.ow + p.x) * args.o;
      const int64_t row = args.ow * args.o;
      for (int64_t o = filters.begin; o < filters.end; o += V::kWidth) {
        const float* from = r.m + position * tile_stride(args.o) + o;
        const Values zero = {}, shift = bias ? V::load(bias + o) : zero;
        transform<Output>(
            p.rows, p.columns, [&](int i, int j) { return V::load(from + (i * kIn + j) * args.o); },
            [&](int i, int j, Values value) {
              value += shift;
              V::store(pixel + i * row + j * args.o + o, relu ? V::max(zero, value) : value);
            });
      }
      if (activates)
        for (int i = 0; i < p.rows; ++i)
          for (int j = 0; j < p.columns; ++j)
            activate(1, filters.end - filters.begin, pixel + i * row + j * args.o + filters.begin, args.o,
                     args.activation);
    });
  };
  if (by_filters) {
    parallel::run(shares, [&](int share) {
      const Filters filters{wide * share / shares * kPanel<float>,
                            min(wide * (share + 1) / shares * kPanel<float>, args.o)};
      float* u = transformed.as<float>() + share * kPoints * stride;
      transform_filters(1, args, w, filters, stride, true, u);
      convolve(Block(tiles, 0, tiles.count), Room(work, room.as<float>(), share), filters, u, 0, y);
    });
    return;
  }
  const Filters all{0, args.o};
  float* u = transformed.as<float>();
  transform_filters(ctx.threads, args, w, all, stride, true, u);
  for_blocks(
      work, room.as<float>(), [](int64_t, int64_t, float*) {},
      [&](const Block& block, const Room& r, int64_t image, int, bool) {
        convolve(block, r, all, u, stage ? image : 0, stage ? r.z : y);
      },
      [&](int64_t image, int64_t count, float* z) {
        if (stage) (*stage)(image, count, z);
      });
}

void winograd_gradient(Context& ctx, const Conv2DArgs& args, const float* x, const float* w, const float* dy, float* dx,
                       Write write_dx, float* dw, Write write_dw, const Stage<float>* stage) {
  if (dx && dw && args.n < ctx.threads) {  // few images: tiles are shared out for dw, as dx cannot
    winograd_gradient(ctx, args, x, w, dy, dx, write_dx, nullptr, write_dw, stage);
    return winograd_gradient(ctx, args, x, w, dy, nullptr, write_dx, dw, write_dw, stage);
  }
  constexpr int64_t kUnit = 4 * kTileRows;  // tiles that are worth sums of their own
  const Tiles tiles(args);
  // Tiles of an image overlap in dx: one part adds them all. dw has the same bits whether dx is asked for or not.
  const Work work(ctx, tiles, dx || args.n >= ctx.threads ? tiles.each : kUnit, stage);
  const int64_t plane = args.c * args.o, image_size = args.h * args.w * args.c;
  const int64_t ldv = tile_stride(args.c), ldm = tile_stride(args.o);
  const int64_t stride = packed_stride(args.o, args.c);
  const Workspace filters = ctx.workspace(dx ? static_cast<size_t>(kPoints * (plane + stride)) * sizeof(float) : 0);
  const Workspace sums = ctx.workspace(dw ? static_cast<size_t>(work.parts * kPoints * plane) * sizeof(float) : 0);
  const Workspace room = ctx.workspace(work.bytes());
  float *plain = filters.as<float>(), *u = dx ? plain + kPoints * plane : nullptr, *du = sums.as<float>();
  if (dx) {
    transform_filters(ctx.threads, args, w, {0, args.o}, plane, false, plain);
    for (int point = 0; point < kPoints; ++point)
      pack_columns(args.o, args.c, plain + point * plane, args.o, true, u + point * stride);
  }
  const auto map_results = [&](const Block& block, int64_t image, const float* from, float* m) {
    block.for_each([&](const Place& p, int64_t position) {
      const float* pixel = from + (((p.n - image) * args.oh + p.y) * args.ow + p.x) * args.o;
      for (int64_t o = 0; o < args.o; o += V::kWidth) {
        float* to = m + position * ldm + o;
        transform<OutputGradient>(
            p.rows, p.columns, [&](int i, int j) { return V::load(pixel + (i * args.ow + j) * args.o + o); },
            [&](int i, int j, Values value) { V::store(to + (i * kIn + j) * args.o, value); });
      }
    });
  };
  const auto add_filters = [&](const Block& block, const Room& r, float* to, bool starts) {
    for (int point = 0; point < kPoints; ++point) {
      const Block::Range range = block.of(point / kIn, point % kIn);
      run_tiles<float>(args.c, args.o,
                       {.a = r.v + range.begin * ldv + point * args.c,
                        .row_stride = 1,
                        .step_stride = ldv,
                        .steps = range.count(),
                        .b = r.m + range.begin * ldm + point * args.o,
                        .c = to + point * plane,
                        .ldc = args.o,
                        .columns = 0,
                        .accumulate = !starts,
                        .b_stride = ldm},
                       UnaryOp::identity);
    }
  };
  const auto add_pixels = [&](const Block& block, const Room& r) {
    r.clear_outside(args.c);
    block.for_each([&](const Place& p, int64_t position) {
      float* image = dx + p.n * image_size;
      if (p.y == 0 && p.x == 0 && write_dx == Write::overwrite)
        for (int64_t i = 0; i < image_size; ++i) image[i] = 0;
      const Pixels<float> pixels(args, p, image, r.outside);
      for (int64_t c = 0; c < args.c; c += V::kWidth) {
        const float* from = r.v + position * ldv + c;
        transform<InputGradient>(
            p.rows, p.columns, [&](int i, int j) { return V::load(from + (i * kIn + j) * args.c); },
            [&](int i, int j, Values value) {
              float* at = pixels.at[i][j] + c;
              V::store(at, V::load(at) + value);
            });
      }
    });
  };
  for_blocks(
      work, room.as<float>(),
      [&](int64_t image, int64_t count, float* z) {
        if (stage) (*stage)(image, count, z);
      },
      [&](const Block& block, const Room& r, int64_t image, int part, bool starts) {
        map_results(block, stage ? image : 0, stage ? r.z : dy, r.m);
        if (dw) {
          r.clear_outside(args.c);
          transform_input(args, block, x, r.outside, r.v);
          add_filters(block, r, du + part * kPoints * plane, starts);
        }
        if (!dx) return;
        multiply_points(block, args.o, args.c, {0, args.c}, r.m, u, stride, r.v);
        add_pixels(block, r);
      },
      [](int64_t, int64_t, float*) {});
  if (!dw) return;
  parallel::ranges(ctx.threads, args.c, max(1, kGrain / (32 * args.o)), [&](int64_t first, int64_t last, int) {
    for (int64_t i = first * args.o; i < last * args.o; i += V::kWidth)
      transform<FilterGradient>(
          [&](int r, int s) {
            const float* at = du + (r * kIn + s) * plane + i;
            Values sum = V::load(at);
            for (int part = 1; part < work.parts; ++part) sum += V::load(at + part * kPoints * plane);
            return sum;
          },
          [&](int r, int s, Values value) {
            float* at = dw + (r * 3 + s) * plane + i;
            V::store(at, write_dw == Write::accumulate ? V::load(at) + value : value);
          });
  });
}

}  // namespace mica::kernels::cpu::MICA_CPU_LEVEL
