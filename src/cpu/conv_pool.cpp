// CPU convolution and maximum pooling in one: each thread takes some images through both, so that what lies between,
// the largest tensor of many a network, stays in its cache.
#include "cpu/common.h"

namespace mica::kernels::cpu::MICA_CPU_LEVEL {

namespace {

// The images, cut into slices that a thread takes through both kernels: enough pixels of results to be worth what each
// call does with the filters.
class Slices {
 public:
  Slices(const Context& ctx, const Conv2DArgs& conv, const Pool2DArgs& pool)
      : conv_(conv), pool_(pool), image_(conv.oh * conv.ow * conv.o * static_cast<int64_t>(size_of(conv.dtype))),
        parts_(static_cast<int>(conv.n < ctx.threads || conv.groups > 1 ? 1 : ctx.threads)), inner_(ctx) {
    constexpr int64_t kPixels = 2048;
    const int64_t part = (conv.n + parts_ - 1) / parts_;
    const int64_t most = min(part, (kPixels + conv.oh * conv.ow - 1) / max(1, conv.oh * conv.ow));
    const int64_t count = (part + max(1, most) - 1) / max(1, most);
    each_ = (part + max(1, count) - 1) / max(1, count);
    if (conv.n < ctx.threads || conv.groups > 1)
      each_ = max(1, conv.n);  // the kernels themselves share them out
    else
      inner_.threads = 1;
  }

  int parts() const { return parts_; }
  // Of what lies between, for one slice.
  int64_t bytes() const { return (each_ * image_ + 63) / 64 * 64; }

  // The scratch memory that kernel(context, convolution of a slice) takes, where a part has to bring it: parts take
  // none themselves, so that how much there is in all does not depend on which of them meet.
  template <class Kernel>
  int64_t scratch(const Kernel& kernel) const {
    if (parts_ == 1) return 0;
    Scratch measured;
    Context ctx = inner_;
    ctx.scratch = &measured;
    Conv2DArgs conv = conv_;
    conv.n = each_;
    kernel(ctx, conv);
    return static_cast<int64_t>(measured.most);
  }

  // body(context, convolution and pooling of a slice, its first image, whether it is its part's first, part), with
  // scratch(part) for the kernels that it calls.
  template <class ScratchOf, class Body>
  void run(const ScratchOf& scratch_of, const Body& body) const {
    parallel::run(parts_, [&](int part) {
      const int64_t begin = conv_.n * part / parts_, end = conv_.n * (part + 1) / parts_;
      Context ctx = inner_;
      Scratch scratch{scratch_of(part)};
      if (parts_ > 1) ctx.scratch = &scratch;
      for (int64_t first = begin; first < end; first += each_) {
        Conv2DArgs conv = conv_;
        Pool2DArgs pool = pool_;
        conv.n = pool.n = min(each_, end - first);
        body(ctx, conv, pool, first, first == begin, part);
      }
    });
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
  const int64_t scratch =
      slices.scratch([&](Context& c, const Conv2DArgs& a) { conv2d(c, a, nullptr, nullptr, nullptr, nullptr); });
  const int64_t each = slices.bytes() + scratch;
  const Workspace workspace = ctx.workspace(static_cast<size_t>(each * slices.parts()));
  const auto scratch_of = [&](int part) {
    return workspace.as<char>(static_cast<size_t>(each * part + slices.bytes()));
  };
  for_float(conv.dtype, [&](auto t) {
    using T = decltype(t);
    const int64_t index_size = pool.kh * pool.kw <= 256 ? 1 : 4;
    slices.run(scratch_of, [&](Context& c, const Conv2DArgs& a, const Pool2DArgs& b, int64_t first, bool, int part) {
      T* z = workspace.as<T>(static_cast<size_t>(each * part));
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
    const int64_t scratch = slices.scratch([&](Context& c, const Conv2DArgs& a) {
      if (dx) conv2d_gradient_input(c, a, nullptr, nullptr, nullptr, Write::overwrite);
      if (dw) conv2d_gradient_filter(c, a, nullptr, nullptr, nullptr, Write::overwrite);
    });
    const int64_t each = slices.bytes() + sums + scratch;
    const Workspace workspace = ctx.workspace(static_cast<size_t>(each * slices.parts()));
    const auto scratch_of = [&](int part) {
      return workspace.as<char>(static_cast<size_t>(each * part + slices.bytes() + sums));
    };
    slices.run(
        scratch_of, [&](Context& c, const Conv2DArgs& a, const Pool2DArgs& b, int64_t first, bool is_first, int part) {
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
