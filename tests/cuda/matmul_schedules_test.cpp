// matmul under the emulation of CUDA threads: the same bits under each schedule, and each of its barriers is needed.
#define MICA_EMULATED
#include <doctest/doctest.h>

#include <cstring>
#include <memory>
#include <utility>

#include "cuda/core/launch.h"
#include "cuda/table.h"
#include "kernels/switch.h"
#include "schedules.h"
#include "support/error_text.h"

using namespace mica;
using namespace mica::kernels;
using namespace mica::kernels::emulated;
using namespace mica::test;

namespace {

struct Case {
  int64_t m, n, k;
  bool transpose_a = false, transpose_b = false;
  int64_t batch = 1;
  int64_t pad = 0;  // added to each leading dimension, and between products
  bool bias = false;
  UnaryOp activation = UnaryOp::identity;
  Write write = Write::overwrite;
};

double number(int64_t i) { return static_cast<double>((i * 7919 + 13) % 101 - 50) / 32; }

double activate(UnaryOp op, double x) {
  double y = 0;
  for_unary(op, [&](auto f) { y = f.forward(x); });
  return y;
}

// A vector whose memory ends where its elements do, so that the address sanitizer sees one step too far.
template <class T>
std::unique_ptr<T[]> numbers(int64_t count, int64_t salt) {
  auto values = std::make_unique<T[]>(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) values[i] = static_cast<T>(number(i + salt));
  return values;
}

template <class T>
struct Product {
  MatmulArgs args;
  std::unique_ptr<T[]> a, b, bias, c;
  int64_t c_count = 0;

  explicit Product(const Case& q) {
    args.dtype = dtype_of<T>;
    args.m = q.m;
    args.n = q.n;
    args.k = q.k;
    args.transpose_a = q.transpose_a;
    args.transpose_b = q.transpose_b;
    args.lda = (q.transpose_a ? q.m : q.k) + q.pad;
    args.ldb = (q.transpose_b ? q.k : q.n) + q.pad;
    args.ldc = q.n + q.pad;
    args.batch = q.batch;
    args.a_batch_stride = args.lda * (q.transpose_a ? q.k : q.m) + q.pad;
    args.b_batch_stride = args.ldb * (q.transpose_b ? q.n : q.k) + q.pad;
    args.c_batch_stride = args.ldc * q.m + q.pad;
    args.activation = q.activation;
    args.write = q.write;
    a = numbers<T>(args.a_batch_stride * q.batch, 0);
    b = numbers<T>(args.b_batch_stride * q.batch, 31);
    bias = numbers<T>(q.n, 5);
    if (q.bias) args.bias = bias.get();
    c_count = args.c_batch_stride * q.batch;
    c = numbers<T>(c_count, 17);
  }

  void run() {
    Context ctx;
    ctx.device = {Device::Type::cuda_emulated, 0};
    // Tensors without elements may have no memory.
    table(ctx.device).matmul(ctx, args, args.k ? a.get() : nullptr, args.k ? b.get() : nullptr, c.get());
  }

  /// What c is to be, computed plainly.
  std::vector<double> expected() const {
    std::vector<double> y(static_cast<size_t>(c_count));
    for (int64_t i = 0; i < c_count; ++i) y[i] = static_cast<double>(static_cast<T>(number(i + 17)));
    for (int64_t p = 0; p < args.batch; ++p)
      for (int64_t i = 0; i < args.m; ++i)
        for (int64_t j = 0; j < args.n; ++j) {
          double sum = 0;
          for (int64_t k = 0; k < args.k; ++k)
            sum += static_cast<double>(
                       a[p * args.a_batch_stride + (args.transpose_a ? k * args.lda + i : i * args.lda + k)]) *
                   static_cast<double>(
                       b[p * args.b_batch_stride + (args.transpose_b ? j * args.ldb + k : k * args.ldb + j)]);
          if (args.bias) sum += static_cast<double>(bias[j]);
          double& at = y[p * args.c_batch_stride + i * args.ldc + j];
          at = args.write == Write::accumulate ? at + sum : activate(args.activation, sum);
        }
    return y;
  }

