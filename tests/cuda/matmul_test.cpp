// The CUDA products beside the CPU's: each tile, each way of reading memory, and products of vectors.
#include <doctest/doctest.h>

#include <cmath>

#include "kernels/kernels.h"
#include "mica/core/stream.h"
#include "support/devices.h"
#include "support/pinned.h"

using namespace mica;
using namespace mica::kernels;

namespace {

using test::Pinned;

template <class T>
Pinned<T> numbers(int64_t count, int64_t salt) {
  Pinned<T> values(count);
  for (int64_t i = 0; i < count; ++i) values[i] = static_cast<T>(((i + salt) * 7919 + 13) % 101 - 50) / 32;
  return values;
}

struct Size {
  int64_t m, n, k, batch = 1;
  int64_t pad = 0;    // of leading dimensions, and between products
  int64_t shift = 0;  // elements from where memory is aligned
};

// In each transposition, with bias and activation and added to what is there.
template <class T>
void check_products(const Size& s) {
  CAPTURE(s.m);
  CAPTURE(s.n);
  CAPTURE(s.k);
  for (int form = 0; form < 12; ++form) {
    CAPTURE(form);
    MatmulArgs args;
    args.dtype = dtype_of<T>;
    args.m = s.m;
    args.n = s.n;
    args.k = s.k;
    args.transpose_a = form & 1;
    args.transpose_b = form & 2;
    args.lda = (args.transpose_a ? s.m : s.k) + s.pad;
    args.ldb = (args.transpose_b ? s.k : s.n) + s.pad;
    args.ldc = s.n + s.pad;
    args.batch = s.batch;
    args.a_batch_stride = args.lda * (args.transpose_a ? s.k : s.m);
    args.b_batch_stride = args.ldb * (args.transpose_b ? s.n : s.k);
    args.c_batch_stride = args.ldc * s.m;
    const Pinned<T> a = numbers<T>(args.a_batch_stride * s.batch + s.shift, 1),
                    b = numbers<T>(args.b_batch_stride * s.batch + s.shift, 2), bias = numbers<T>(s.n, 3);
    if (form >= 8)
      args.write = Write::accumulate;
    else if (form >= 4)
      args.bias = bias.data();
    if (form >= 4 && form < 8) args.activation = form % 2 ? UnaryOp::tanh : UnaryOp::relu;
    Pinned<T> expected;
    test::for_each_device([&](Device device) {
      Context ctx = context(device);
      Pinned<T> c = numbers<T>(args.c_batch_stride * s.batch + s.shift, 4);
      table(device).matmul(ctx, args, a.data() + s.shift, b.data() + s.shift, c.data() + s.shift);
      synchronize(device);
      if (device == Device::cpu()) expected = Pinned<T>(c);
      double worst = 0;
      for (int64_t i = 0; i < c.size(); ++i) {
        const double wanted = static_cast<double>(expected[i]), d = std::abs(static_cast<double>(c[i]) - wanted);
        worst = d / (1 + std::abs(wanted)) <= worst ? worst : d != d ? HUGE_VAL : d / (1 + std::abs(wanted));
      }
      CHECK(worst < (sizeof(T) == 4 ? 1e-4 : 1e-12));
    });
  }
}

}  // namespace

TEST_CASE_TEMPLATE("cuda: products: each tile, aligned or not", T, float, double) {
  check_products<T>({100, 72, 12, 192});       // 128 x 128
  check_products<T>({70, 66, 300, 1, 2});      // 64 x 64, in splits
  check_products<T>({130, 12, 20});            // 128 x 32
  check_products<T>({20, 132, 260, 1, 4});     // 32 x 128, in splits
  check_products<T>({20, 132, 260, 2, 0, 1});  // the same, unaligned
}

TEST_CASE_TEMPLATE("cuda: products: vectors", T, float, double) {
  check_products<T>({36, 1, 68, 3});
  check_products<T>({1, 260, 1028, 2});
  check_products<T>({9, 1, 4500, 1, 1});
  check_products<T>({1, 60, 4500, 1, 4});
  check_products<T>({1, 60, 4500, 1, 1, 1});
  check_products<T>({1, 1, 2100, 1, 0, 1});
  check_products<T>({5, 1, 0});
}
