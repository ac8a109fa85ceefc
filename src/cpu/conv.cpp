// CPU convolution, direct: a register tile (tile.h) is a run of pixels of one output row by a panel of channels, and
// the window's rows are its segments. In NHWC a window's row of KW*C values lies in one piece, so no window is ever
// gathered; padding is a copy of the image with a border of zeros. Where the pixels of a window's row do not touch
// (dilation along W) or only a group's channels of each are meant, the pixels are the segments, and the rows add up.
#include "cpu/conv.h"

#include <cstring>

#include "cpu/tile.h"

namespace mica::kernels::cpu::MICA_CPU_LEVEL {

namespace {

// The rows or columns [first, last) of a window that meet the image for some result. With dilation others do not, and
// the border that they would need could be of any size.
struct Taps {
  int64_t first, last;
  int64_t count() const { return last - first; }
};
Taps taps(int64_t window, int64_t dilation, int64_t before, int64_t stride, int64_t count, int64_t size) {
  if (dilation == 1) return {0, window};
  const int64_t first = (max(0, before - (count - 1) * stride) + dilation - 1) / dilation;
  const int64_t last = min(window, (before + size + dilation - 1) / dilation);
  return first < last ? Taps{first, last} : Taps{0, 0};
}

template <class T>
class Images {
 public:
  // Images as convolution reads them: padded ones go through a buffer of bytes() a thread.
  Images(const Conv2DArgs& args, const T* x)
      : rows(taps(args.kh, args.dh, args.pad_top, args.sh, args.oh, args.h)),
        cols(taps(args.kw, args.dw, args.pad_left, args.sw, args.ow, args.w)), a_(args), x_(x) {
    if (rows.count() == 0 || cols.count() == 0) rows = cols = {0, 0};
    if (rows.count() > 0) {
      top_ = max(0, args.pad_top - rows.first * args.dh);
      left_ = max(0, args.pad_left - cols.first * args.dw);
      bottom_ = max(0, (args.oh - 1) * args.sh + (rows.last - 1) * args.dh + 1 - args.pad_top - args.h);
      right_ = max(0, (args.ow - 1) * args.sw + (cols.last - 1) * args.dw + 1 - args.pad_left - args.w);
    }
    padded_ = top_ > 0 || left_ > 0 || bottom_ > 0 || right_ > 0;
    width_ = args.w + left_ + right_;
  }
  int64_t bytes() const {
    const int64_t size = (a_.h + top_ + bottom_) * width_ * a_.c * static_cast<int64_t>(sizeof(T));
    return padded_ ? (size + 63) / 64 * 64 : 0;
  }
  int64_t row_stride() const { return width_ * a_.c; }
  // Where the element (kh, kw) of the first window lies in image().
  int64_t offset(int64_t kh, int64_t kw) const {
    return (kh * a_.dh - a_.pad_top + top_) * row_stride() + (kw * a_.dw - a_.pad_left + left_) * a_.c;
  }

  const T* image(int64_t n, T* buffer) const {
    const T* in = x_ + n * a_.h * a_.w * a_.c;
    if (!padded_) return in;
    const int64_t stride = row_stride(), left = left_ * a_.c, middle = a_.w * a_.c;
    T* out = buffer;
    for (int64_t y = -top_; y < a_.h + bottom_; ++y, out += stride) {
      const bool inside = y >= 0 && y < a_.h;
      for (int64_t i = 0; i < left; ++i) out[i] = T(0);
      for (int64_t i = 0; i < middle; ++i) out[left + i] = inside ? in[y * middle + i] : T(0);
      for (int64_t i = left + middle; i < stride; ++i) out[i] = T(0);
    }
    return buffer;
  }

  Taps rows, cols;

