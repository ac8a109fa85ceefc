// CPU convolution, direct: a register tile (tile.h) is a run of pixels of one output row by a panel of channels, and
// the window's rows are its segments. In NHWC a window's row of KW*C values lies in one piece, so no window is ever
// gathered; padding is a copy of the image with a border of zeros.
#include <cstring>

#include "cpu/tile.h"

namespace mica::kernels::cpu::MICA_CPU_LEVEL {

namespace {

template <class T>
class Images {
 public:
  // Images as convolution reads them: padded ones go through a buffer of bytes() a thread.
  Images(const Conv2DArgs& args, const T* x) : a_(args), x_(x) {
    bottom_ = max(0, (args.oh - 1) * args.sh + args.kh - args.pad_top - args.h);
    right_ = max(0, (args.ow - 1) * args.sw + args.kw - args.pad_left - args.w);
    padded_ = args.pad_top > 0 || args.pad_left > 0 || bottom_ > 0 || right_ > 0;
    width_ = args.w + args.pad_left + right_;
  }
  int64_t bytes() const {
    const int64_t size = (a_.h + a_.pad_top + bottom_) * width_ * a_.c * static_cast<int64_t>(sizeof(T));
    return padded_ ? (size + 63) / 64 * 64 : 0;
  }
  int64_t row_stride() const { return width_ * a_.c; }

  const T* image(int64_t n, T* buffer) const {
    const T* in = x_ + n * a_.h * a_.w * a_.c;
    if (!padded_) return in;
    const int64_t stride = row_stride(), left = a_.pad_left * a_.c, middle = a_.w * a_.c;
    T* out = buffer;
    for (int64_t y = -a_.pad_top; y < a_.h + bottom_; ++y, out += stride) {
      const bool inside = y >= 0 && y < a_.h;
      for (int64_t i = 0; i < left; ++i) out[i] = T(0);
      for (int64_t i = 0; i < middle; ++i) out[left + i] = inside ? in[y * middle + i] : T(0);
      for (int64_t i = left + middle; i < stride; ++i) out[i] = T(0);
    }
    return buffer;
  }