  /// The largest difference; what lies between the rows counts as well. Not a number is infinitely far.
  double error() const {
    const std::vector<double> wanted = expected();
    double worst = 0;
    for (int64_t i = 0; i < c_count; ++i) {
      const double difference = std::abs(static_cast<double>(c[i]) - wanted[i]) / (1 + std::abs(wanted[i]));
      worst = difference <= worst ? worst : difference != difference ? HUGE_VAL : difference;
    }
    return worst;
  }
};

template <class T>
constexpr double kTolerance = sizeof(T) == 4 ? 2e-5 : 1e-12;

template <class T>
void check_matmul(const Case& q) {
  CAPTURE(q.m);
  CAPTURE(q.n);
  CAPTURE(q.k);
  CAPTURE(q.transpose_a);
  CAPTURE(q.transpose_b);
  CAPTURE(q.batch);
  CAPTURE(static_cast<int>(q.activation));
  std::unique_ptr<T[]> first;
  under_each_schedule([&] {
    Product<T> product(q);
    product.run();
    CHECK(product.error() < kTolerance<T>);
    // The order in which threads run must not show in a single bit.
    if (!first)
      first = std::move(product.c);
    else
      CHECK(std::memcmp(first.get(), product.c.get(), static_cast<size_t>(product.c_count) * sizeof(T)) == 0);
  });
}

struct Registered {
  Registered() { register_emulated(); }
} registered;

}  // namespace

TEST_CASE_TEMPLATE("emulated matmul: shapes, transposes, batches, leading dimensions", T, float, double) {
  for (int transposes = 0; transposes < 4; ++transposes) {
    const bool ta = transposes & 1, tb = transposes & 2;
    check_matmul<T>({1, 1, 1, ta, tb});
    check_matmul<T>({3, 5, 7, ta, tb});
    check_matmul<T>({64, 64, 16, ta, tb});
    check_matmul<T>({65, 67, 33, ta, tb, 1, 3});
    check_matmul<T>({1, 130, 40, ta, tb, 3, 1});
    check_matmul<T>({70, 1, 17, ta, tb, 2});
  }
}

TEST_CASE_TEMPLATE("emulated matmul: empty sizes", T, float, double) {
  check_matmul<T>({0, 5, 3});
  check_matmul<T>({5, 0, 3});
  check_matmul<T>({5, 3, 2, false, false, 0});
  check_matmul<T>({5, 3, 0});                                                                   // zeros
  check_matmul<T>({5, 3, 0, true, true, 2, 1, true, UnaryOp::relu});                            // relu(bias)
  check_matmul<T>({5, 3, 0, false, false, 1, 0, false, UnaryOp::identity, Write::accumulate});  // unchanged
}

TEST_CASE_TEMPLATE("emulated matmul: bias, each activation, accumulate", T, float, double) {
#define MICA_CHECK_ACTIVATION(function, Functor)                                      \
  if (scalar::Functor::low < 0) { /* NaN outside of the others' domains is no test */ \
    check_matmul<T>({9, 66, 5, false, true, 1, 1, true, UnaryOp::function});          \
    check_matmul<T>({9, 66, 5, true, false, 1, 0, false, UnaryOp::function});         \
  }
  MICA_FUSED_OPS(MICA_CHECK_ACTIVATION)
#undef MICA_CHECK_ACTIVATION
  for (int transposes = 0; transposes < 4; ++transposes)
    check_matmul<T>(
        {67, 5, 35, (transposes & 1) != 0, (transposes & 2) != 0, 2, 2, false, UnaryOp::identity, Write::accumulate});
}

TEST_CASE("emulated matmul: other dtypes are refused") {
  Product<float> product({2, 2, 2});
  product.args.dtype = int32;
  CHECK(error_text([&] { product.run(); }) == "[matmul] the CUDA kernel multiplies float32 and float64, not int32");
}

TEST_CASE("emulated matmul: each of its barriers is needed") {
  // Three slices of the depth, so that both buffers are written again.
  CHECK(each_barrier_is_needed([] {
          Product<float> product({70, 66, 48});
          product.run();
          return product.error() < kTolerance<float>;
        }) == 1);
}
