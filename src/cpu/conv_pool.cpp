// CPU convolution and maximum pooling in one: each thread takes some images through both, so that what lies between,
// the largest tensor of many a network, stays in its cache.
#include <new>

#include "cpu/common.h"

namespace mica::kernels::cpu::MICA_CPU_LEVEL {

namespace {

// The images, cut into slices that a thread takes through both kernels: enough pixels of results to be worth what each
// call does with the filters.
class Slices {
 public:
  Slices(const Context& ctx, const Conv2DArgs& conv, const Pool2DArgs& pool)
      : conv_(conv), pool_(pool), image_(conv.oh * conv.ow * conv.o * static_cast<int64_t>(size_of(conv.dtype))),
        parts_(static_cast<int>(conv.n < ctx.threads ? 1 : ctx.threads)), inner_(ctx) {
    constexpr int64_t kPixels = 2048;
    const int64_t part = (conv.n + parts_ - 1) / parts_;
    const int64_t most = min(part, (kPixels + conv.oh * conv.ow - 1) / max(1, conv.oh * conv.ow));
    const int64_t count = (part + max(1, most) - 1) / max(1, most);
    each_ = (part + max(1, count) - 1) / max(1, count);
    if (conv.n < ctx.threads)
      each_ = max(1, conv.n);  // the kernels themselves share them out
    else
      inner_.threads = 1;
  }

  int parts() const { return parts_; }
  // Of what lies between, for one slice.
  int64_t bytes() const { return (each_ * image_ + 63) / 64 * 64; }

  // body(context, convolution and pooling of a slice, its first image, whether it is its part's first, part). The body
  // calls kernels, which take scratch memory: throws std::bad_alloc where there is none.
  template <class Body>
  void run(const Body& body) const {
    bool failed = false;
    parallel::run(parts_, [&](int part) {
      const int64_t begin = conv_.n * part / parts_, end = conv_.n * (part + 1) / parts_;
      try {
        for (int64_t first = begin; first < end; first += each_) {
          Context ctx = inner_;
          Conv2DArgs conv = conv_;
          Pool2DArgs pool = pool_;
          conv.n = pool.n = min(each_, end - first);
          body(ctx, conv, pool, first, first == begin, part);
        }
      } catch (...) {  // of no memory; no exception may leave a part
        __atomic_store_n(&failed, true, __ATOMIC_RELAXED);
      }
    });
    if (failed) throw std::bad_alloc();
  }

 private:
  const Conv2DArgs& conv_;
  const Pool2DArgs& pool_;
  int64_t image_;
  int parts_;
  Context inner_;
  int64_t each_;
};

}  // namespace

void conv2d_max_pool2d(Context& ctx, const Conv2DArgs& conv, const Pool2DArgs& pool, const void* x, const void* w,
                       const void* bias, void* y, void* index) {
  const int64_t in = conv.h * conv.w * conv.c, out = pool.oh * pool.ow * pool.c;
  const Slices slices(ctx, conv, pool);
  const Workspace between = ctx.workspace(static_cast<size_t>(slices.bytes() * slices.parts()));
  for_float(conv.dtype, [&](auto t) {
    using T = decltype(t);
    const int64_t index_size = pool.kh * pool.kw <= 256 ? 1 : 4;
    slices.run([&](Context& c, const Conv2DArgs& a, const Pool2DArgs& b, int64_t first, bool, int part) {
      T* z = between.as<T>(static_cast<size_t>(slices.bytes() * part));
      conv2d(c, a, static_cast<const T*>(x) + first * in, w, bias, z);
      max_pool2d(c, b, z, static_cast<T*>(y) + first * out,
                 index ? static_cast<char*>(index) + first * out * index_size : nullptr);
    });
  });
}

void conv2d_max_pool2d_gradient(Context& ctx, const Conv2DArgs& conv, const Pool2DArgs& pool, const void* x,
                                const void* w, const void* dz, const void* index, void* dx, Write write_dx, void* dw,
                                Write write_dw) {
  const int64_t in = conv.h * conv.w * conv.c, out = pool.oh * pool.ow * pool.c;
  const int64_t filters = conv.kh * conv.kw * (conv.c / conv.groups) * conv.o;
  const Slices slices(ctx, conv, pool);
  for_float(conv.dtype, [&](auto t) {
    using T = decltype(t);
    const int64_t index_size = pool.kh * pool.kw <= 256 ? 1 : 4;
    // Each part adds up its own filters' gradient, the first one in dw itself.
    const int64_t sums = dw ? (filters * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64 : 0;
    const int64_t each = slices.bytes() + sums;
    const Workspace workspace = ctx.workspace(static_cast<size_t>(each * slices.parts()));
    slices.run([&](Context& c, const Conv2DArgs& a, const Pool2DArgs& b, int64_t first, bool is_first, int part) {
      T* between = workspace.as<T>(static_cast<size_t>(each * part));
      max_pool2d_gradient(c, b, static_cast<const T*>(dz) + first * out,
                          static_cast<const char*>(index) + first * out * index_size, between, Write::overwrite);
      if (dx) conv2d_gradient_input(c, a, between, w, static_cast<T*>(dx) + first * in, write_dx);
      if (!dw) return;
      T* sum = part == 0 ? static_cast<T*>(dw) : workspace.as<T>(static_cast<size_t>(each * part + slices.bytes()));
      const Write write = !is_first ? Write::accumulate : part == 0 ? write_dw : Write::overwrite;
      conv2d_gradient_filter(c, a, static_cast<const T*>(x) + first * in, between, sum, write);
    });
    if (!dw) return;
    T* total = static_cast<T*>(dw);
    if (conv.n == 0 && write_dw == Write::overwrite)
      for (int64_t i = 0; i < filters; ++i) total[i] = T(0);
    for (int part = 1; part < slices.parts(); ++part) {
      const T* sum = workspace.as<T>(static_cast<size_t>(each * part + slices.bytes()));
      for (int64_t i = 0; i < filters; ++i) total[i] += sum[i];
    }
  });
}

}  // namespace mica::kernels::cpu::MICA_CPU_LEVEL
