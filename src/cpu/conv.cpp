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

// The results of one image, where they go to a stage.
template <class T>
struct Staged {
  Staged(const Conv2DArgs& args, const Stage<T>* stage) : size(stage ? args.oh * args.ow * args.o : 0) {}
  int64_t bytes() const { return (size * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64; }
  int64_t size;
};

// Whether a window's row lies in one piece.
bool in_one_piece(const Conv2DArgs& args) { return args.dw == 1 && args.groups == 1; }

template <class T>
void forward(Context& ctx, const Conv2DArgs& args, const T* x, const T* w, const T* bias, T* y, const Stage<T>* stage) {
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
  const Staged<T> staged(args, stage);
  const int64_t part_size = images.bytes() + staged.bytes();
  const Workspace workspace = ctx.workspace(static_cast<size_t>(packed_size + part_size * parts));
  const auto packed = [&](int64_t group, int64_t product) {
    return workspace.as<T>(static_cast<size_t>(each * (group * products + product)));
  };
  for (int64_t group = 0; group < args.groups; ++group)
    for (int64_t product = 0; product < products; ++product) {
      const int64_t position = (images.rows.first + product) * args.kw + images.cols.first;
      pack_columns(k, o, w + position * c * args.o + group * o, args.o, false, packed(group, product));
    }
  parallel::run(parts, [&](int part) {
    T* buffer = workspace.as<T>(static_cast<size_t>(packed_size + part_size * part));
    T* z = workspace.as<T>(static_cast<size_t>(packed_size + part_size * part + images.bytes()));
    const T* image = nullptr;
    int64_t loaded = -1;
    for (int64_t row = units * part / parts * unit; row < units * (part + 1) / parts * unit; ++row) {
      const int64_t n = row / args.oh, oh = row % args.oh;
      if (loaded != n) image = images.image(loaded = n, buffer);
      const T* window = image + oh * args.sh * images.row_stride();
      T* results = stage ? z + oh * args.ow * args.o : y + row * args.ow * args.o;
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
                        .c = results + group * o,
                        .ldc = args.o,
                        .columns = 0,
                        .accumulate = product > 0,
                        .bias = bias && last ? bias + group * o : nullptr},
                       last ? args.activation : UnaryOp::identity);
        }
      if (stage && oh + 1 == args.oh) (*stage)(n, 1, z);
    }
  });
}

// Each window position (kh, kw) by itself: the pixels of a row of dy that it serves, times its filters transposed, are
// added to a row of dx.
template <class T>
class DirectInputGradient {
 public:
  DirectInputGradient(const Context& ctx, const Conv2DArgs& args, const T* w, T* dx, Write write)
      : a_(args), dx_(dx), write_(write), c_(args.c / args.groups), o_(args.o / args.groups),
        each_(packed_bytes<T>(o_, c_)),
        workspace_(ctx.workspace(dx ? static_cast<size_t>(each_ * args.kh * args.kw * args.groups) : 0)) {
    if (!dx) return;
    for (int64_t i = 0; i < args.kh * args.kw; ++i)
      for (int64_t group = 0; group < args.groups; ++group)
        pack_columns(o_, c_, w + i * c_ * args.o + group * o_, args.o, true, packed(i, group));
  }

  // From dy of image n.
  void add(int64_t n, const T* dy) const {
    if (!dx_) return;
    const int64_t size = a_.h * a_.w * a_.c;
    T* image = dx_ + n * size;
    if (write_ == Write::overwrite)
      for (int64_t i = 0; i < size; ++i) image[i] = T(0);
    for (int64_t oh = 0; oh < a_.oh; ++oh)
      for (int64_t position = 0; position < a_.kh * a_.kw; ++position) {
        const int64_t kh = position / a_.kw, kw = position % a_.kw;
        const int64_t h = oh * a_.sh - a_.pad_top + kh * a_.dh,
                      shift = kw * a_.dw - a_.pad_left;  // column of pixel ow: ow*SW + shift
        if (h < 0 || h >= a_.h) continue;
        const int64_t first = shift < 0 ? (-shift + a_.sw - 1) / a_.sw : 0;
        const int64_t last = a_.w - shift > 0 ? min(a_.ow, (a_.w - shift - 1) / a_.sw + 1) : 0;
        if (first >= last) continue;
        for (int64_t group = 0; group < a_.groups; ++group)
          run_tiles<T>(last - first, c_,
                       {.a = dy + (oh * a_.ow + first) * a_.o + group * o_,
                        .row_stride = a_.o,
                        .step_stride = 1,
                        .steps = o_,
                        .b = packed(position, group),
                        .c = image + (h * a_.w + first * a_.sw + shift) * a_.c + group * c_,
                        .ldc = a_.sw * a_.c,
                        .columns = 0,
                        .accumulate = true},
                       UnaryOp::identity);
      }
  }