 private:
  const Conv2DArgs& a_;
  const T* x_;
  int64_t top_ = 0, left_ = 0, bottom_ = 0, right_ = 0, width_;
  bool padded_;
};

// Whether a window's row lies in one piece.
bool in_one_piece(const Conv2DArgs& args) { return args.dw == 1 && args.groups == 1; }

template <class T>
void forward(Context& ctx, const Conv2DArgs& args, const T* x, const T* w, const T* bias, T* y) {
  const int64_t rows = args.n * args.oh;
  if (rows * args.ow == 0 || args.o == 0) return;
  const Images<T> images(args, x);
  // The products that add up to a row of results: one of all rows of the window, or one of each.
  const bool whole = in_one_piece(args);
  const int64_t c = args.c / args.groups, o = args.o / args.groups;
  const int64_t products = whole ? 1 : max(1, images.rows.count());
  const int64_t steps = whole ? args.kw * c : c;
  const int64_t segments = whole ? images.rows.count() : images.cols.count(), k = segments * steps;
  const int64_t segment_stride = whole ? args.dh * images.row_stride() : args.dw * args.c;
  // Whole images to a part, or where there are fewer of them than threads, rows.
  const int64_t unit = args.n >= ctx.threads ? args.oh : 1, units = rows / unit;
  const int parts = static_cast<int>(min(ctx.threads, units));
  const int64_t each = packed_bytes<T>(k, o), packed_size = each * products * args.groups;
  const Workspace workspace = ctx.workspace(static_cast<size_t>(packed_size + images.bytes() * parts));
  if (ctx.measures()) return;
  const auto packed = [&](int64_t group, int64_t product) {
    return workspace.as<T>(static_cast<size_t>(each * (group * products + product)));
  };
  for (int64_t group = 0; group < args.groups; ++group)
    for (int64_t product = 0; product < products; ++product) {
      const int64_t position = (images.rows.first + product) * args.kw + images.cols.first;
      pack_columns(k, o, w + position * c * args.o + group * o, args.o, false, packed(group, product));
    }
  parallel::run(parts, [&](int part) {
    T* buffer = workspace.as<T>(static_cast<size_t>(packed_size + images.bytes() * part));
    const T* image = nullptr;
    int64_t loaded = -1;
    for (int64_t row = units * part / parts * unit; row < units * (part + 1) / parts * unit; ++row) {
      const int64_t n = row / args.oh, oh = row % args.oh;
      if (loaded != n) image = images.image(loaded = n, buffer);
      const T* window = image + oh * args.sh * images.row_stride();
      for (int64_t group = 0; group < args.groups; ++group)
        for (int64_t product = 0; product < products; ++product) {
          const bool last = product + 1 == products;
          const int64_t at = segments ? images.offset(images.rows.first + product, images.cols.first) : 0;
          run_tiles<T>(args.ow, o,
                       {.a = window + at + group * c,
                        .row_stride = args.sw * args.c,
                        .step_stride = 1,
                        .steps = steps,
                        .segments = segments,
                        .segment_stride = segment_stride,
                        .b = packed(group, product),
                        .c = y + row * args.ow * args.o + group * o,
                        .ldc = args.o,
                        .columns = 0,
                        .accumulate = product > 0,
                        .bias = bias && last ? bias + group * o : nullptr},
                       last ? args.activation : UnaryOp::identity);
        }
    }
  });
}

// Each window position (kh, kw) by itself: the pixels of a row of dy that it serves, times its filters transposed, are
// added to a row of dx.
template <class T>
void gradient_input(Context& ctx, const Conv2DArgs& args, const T* dy, const T* w, T* dx, Write write) {
  const int64_t image_size = args.h * args.w * args.c, positions = args.kh * args.kw;
  if (args.n * image_size == 0) return;
  const int parts = static_cast<int>(min(ctx.threads, args.n));
  const int64_t c = args.c / args.groups, o = args.o / args.groups;
  const int64_t each = packed_bytes<T>(o, c) / static_cast<int64_t>(sizeof(T));
  const Workspace workspace = ctx.workspace(static_cast<size_t>(each * positions * args.groups) * sizeof(T));
  if (ctx.measures()) return;
  T* packed = workspace.as<T>();
  for (int64_t i = 0; i < positions; ++i)
    for (int64_t group = 0; group < args.groups; ++group)
      pack_columns(o, c, w + i * c * args.o + group * o, args.o, true, packed + (i * args.groups + group) * each);
  parallel::run(parts, [&](int part) {
    for (int64_t n = args.n * part / parts; n < args.n * (part + 1) / parts; ++n) {
      T* image = dx + n * image_size;
      if (write == Write::overwrite)
        for (int64_t i = 0; i < image_size; ++i) image[i] = T(0);
      for (int64_t oh = 0; oh < args.oh; ++oh)
        for (int64_t position = 0; position < positions; ++position) {
          const int64_t kh = position / args.kw, kw = position % args.kw;
          const int64_t h = oh * args.sh - args.pad_top + kh * args.dh,
                        shift = kw * args.dw - args.pad_left;  // column of pixel ow: ow*SW + shift
          if (h < 0 || h >= args.h) continue;
          const int64_t first = shift < 0 ? (-shift + args.sw - 1) / args.sw : 0;
          const int64_t last = args.w - shift > 0 ? min(args.ow, (args.w - shift - 1) / args.sw + 1) : 0;
          if (first >= last) continue;
          for (int64_t group = 0; group < args.groups; ++group)
            run_tiles<T>(last - first, c,
                         {.a = dy + ((n * args.oh + oh) * args.ow + first) * args.o + group * o,
                          .row_stride = args.o,
                          .step_stride = 1,
                          .steps = o,
                          .b = packed + (position * args.groups + group) * each,
                          .c = image + (h * args.w + first * args.sw + shift) * args.c + group * c,
                          .ldc = args.sw * args.c,
                          .columns = 0,
                          .accumulate = true},
                         UnaryOp::identity);
        }
    }
  });
}

// The part of gradient_filter for one image, where each row of the window has three values: of one channel in windows
// three wide, or of three in windows one wide.
template <class T>
void for_row_triples(const Conv2DArgs& args, const Images<T>& images, const T* image, const T* columns, T* sum) {
  constexpr int64_t kRows = kTileRows / 3;  // of the window, in a tile
  const int64_t pixels = args.oh * args.ow;
  for (int64_t kh = images.rows.first; kh < images.rows.last; kh += kRows) {
    const int64_t rows = min(kRows, images.rows.last - kh);
    Tile<T> t{.a = image + images.offset(kh, images.cols.first),
              .row_stride = 1,
              .step_stride = args.sw * args.c,
              .steps = args.ow,
              .segments = args.oh,
              .segment_stride = args.sh * images.row_stride(),
              .b = columns,
              .c = sum + kh * 3 * args.o,
              .ldc = args.o,
              .columns = 0,
              .accumulate = true};
    t.triple_stride = args.dh * images.row_stride();
    for (int64_t j = 0; j < args.o; j += kPanel<T>) {
      t.columns = min(kPanel<T>, args.o - j);
      tile_function<T>(3 * rows, t.columns)(t);
      t.b += pixels * kPanel<T>;
      t.c += kPanel<T>;
    }
  }
}

// For each row kh of the window, a product of images' rows [pixels, KW*C] transposed and dy [pixels, O]: the pixels of
// an output row are the steps, the output rows the segments. Where the row is in pieces, a product for each; where it
// has three values (one channel, and windows of 3 by 3), one product for several rows.
template <class T>
void gradient_filter(Context& ctx, const Conv2DArgs& args, const T* x, const T* dy, T* dw, Write write) {
  const int64_t c = args.c / args.groups, o = args.o / args.groups;
  const int64_t size = args.kh * args.kw * c * args.o, pixels = args.oh * args.ow;
  if (size == 0) return;
  const Images<T> images(args, x);
  const bool whole = in_one_piece(args);
  const int64_t line = whole ? args.kw * c : c;
  const Taps cols = whole && images.cols.count() > 0 ? Taps{0, 1} : images.cols;
  const int parts = static_cast<int>(max(1, min(ctx.threads, args.n)));
  const int64_t packed_each = packed_bytes<T>(pixels, o), packed_size = packed_each * args.groups;
  const int64_t sum_size = (size * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64;
  const int64_t each = packed_size + images.bytes() + sum_size;
  const Workspace workspace = ctx.workspace(static_cast<size_t>(each * parts));
  if (ctx.measures()) return;
  const auto sum_of = [&](int part) { return workspace.as<T>(static_cast<size_t>(each * (part + 1) - sum_size)); };
  parallel::run(parts, [&](int part) {  // each part sums over its images
    T* packed = workspace.as<T>(static_cast<size_t>(each * part));
    T* buffer = workspace.as<T>(static_cast<size_t>(each * part + packed_size));
    T* sum = sum_of(part);
    for (int64_t i = 0; i < size; ++i) sum[i] = T(0);
    for (int64_t n = args.n * part / parts; n < args.n * (part + 1) / parts; ++n) {
      const T* image = images.image(n, buffer);
      for (int64_t group = 0; group < args.groups; ++group) {
        T* room = packed + packed_each / static_cast<int64_t>(sizeof(T)) * group;
        const T *from = dy + n * pixels * args.o + group * o,
                *columns = args.groups == 1 && o == kPanel<T> ? from : room;
        if (columns == room) pack_columns(pixels, o, from, args.o, false, room);
        if (whole && line == 3 && images.rows.count() > 1) {
          for_row_triples<T>(args, images, image, columns, sum);
          continue;
        }
        for (int64_t kh = images.rows.first; kh < images.rows.last; ++kh)
          for (int64_t kw = cols.first; kw < cols.last; ++kw)
            run_tiles<T>(line, o,
                         {.a = image + images.offset(kh, kw) + group * c,
                          .row_stride = 1,
                          .step_stride = args.sw * args.c,
                          .steps = args.ow,
                          .segments = args.oh,
                          .segment_stride = args.sh * images.row_stride(),
                          .b = columns,
                          .c = sum + (kh * args.kw + kw) * c * args.o + group * o,
                          .ldc = args.o,
                          .columns = 0,
                          .accumulate = true},
                         UnaryOp::identity);
      }
    }
  });
  for (int part = 0; part < parts; ++part) {  // and the parts' sums are added in their order
    const T* sum = sum_of(part);
    const bool accumulate = part > 0 || write == Write::accumulate;
    for (int64_t i = 0; i < size; ++i) store(dw[i], sum[i], accumulate);
  }
}

bool is_depthwise(const Conv2DArgs& args) { return args.groups > 1 && args.groups == args.c; }

}  // namespace

void conv2d(Context& ctx, const Conv2DArgs& args, const void* x, const void* w, const void* bias, void* y) {
  if (is_depthwise(args)) return depthwise(ctx, args, x, w, bias, y);
  if (winograd_suits(args))
    return winograd(ctx, args, static_cast<const float*>(x), static_cast<const float*>(w),
                    static_cast<const float*>(bias), static_cast<float*>(y));
  for_float(args.dtype, [&](auto t) {
    using T = decltype(t);
    forward(ctx, args, static_cast<const T*>(x), static_cast<const T*>(w), static_cast<const T*>(bias),
            static_cast<T*>(y));
  });
}

void conv2d_gradient_input(Context& ctx, const Conv2DArgs& args, const void* dy, const void* w, void* dx, Write write) {
  if (is_depthwise(args)) return depthwise_gradient_input(ctx, args, dy, w, dx, write);
  if (winograd_suits(args))
    return winograd_gradient_input(ctx, args, static_cast<const float*>(dy), static_cast<const float*>(w),
                                   static_cast<float*>(dx), write);
  for_float(args.dtype, [&](auto t) {
    using T = decltype(t);
    gradient_input(ctx, args, static_cast<const T*>(dy), static_cast<const T*>(w), static_cast<T*>(dx), write);
  });
}

void conv2d_gradient_filter(Context& ctx, const Conv2DArgs& args, const void* x, const void* dy, void* dw,
                            Write write) {
  if (is_depthwise(args)) return depthwise_gradient_filter(ctx, args, x, dy, dw, write);
  if (winograd_suits(args))
    return winograd_gradient_filter(ctx, args, static_cast<const float*>(x), static_cast<const float*>(dy),
                                    static_cast<float*>(dw), write);
  for_float(args.dtype, [&](auto t) {
    using T = decltype(t);
    gradient_filter(ctx, args, static_cast<const T*>(x), static_cast<const T*>(dy), static_cast<T*>(dw), write);
  });
}

}  // namespace mica::kernels::cpu::MICA_CPU_LEVEL
