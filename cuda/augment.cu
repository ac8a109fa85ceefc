// Kernels of augmentation: each row of the results is a row of an image, moved or mirrored.
#include "cuda/pack.h"
#include "kernels/args.h"

namespace mica::kernels::MICA_CUDA_BACKEND {

namespace {

struct alignas(16) Bytes16 {
  uint64_t v[2];
};

// Elements of a thread, two of these. What is smaller than 4 bytes is written in packs.
constexpr int kUnits = 4;

// sign * place, brought to where a window of `window` just misses [0, size), if it lies further out.
MICA_DEVICE int corner(int64_t place, int64_t sign, int window, int size) {
  const int64_t most = at_least(window, size);
  place = at_least(-most, at_most(most, place)) * sign;
  return to_int(at_least<int64_t>(-window, at_most<int64_t>(size, place)));
}

// Where unit `column` of row `row` of the result n comes from: the place in x, or -1. Widths are in units.
struct Crop {
  const int64_t *rows, *columns;
  int64_t sign;
  int h, w, oh, ow, pixel;

  MICA_DEVICE int64_t operator()(int64_t n, int row, int column) const {
    row += corner(rows[n], sign, oh, h);
    const int64_t shifted = column + int64_t{corner(columns[n], sign, ow, w)} * pixel;
    const int64_t width = int64_t{w} * pixel;
    return inside(row, h) && shifted >= 0 && shifted < width ? (n * h + row) * width + shifted : -1;
  }
};

struct Flip {
  const uint8_t *vertical, *horizontal;
  int h, w;
  FastDivide pixel;

  MICA_DEVICE int64_t operator()(int64_t n, int row, int column) const {
    if (vertical && vertical[n]) row = h - 1 - row;
    if (horizontal && horizontal[n]) column += (w - 1 - 2 * pixel.quotient(column)) * pixel.divisor();
    return (n * h + row) * (int64_t{w} * pixel.divisor()) + column;
  }
};

// y[count]: units of rows from row `first_row` of image `first_n` on.
template <class T, class Source>
MICA_KERNEL(kMapThreads)
void augment_kernel(const Source source, const FastDivide width, const FastDivide height, int64_t first_n,
                    int first_row, int count, bool packed, const T* __restrict__ x, T* __restrict__ y) {
  const ThreadElements<kUnits, int> elements(count, packed);
  Packs<T, kUnits> p = {};
  elements.for_each([&](int k, int j) {
    int column = elements.at(k, j);
    int row = first_row + width.divide(column);
    const int64_t n = first_n + height.divide(row);
    const int64_t from = source(n, row, column);
    if (from >= 0) p.k[k].v[j] = x[from];
  });
  elements.store(y, p);
}

// Rows of y [N, height, width], as many to a launch as an int can count.
template <class T, class Source>
void augment(Context& ctx, const Source& source, int64_t n, int64_t height, int64_t width, const T* x, T* y) {
  const int64_t rows = n * height, most = at_least<int64_t>(1, (int64_t{1} << 30) / width);
  for (int64_t first = 0; first < rows; first += most) {
    const int64_t count = at_most(most, rows - first) * width;
    T* const to = y + first * width;
    launch(augment_kernel<T, Source>, map_blocks(count, kUnits), {kMapThreads}, 0, ctx.stream, source,
           FastDivide(width), FastDivide(height), first / height, to_int(first % height), to_int(count),
           sizeof(T) < 4 && holds_packs<kUnits>(to), x, to);
  }
}

// Calls f with x and y as the largest units of 1 to 16 bytes that pixels are made of and that both are aligned to, and
// the number of units in a pixel.
template <class F>
void for_units(const CropArgs& args, const void* x, void* y, const F& f) {
  const int64_t bytes = args.c * static_cast<int64_t>(size_of(args.dtype));
  const auto call = [&](auto t) {
    using T = decltype(t);
    f(static_cast<const T*>(x), static_cast<T*>(y), to_int(bytes / static_cast<int64_t>(sizeof(T))));
  };
  const uintptr_t all = static_cast<uintptr_t>(bytes) | reinterpret_cast<uintptr_t>(x) | reinterpret_cast<uintptr_t>(y);
  switch (all & -all & 15) {
    case 0: return call(Bytes16{});
    case 8: return call(uint64_t{});
    case 4: return call(uint32_t{});
    case 2: return call(uint16_t{});
    default: return call(uint8_t{});
  }
}

}  // namespace

void crop2d(Context& ctx, const CropArgs& a, const int64_t* rows, const int64_t* columns, const void* x, void* y) {
  if (a.n == 0 || a.oh == 0 || a.ow == 0 || a.c == 0) return;
  for_units(a, x, y, [&](const auto* from, auto* to, int pixel) {
    const Crop source = {rows, columns, a.sign, to_int(a.h), to_int(a.w), to_int(a.oh), to_int(a.ow), pixel};
    augment(ctx, source, a.n, a.oh, a.ow * pixel, from, to);
  });
}

void flip2d(Context& ctx, const CropArgs& a, const uint8_t* vertical, const uint8_t* horizontal, const void* x,
            void* y) {
  if (a.n == 0 || a.h == 0 || a.w == 0 || a.c == 0) return;
  for_units(a, x, y, [&](const auto* from, auto* to, int pixel) {
    const Flip source = {vertical, horizontal, to_int(a.h), to_int(a.w), FastDivide(pixel)};
    augment(ctx, source, a.n, a.h, a.w * pixel, from, to);
  });
}

}  // namespace mica::kernels::MICA_CUDA_BACKEND
