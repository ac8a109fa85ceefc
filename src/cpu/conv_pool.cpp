// CPU convolution and maximum pooling in one: each thread takes some images through both, so that what lies between,
// the largest tensor of many a network, stays in its cache. Of fewer images than threads, and of groups, it is whole.
#include "cpu/conv.h"

namespace mica::kernels::cpu::MICA_CPU_LEVEL {

namespace {

// Both, without those results of the convolution that no window of the pooling reaches.
struct Pooled {
  Pooled(const Context& ctx, const Conv2DArgs& c, const Pool2DArgs& p) : conv(c), pool(p), one(ctx) {
    conv.oh = pool.h = min(c.oh, max(0, (p.oh - 1) * p.sh - p.pad_top + p.kh));
    conv.ow = pool.w = min(c.ow, max(0, (p.ow - 1) * p.sw - p.pad_left + p.kw));
    in_stages = c.groups == 1 && c.n >= ctx.threads;
    one.threads = 1;
  }
  // Of images from `first` on, in tensors of pooling's results.
  int64_t at(int64_t first) const { return first * pool.oh * pool.ow * pool.c; }
  size_t index_at(int64_t first) const {
    return static_cast<size_t>(at(first)) * (pool.kh * pool.kw <= 256 ? sizeof(uint8_t) : sizeof(int32_t));
  }
  Pool2DArgs images(int64_t count) const {
    Pool2DArgs some = pool;
    some.n = count;
    return some;
  }
  // What lies between, of all images.
  size_t bytes() const { return static_cast<size_t>(conv.n * conv.oh * conv.ow * conv.o) * size_of(conv.dtype); }

  Conv2DArgs conv;
  Pool2DArgs pool;
  Context one;     // of a part
  bool in_stages;  // else the kernels themselves share out the few images, one after the other
};

}  // namespace

void conv2d_max_pool2d(Context& ctx, const Conv2DArgs& conv, const Pool2DArgs& pool, const void* x, const void* w,
                       const void* bias, void* y, void* index) {
  const Pooled p(ctx, conv, pool);
  if (!p.in_stages) {
    const Workspace z = ctx.workspace(p.bytes());
    conv2d(ctx, p.conv, x, w, bias, z.as<char>());
    return max_pool2d(ctx, p.pool, z.as<char>(), y, index);
  }
  for_float(conv.dtype, [&](auto t) {
    using T = decltype(t);
    const auto take = [&](int64_t first, int64_t count, T* z) {
      Context one = p.one;
      max_pool2d(one, p.images(count), z, static_cast<T*>(y) + p.at(first),
                 index ? static_cast<char*>(index) + p.index_at(first) : nullptr);
    };
    const Stage<T> stage(take);
    convolve<T>(ctx, p.conv, static_cast<const T*>(x), static_cast<const T*>(w), static_cast<const T*>(bias), nullptr,
                &stage);
  });
}

void conv2d_max_pool2d_gradient(Context& ctx, const Conv2DArgs& conv, const Pool2DArgs& pool, const void* x,
                                const void* w, const void* dz, const void* index, void* dx, Write write_dx, void* dw,
                                Write write_dw) {
  const Pooled p(ctx, conv, pool);
  if (!p.in_stages) {
    const Workspace between = ctx.workspace(p.bytes());
    max_pool2d_gradient(ctx, p.pool, dz, index, between.as<char>(), Write::overwrite);
    return conv2d_gradient(ctx, p.conv, x, w, between.as<char>(), dx, write_dx, dw, write_dw);
  }
  for_float(conv.dtype, [&](auto t) {
    using T = decltype(t);
    const auto bring = [&](int64_t first, int64_t count, T* between) {
      Context one = p.one;
      max_pool2d_gradient(one, p.images(count), static_cast<const T*>(dz) + p.at(first),
                          static_cast<const char*>(index) + p.index_at(first), between, Write::overwrite);
    };
    const Stage<T> stage(bring);
    convolve_gradient<T>(ctx, p.conv, static_cast<const T*>(x), static_cast<const T*>(w), nullptr, static_cast<T*>(dx),
                         write_dx, static_cast<T*>(dw), write_dw, &stage);
  });
}

}  // namespace mica::kernels::cpu::MICA_CPU_LEVEL
