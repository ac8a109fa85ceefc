// Convolution and maximum pooling in one: some images at a time, so that what lies between, the largest tensor of many
// a network, is small and stays in the L2 cache.
#include "cuda/common.h"

namespace mica::kernels::MICA_CUDA_BACKEND {

namespace {

constexpr int64_t kSliceBytes = int64_t{32} << 20;  // of results of the convolution, or one image

// Both, without those results of the convolution that no window of the pooling reaches.
class Pooled {
 public:
  Pooled(const Conv2DArgs& c, const Pool2DArgs& p) : conv_(c), pool_(p) {
    conv_.oh = pool_.h = at_most(c.oh, at_least<int64_t>(0, (p.oh - 1) * p.sh - p.pad_top + p.kh));
    conv_.ow = pool_.w = at_most(c.ow, at_least<int64_t>(0, (p.ow - 1) * p.sw - p.pad_left + p.kw));
    const int64_t image = at_least<int64_t>(1, conv_.oh * conv_.ow * conv_.o * element());
    each_ = at_least<int64_t>(1, at_most(conv_.n, kSliceBytes / image));
    bytes_ = static_cast<size_t>(each_ * image);
  }

  // Of what lies between.
  size_t bytes() const { return bytes_; }
  // Calls f(both arguments for some images, and where they begin in x, y and the index, in bytes).
  template <class F>
  void for_slices(const F& f) const {
    const int64_t pooled = pool_.oh * pool_.ow * pool_.c, position = pool_.kh * pool_.kw <= 256 ? 1 : 4;
    for (int64_t first = 0; first == 0 || first < conv_.n; first += each_) {
      Conv2DArgs conv = conv_;
      Pool2DArgs pool = pool_;
      conv.n = pool.n = at_most(conv_.n - first, each_);
      f(conv, pool, first * conv_.h * conv_.w * conv_.c * element(), first * pooled * element(),
        first * pooled * position);
    }
  }

 private:
  int64_t element() const { return static_cast<int64_t>(size_of(conv_.dtype)); }

  Conv2DArgs conv_;
  Pool2DArgs pool_;
  int64_t each_;  // images of a slice
  size_t bytes_;
};

// Null stays null.
const char* move(const void* data, int64_t bytes) { return data ? static_cast<const char*>(data) + bytes : nullptr; }
char* move(void* data, int64_t bytes) { return data ? static_cast<char*>(data) + bytes : nullptr; }

}  // namespace

void conv2d_max_pool2d(Context& ctx, const Conv2DArgs& conv, const Pool2DArgs& pool, const void* x, const void* w,
                       const void* bias, void* y, void* index) {
  const Pooled pooled(conv, pool);
  const Scratch scratch(ctx, pooled.bytes());
  void* const z = scratch.as<char>();
  pooled.for_slices([&](const Conv2DArgs& c, const Pool2DArgs& p, int64_t x_first, int64_t y_first, int64_t i_first) {
    conv2d(ctx, c, move(x, x_first), w, bias, z);
    max_pool2d(ctx, p, z, move(y, y_first), move(index, i_first));
  });
}

void conv2d_max_pool2d_gradient(Context& ctx, const Conv2DArgs& conv, const Pool2DArgs& pool, const void* x,
                                const void* w, const void* dz, const void* index, void* dx, Write write_dx, void* dw,
                                Write write_dw) {
  const Pooled pooled(conv, pool);
  const Scratch scratch(ctx, pooled.bytes());
  void* const between = scratch.as<char>();
  Write write = write_dw;
  pooled.for_slices([&](const Conv2DArgs& c, const Pool2DArgs& p, int64_t x_first, int64_t z_first, int64_t i_first) {
    max_pool2d_gradient(ctx, p, move(dz, z_first), move(index, i_first), between, Write::overwrite);
    conv2d_gradient(ctx, c, move(x, x_first), w, between, move(dx, x_first), write_dx, dw, write);
    write = Write::accumulate;
  });
}

}  // namespace mica::kernels::MICA_CUDA_BACKEND