 private:
  T* packed(int64_t position, int64_t group) const {
    return workspace_.as<T>(static_cast<size_t>((position * a_.groups + group) * each_));
  }

  const Conv2DArgs& a_;
  T* dx_;
  Write write_;
  int64_t c_, o_, each_;
  Workspace workspace_;
};

// The part of DirectFilterGradient for one image, where each row of the window has three values: of one channel in
// windows three wide, or of three in windows one wide.
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
// has three values (one channel, and windows of 3 by 3), one product for several rows. Each part sums over its images.
template <class T>
class DirectFilterGradient {
 public:
  DirectFilterGradient(const Context& ctx, const Conv2DArgs& args, int parts, const T* x, T* dw, Write write)
      : a_(args), dw_(dw), write_(write), images_(args, x), parts_(parts),
        size_(args.kh * args.kw * (args.c / args.groups) * args.o),
        packed_each_(packed_bytes<T>(args.oh * args.ow, args.o / args.groups)),
        packed_size_(packed_each_ * args.groups), sum_at_(packed_size_ + images_.bytes()),
        each_(sum_at_ + (size_ * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64),
        workspace_(ctx.workspace(dw ? static_cast<size_t>(each_ * parts) : 0)) {}

  void begin(int part) const {
    if (!dw_) return;
    T* sum = at(part, sum_at_);
    for (int64_t i = 0; i < size_; ++i) sum[i] = T(0);
  }
  // From dy of image n.
  void add(int part, int64_t n, const T* dy) const {
    if (!dw_ || size_ == 0) return;
    const int64_t c = a_.c / a_.groups, o = a_.o / a_.groups, pixels = a_.oh * a_.ow;
    const bool whole = in_one_piece(a_);
    const int64_t line = whole ? a_.kw * c : c;
    const Taps cols = whole && images_.cols.count() > 0 ? Taps{0, 1} : images_.cols;
    const T* image = images_.image(n, at(part, packed_size_));
    T* sum = at(part, sum_at_);
    for (int64_t group = 0; group < a_.groups; ++group) {
      T* room = at(part, packed_each_ * group);
      const T *from = dy + group * o, *columns = a_.groups == 1 && o == kPanel<T> ? from : room;
      if (columns == room) pack_columns(pixels, o, from, a_.o, false, room);
      if (whole && line == 3 && images_.rows.count() > 1) {
        for_row_triples<T>(a_, images_, image, columns, sum);
        continue;
      }
      for (int64_t kh = images_.rows.first; kh < images_.rows.last; ++kh)
        for (int64_t kw = cols.first; kw < cols.last; ++kw)
          run_tiles<T>(line, o,
                       {.a = image + images_.offset(kh, kw) + group * c,
                        .row_stride = 1,
                        .step_stride = a_.sw * a_.c,
                        .steps = a_.ow,
                        .segments = a_.oh,
                        .segment_stride = a_.sh * images_.row_stride(),
                        .b = columns,
                        .c = sum + (kh * a_.kw + kw) * c * a_.o + group * o,
                        .ldc = a_.o,
                        .columns = 0,
                        .accumulate = true},
                       UnaryOp::identity);
    }
  }
  // Adds the parts' sums in their order.
  void end() const {
    if (!dw_) return;
    for (int part = 0; part < parts_; ++part) {
      const T* sum = at(part, sum_at_);
      const bool accumulate = part > 0 || write_ == Write::accumulate;
      for (int64_t i = 0; i < size_; ++i) store(dw_[i], sum[i], accumulate);
    }
  }

 private:
  // A part's columns of dy [groups], its image with a border, its sum.
  T* at(int part, int64_t offset) const { return workspace_.as<T>(static_cast<size_t>(each_ * part + offset)); }

  const Conv2DArgs& a_;
  T* dw_;
  Write write_;
  Images<T> images_;
  int parts_;
  int64_t size_, packed_each_, packed_size_, sum_at_, each_;
  Workspace workspace_;
};

// Both gradients, an image after the other.
template <class T>
void gradient(Context& ctx, const Conv2DArgs& args, const T* x, const T* w, const T* dy, T* dx, Write write_dx, T* dw,
              Write write_dw, const Stage<T>* stage) {
  const int parts = static_cast<int>(max(1, min(ctx.threads, args.n)));
  const Staged<T> staged(args, stage);
  const Workspace workspace = ctx.workspace(static_cast<size_t>(staged.bytes() * parts));
  const DirectInputGradient<T> input(ctx, args, w, dx, write_dx);
  const DirectFilterGradient<T> filter(ctx, args, parts, x, dw, write_dw);
  parallel::run(parts, [&](int part) {
    T* z = workspace.as<T>(static_cast<size_t>(staged.bytes() * part));
    filter.begin(part);
    for (int64_t n = args.n * part / parts; n < args.n * (part + 1) / parts; ++n) {
      if (stage) (*stage)(n, 1, z);
      const T* image = stage ? z : dy + n * args.oh * args.ow * args.o;
      input.add(n, image);
      filter.add(part, n, image);
    }
  });
  filter.end();
}

bool is_depthwise(const Conv2DArgs& args) { return args.groups > 1 && args.groups == args.c; }

}  // namespace

