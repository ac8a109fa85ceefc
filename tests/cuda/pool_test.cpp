// Pooling: each window that has a kernel of its own and the others, borders, gaps, channels that are not whole packs.
#include <cmath>

#include "agree.h"

using namespace mica;
using namespace mica::test;

namespace {

kernels::Pool2DArgs pooling(int64_t h, int64_t w, int64_t c, int64_t k, int64_t stride, int64_t pad, DType dtype) {
  kernels::Pool2DArgs a{.dtype = dtype, .n = 3, .h = h, .w = w, .c = c, .kh = k, .kw = k, .sh = stride, .sw = stride};
  a.pad_top = a.pad_left = pad;
  a.oh = (h + 2 * pad - k) / stride + 1;
  a.ow = (w + 2 * pad - k) / stride + 1;
  return a;
}

}  // namespace

TEST_CASE("cuda: pooling and its gradients") {
  struct Case {
    int64_t h, w, c, k, stride, pad;
  };
  for (const Case& p : {Case{8, 8, 8, 2, 2, 0},
                        {7, 9, 4, 2, 2, 0},
                        {7, 8, 3, 2, 2, 0},
                        {9, 11, 4, 3, 2, 1},
                        {6, 6, 5, 3, 1, 1},
                        {5, 5, 8, 2, 1, 0},
                        {13, 10, 4, 4, 5, 0},
                        {11, 9, 6, 5, 3, 2},
                        {20, 19, 4, 17, 2, 3},
                        {18, 17, 3, 17, 1, 0},
                        {4, 4, 68, 4, 4, 0}})
    for (const DType dtype : {float32, float64}) {
      CAPTURE(p.h);
      CAPTURE(p.c);
      CAPTURE(p.k);
      CAPTURE(dtype);
      const kernels::Pool2DArgs a = pooling(p.h, p.w, p.c, p.k, p.stride, p.pad, dtype);
      Tensor x = on_cpu(sample({a.n, a.h, a.w, a.c}, float32, 1, -3, 3));
      float* const v = x.mutable_data<float>();
      for (int64_t i = 0; i < x.elements(); ++i) {
        v[i] = std::floor(v[i]);  // with ties
        if (i % 97 == 50) v[i] = NAN;
        if (i % 5 == 1) v[i] = -INFINITY;
      }
      x = x.to(dtype);
      const Tensor finite = sample({a.n, a.h, a.w, a.c}, dtype, 2), dy = sample({a.n, a.oh, a.ow, a.c}, dtype, 3);
      const Tensor index = zeros(dy.shape(), {a.kh * a.kw <= 256 ? uint8 : int32, Device::cpu()});
      check_agrees(tolerance_of(dtype, kPointwise), [&](Device device) {
        const kernels::Table& table = kernels_for(device);
        Context ctx = context(device);
        const Operand in(device, x), d(device, dy), plain(device, finite);
        Operand y(device, dy), same(device, dy), where(device, index), mean(device, dy);
        Operand dx(device, finite), sum(device, finite), mean_dx(device, finite), mean_sum(device, finite);
        table.max_pool2d(ctx, a, in.in(), y.out(), where.out());
        table.max_pool2d(ctx, a, in.in(), same.out(), nullptr);
        table.max_pool2d_gradient(ctx, a, d.in(), where.in(), dx.out(), kernels::Write::overwrite);
        table.max_pool2d_gradient(ctx, a, d.in(), where.in(), sum.out(), kernels::Write::accumulate);
        table.average_pool2d(ctx, a, plain.in(), mean.out());
        table.average_pool2d_gradient(ctx, a, d.in(), mean_dx.out(), kernels::Write::overwrite);
        table.average_pool2d_gradient(ctx, a, d.in(), mean_sum.out(), kernels::Write::accumulate);
        return std::vector<Tensor>{y.read(),   same.read(), where.read(),   dx.read(),
                                   sum.read(), mean.read(), mean_dx.read(), mean_sum.read()};
      });
    }
}