 private:
  const Conv2DArgs& a_;
  const T* x_;
  int64_t bottom_, right_, width_;
  bool padded_;
};

template <class T>
void forward(Context& ctx, const Conv2DArgs& args, const T* x, const T* w, const T* bias, T* y) {
  const int64_t k = args.kh * args.kw * args.c, rows = args.n * args.oh;
  if (rows * args.ow == 0 || args.o == 0) return;
  const Images<T> images(args, x);
  // Whole images to a part, or where there are fewer of them than threads, rows.
  const int64_t unit = args.n >= ctx.threads ? args.oh : 1, units = rows / unit;
  const int parts = static_cast<int>(min(ctx.threads, units));
  const int64_t packed_size = packed_bytes<T>(k, args.o);
  const Workspace workspace = ctx.workspace(static_cast<size_t>(packed_size + images.bytes() * parts));
  T* packed = workspace.as<T>();
  pack_columns(k, args.o, w, args.o, false, packed);
  parallel::run(parts, [&](int part) {
    T* buffer = workspace.as<T>(static_cast<size_t>(packed_size + images.bytes() * part));
    const T* image = nullptr;
    int64_t loaded = -1;
    for (int64_t row = units * part / parts * unit; row < units * (part + 1) / parts * unit; ++row) {
      const int64_t n = row / args.oh, oh = row % args.oh;
      if (loaded != n) image = images.image(loaded = n, buffer);
      run_tiles<T>(args.ow, args.o,
                   {.a = image + oh * args.sh * images.row_stride(),
                    .row_stride = args.sw * args.c,
                    .step_stride = 1,
                    .steps = args.kw * args.c,
                    .segments = args.kh,
                    .segment_stride = images.row_stride(),
                    .b = packed,
                    .c = y + row * args.ow * args.o,
                    .ldc = args.o,
                    .columns = 0,
                    .bias = bias},
                   args.activation);
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
  const int64_t each = packed_bytes<T>(args.o, args.c) / static_cast<int64_t>(sizeof(T));
  const Workspace workspace = ctx.workspace(static_cast<size_t>(each * positions) * sizeof(T));
  T* packed = workspace.as<T>();
  for (int64_t i = 0; i < positions; ++i)
    pack_columns(args.o, args.c, w + i * args.c * args.o, args.o, true, packed + i * each);
  parallel::run(parts, [&](int part) {
    for (int64_t n = args.n * part / parts; n < args.n * (part + 1) / parts; ++n) {
      T* image = dx + n * image_size;
      if (write == Write::overwrite)
        for (int64_t i = 0; i < image_size; ++i) image[i] = T(0);
      for (int64_t oh = 0; oh < args.oh; ++oh)
        for (int64_t position = 0; position < positions; ++position) {
          const int64_t kh = position / args.kw, kw = position % args.kw;
          const int64_t h = oh * args.sh - args.pad_top + kh,
                        shift = kw - args.pad_left;  // column of pixel ow: ow*SW + shift
          if (h < 0 || h >= args.h) continue;
          const int64_t first = shift < 0 ? (-shift + args.sw - 1) / args.sw : 0;
          const int64_t last = args.w - shift > 0 ? min(args.ow, (args.w - shift - 1) / args.sw + 1) : 0;
          if (first >= last) continue;
          run_tiles<T>(last - first, args.c,
                       {.a = dy + ((n * args.oh + oh) * args.ow + first) * args.o,
                        .row_stride = args.o,
                        .step_stride = 1,
                        .steps = args.o,
                        .b = packed + position * each,
                        .c = image + (h * args.w + first * args.sw + shift) * args.c,
                        .ldc = args.sw * args.c,
                        .columns = 0,
                        .accumulate = true},
                       UnaryOp::identity);
        }
    }
  });
}

// For each row kh of the window, a product of images' rows [pixels, KW*C] transposed and dy [pixels, O]: the pixels of
// an output row are the steps, the output rows the segments.
template <class T>
void gradient_filter(Context& ctx, const Conv2DArgs& args, const T* x, const T* dy, T* dw, Write write) {
  const int64_t line = args.kw * args.c, size = args.kh * line * args.o, pixels = args.oh * args.ow;
  if (size == 0) return;
  const Images<T> images(args, x);
  const int parts = static_cast<int>(max(1, min(ctx.threads, args.n)));
  const int64_t packed_size = packed_bytes<T>(pixels, args.o);
  const int64_t sum_size = (size * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64;
  const int64_t each = packed_size + images.bytes() + sum_size;
  const Workspace workspace = ctx.workspace(static_cast<size_t>(each * parts));
  const auto sum_of = [&](int part) { return workspace.as<T>(static_cast<size_t>(each * (part + 1) - sum_size)); };
  parallel::run(parts, [&](int part) {  // each part sums over its images
    T* packed = workspace.as<T>(static_cast<size_t>(each * part));
    T* buffer = workspace.as<T>(static_cast<size_t>(each * part + packed_size));
    T* sum = sum_of(part);
    for (int64_t i = 0; i < size; ++i) sum[i] = T(0);
    for (int64_t n = args.n * part / parts; n < args.n * (part + 1) / parts; ++n) {
      const T* image = images.image(n, buffer);
      pack_columns(pixels, args.o, dy + n * pixels * args.o, args.o, false, packed);
      for (int64_t kh = 0; kh < args.kh; ++kh)
        run_tiles<T>(line, args.o,
                     {.a = image + kh * images.row_stride(),
                      .row_stride = 1,
                      .step_stride = args.sw * args.c,
                      .steps = args.ow,
                      .segments = args.oh,
                      .segment_stride = args.sh * images.row_stride(),
                      .b = packed,
                      .c = sum + kh * line * args.o,
                      .ldc = args.o,
                      .columns = 0,
                      .accumulate = true},
                     UnaryOp::identity);
    }
  });
  for (int part = 0; part < parts; ++part) {  // and the parts' sums are added in their order
    const T* sum = sum_of(part);
    const bool accumulate = part > 0 || write == Write::accumulate;
    for (int64_t i = 0; i < size; ++i) store(dw[i], sum[i], accumulate);
  }
}

}  // namespace

void conv2d(Context& ctx, const Conv2DArgs& args, const void* x, const void* w, const void* bias, void* y) {
  for_float(args.dtype, [&](auto t) {
    using T = decltype(t);
    forward(ctx, args, static_cast<const T*>(x), static_cast<const T*>(w), static_cast<const T*>(bias),
            static_cast<T*>(y));
  });
}

void conv2d_gradient_input(Context& ctx, const Conv2DArgs& args, const void* dy, const void* w, void* dx, Write write) {
  for_float(args.dtype, [&](auto t) {
    using T = decltype(t);
    gradient_input(ctx, args, static_cast<const T*>(dy), static_cast<const T*>(w), static_cast<T*>(dx), write);
  });
}

void conv2d_gradient_filter(Context& ctx, const Conv2DArgs& args, const void* x, const void* dy, void* dw,
                            Write write) {
  for_float(args.dtype, [&](auto t) {
    using T = decltype(t);
    gradient_filter(ctx, args, static_cast<const T*>(x), static_cast<const T*>(dy), static_cast<T*>(dw), write);
  });
}

}  // namespace mica::kernels::cpu::MICA_CPU_LEVEL