template <class T>
void convolve(Context& ctx, const Conv2DArgs& args, const T* x, const T* w, const T* bias, T* y,
              const Stage<T>* stage) {
  MICA_ASSERT(!stage || (args.groups == 1 && args.n >= ctx.threads));
  if constexpr (std::is_same_v<T, float>)
    if (winograd_suits(args)) return winograd(ctx, args, x, w, bias, y, stage);
  forward(ctx, args, x, w, bias, y, stage);
}
template <class T>
void convolve_gradient(Context& ctx, const Conv2DArgs& args, const T* x, const T* w, const T* dy, T* dx, Write write_dx,
                       T* dw, Write write_dw, const Stage<T>* stage) {
  MICA_ASSERT(!stage || (args.groups == 1 && args.n >= ctx.threads));
  if constexpr (std::is_same_v<T, float>)
    if (winograd_suits(args)) return winograd_gradient(ctx, args, x, w, dy, dx, write_dx, dw, write_dw, stage);
  gradient(ctx, args, x, w, dy, dx, write_dx, dw, write_dw, stage);
}
#define MICA_CONVOLVE(T)                                                                                           \
  template void convolve(Context&, const Conv2DArgs&, const T*, const T*, const T*, T*, const Stage<T>*);          \
  template void convolve_gradient(Context&, const Conv2DArgs&, const T*, const T*, const T*, T*, Write, T*, Write, \
                                  const Stage<T>*);
MICA_CONVOLVE(float)
MICA_CONVOLVE(double)
#undef MICA_CONVOLVE

void conv2d(Context& ctx, const Conv2DArgs& args, const void* x, const void* w, const void* bias, void* y) {
  if (is_depthwise(args)) return depthwise(ctx, args, x, w, bias, y);
  for_float(args.dtype, [&](auto t) {
    using T = decltype(t);
    convolve<T>(ctx, args, static_cast<const T*>(x), static_cast<const T*>(w), static_cast<const T*>(bias),
                static_cast<T*>(y), nullptr);
  });
}

void conv2d_gradient(Context& ctx, const Conv2DArgs& args, const void* x, const void* w, const void* dy, void* dx,
                     Write write_dx, void* dw, Write write_dw) {
  if (is_depthwise(args)) {
    if (dx) depthwise_gradient_input(ctx, args, dy, w, dx, write_dx);
    if (dw) depthwise_gradient_filter(ctx, args, x, dy, dw, write_dw);
    return;
  }
  for_float(args.dtype, [&](auto t) {
    using T = decltype(t);
    convolve_gradient<T>(ctx, args, static_cast<const T*>(x), static_cast<const T*>(w), static_cast<const T*>(dy),
                         static_cast<T*>(dx), write_dx, static_cast<T*>(dw), write_dw, nullptr);
  });
}

}  // namespace mica::kernels::cpu::MICA_CPU_LEVEL
