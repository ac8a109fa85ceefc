// CPU kernels of augmentation: rows of pixels over the threads, each copied whole.
#include <cstring>

#include "cpu/common.h"

namespace mica::kernels::cpu::MICA_CPU_LEVEL {

namespace {

// Rows of results over the threads: body(image, row).
template <class F>
void for_output_rows(Context& ctx, const CropArgs& a, const F& body) {
  const int64_t work = max(1, a.ow * a.c);
  parallel::ranges(ctx.threads, a.n * a.oh, max(1, kGrain / work), [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) body(i / a.oh, i % a.oh);
  });
}

// sign * place, brought to where a window of `window` just misses [0, size), if it lies further out.
int64_t corner(int64_t place, int64_t sign, int64_t window, int64_t size) {
  const int64_t most = max(window, size);
  place = max(-most, min(most, place)) * sign;
  return max(-window, min(size, place));
}

}  // namespace

void crop2d(Context& ctx, const CropArgs& a, const int64_t* rows, const int64_t* columns, const void* x, void* y) {
  const int64_t pixel = a.c * static_cast<int64_t>(size_of(a.dtype));
  const char* in = static_cast<const char*>(x);
  char* out = static_cast<char*>(y);
  for_output_rows(ctx, a, [&](int64_t n, int64_t i) {
    const int64_t row = corner(rows[n], a.sign, a.oh, a.h) + i, column = corner(columns[n], a.sign, a.ow, a.w);
    char* to = out + (n * a.oh + i) * a.ow * pixel;
    const int64_t first = max(0, -column), last = min(a.ow, a.w - column);  // of the window, within the image
    if (row < 0 || row >= a.h || first >= last) {
      std::memset(to, 0, static_cast<size_t>(a.ow * pixel));
      return;
    }
    std::memset(to, 0, static_cast<size_t>(first * pixel));
    std::memcpy(to + first * pixel, in + ((n * a.h + row) * a.w + column + first) * pixel,
                static_cast<size_t>((last - first) * pixel));
    std::memset(to + last * pixel, 0, static_cast<size_t>((a.ow - last) * pixel));
  });
}

void flip2d(Context& ctx, const CropArgs& a, const uint8_t* vertical, const uint8_t* horizontal, const void* x,
            void* y) {
  for_size(a.dtype, [&](auto t) {
    using T = decltype(t);
    for_output_rows(ctx, a, [&](int64_t n, int64_t i) {
      const int64_t row = vertical && vertical[n] ? a.h - 1 - i : i, width = a.w * a.c;
      const T* from = static_cast<const T*>(x) + (n * a.h + row) * width;
      T* to = static_cast<T*>(y) + (n * a.h + i) * width;
      if (!horizontal || !horizontal[n]) {
        std::memcpy(to, from, static_cast<size_t>(width) * sizeof(T));
        return;
      }
      for (int64_t j = 0; j < a.w; ++j)
        for (int64_t c = 0; c < a.c; ++c) to[j * a.c + c] = from[(a.w - 1 - j) * a.c + c];
    });
  });
}

}  // namespace mica::kernels::cpu::MICA_CPU_LEVEL
