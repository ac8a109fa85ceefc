// Matrix products, on each device, against a triple loop in float64.
#include "mica/ops/matmul.h"

#include <array>

#include "mica/autograd/gradcheck.h"
#include "mica/ops/reduce.h"
#include "support/devices.h"
#include "support/golden.h"
#include "support/keep_threads.h"
#include "support/wrong_use.h"

using namespace mica;
using namespace mica::test;

namespace {

// Lengths around the edges of register tiles (4, 6 and 14 rows; 8, 16 and 32 columns) and of the blocks above them.
constexpr int64_t kEdges[] = {1, 13, 14, 15, 31, 32, 33, 257};

// c[m,n] of one product, op(a) being [m,k] and op(b) [k,n].
void naive(int64_t m, int64_t n, int64_t k, const double* a, bool ta, const double* b, bool tb, double* c) {
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) c[i * n + j] = 0;
  for (int64_t i = 0; i < m; ++i)
    for (int64_t p = 0; p < k; ++p) {
      const double value = ta ? a[p * m + i] : a[i * k + p];
      for (int64_t j = 0; j < n; ++j) c[i * n + j] += value * (tb ? b[j * k + p] : b[p * n + j]);
    }
}

Tensor naive_matmul(const Tensor& a, const Tensor& b, MatmulOptions options = {}) {
  const auto [ta, tb] = options;
  const int64_t m = a.dim(ta ? -1 : -2), k = a.dim(ta ? -2 : -1), n = b.dim(tb ? -2 : -1);
  Shape shape = a.shape();
  shape[-2] = m;
  shape[-1] = n;
  const std::vector<double> p = doubles(a), q = doubles(b);
  std::vector<double> c(static_cast<size_t>(shape.elements()));
  const int64_t batch = m * n > 0 ? shape.elements() / (m * n) : 0;
  for (int64_t i = 0; i < batch; ++i)
    naive(m, n, k, p.data() + i * m * k, ta, q.data() + (b.rank() == 2 ? 0 : i * k * n), tb, c.data() + i * m * n);
  return tensor(c, shape);
}

Shape stored(int64_t rows, int64_t cols, bool transposed) { return transposed ? Shape{cols, rows} : Shape{rows, cols}; }

Shape with_batch(const Shape& batch, const Shape& matrix) {
  Shape shape = matrix;
  for (int i = batch.rank() - 1; i >= 0; --i) shape = shape.with_first(batch[i]);
  return shape;
}

template <class Body>
void for_each_transpose(const Body& body) {
  for (const bool ta : {false, true})
    for (const bool tb : {false, true}) {
      CAPTURE(ta);
      CAPTURE(tb);
      body(MatmulOptions{ta, tb});
    }
}

void check_matmul(Device device, const Shape& a, const Shape& b, MatmulOptions options = {}) {
  CAPTURE(a);
  CAPTURE(b);
  for (const DType dtype : {float32, float64}) {
    const Tensor x = sample(a, dtype, 1), y = sample(b, dtype, 2);
    const Tensor c = matmul(x.to(device), y.to(device), options);
    CHECK(c.device() == device);
    CHECK(c.dtype() == dtype);
    CHECK(close(c, naive_matmul(x, y, options), tolerance_of(dtype, kSums)));
  }
}

}  // namespace

TEST_CASE("matmul and its gradients are PyTorch's") {
  for (const GoldenCase& c : golden("matmul"))
    replay(c, kSums, [&](const Tensors& x) {
      return matmul(x[0], x[1], {.transpose_a = c.flag("transpose_a"), .transpose_b = c.flag("transpose_b")});
    });
}

TEST_CASE("dense and its gradients are PyTorch's") {
  for (const GoldenCase& c : golden("dense")) {
    const std::string name = c.text("activation");
    const UnaryOp activation =
#define MICA_CHOOSE(function, Functor) name == #function ? UnaryOp::function:
        MICA_UNARY_OPS(MICA_CHOOSE) UnaryOp::abs;
#undef MICA_CHOOSE
    replay(c, kSums, [&](const Tensors& x) { return dense(x[0], x[1], x.size() > 2 ? x[2] : Tensor(), activation); });
  }
}

TEST_CASE("on each device, matmul is the sum of products at every edge of its tiles, however the operands lie") {
  for_each_device([](Device device) {
    for_each_transpose([&](MatmulOptions options) {
      constexpr size_t kCount = std::size(kEdges);
      for (size_t i = 0; i < kCount; ++i)
        for (const size_t j : {0, 1, 3, 6}) {
          const int64_t m = kEdges[i], n = kEdges[(i + j) % kCount], k = kEdges[(i + 3 * j) % kCount];
          check_matmul(device, stored(m, k, options.transpose_a), stored(k, n, options.transpose_b), options);
        }
    });
  });
}

TEST_CASE(
    "matmul is the sum of products over several blocks of rows, columns and steps, and of long or flat operands") {
  struct Product {
    int64_t m, n, k;
  };
  for_each_transpose([&](MatmulOptions options) {
    for (const auto [m, n, k] :
         {Product{30, 1057, 389}, {259, 33, 450}, {1000, 65, 3}, {517, 64, 256}, {7, 2050, 5}, {700, 1, 450}})
      check_matmul({}, stored(m, k, options.transpose_a), stored(k, n, options.transpose_b), options);
  });
}

namespace {
// On the CPU a row has the same bits whatever rows come with it. Elsewhere a product is cut into tiles by all of its
// sizes.
void check_rows(const Tensor& some, const Tensor& of_all) {
  const Verdict verdict = elsewhere() ? close(some, of_all, kSums) : same_bits(some, of_all);
  CHECK(verdict);
}
}  // namespace

TEST_CASE("dense gives a row the same bits whatever rows come with it") {
  for (const int64_t n : {1, 2, 8, 16, 17, 64, 100})
    for (const int64_t k : {1, 2, 3, 17, 400}) {
      CAPTURE(n);
      CAPTURE(k);
      const Tensor x = sample({40, k}, float32, 1), w = sample({k, n}, float32, 2), b = sample({n}, float32, 3);
      for (const UnaryOp activation : {UnaryOp::identity, UnaryOp::relu, UnaryOp::tanh}) {
        const Tensor all = dense(x, w, b, activation);
        for (const int64_t rows : {1, 2, 3, 5, 7, 13, 20})
          for (int64_t i = 0; i + rows <= (emulated() ? rows : 40); i += rows) {
            CAPTURE(rows);
            check_rows(dense(x.slice(i, i + rows), w, b, activation), all.slice(i, i + rows));
          }
      }
    }
}

TEST_CASE("matmul gives a row the same bits whatever rows come with it, where threads share out the columns") {
  const KeepThreads keep(2);
  for (const int64_t n : {1, 17, 33}) {
    const Tensor a = sample({40, 1024}, float32, 1), b = sample({n, 1024}, float32, 2);
    const Tensor all = matmul(a, b, {.transpose_b = true});
    for (const int64_t rows : {1, 8, 20})
      check_rows(matmul(a.slice(0, rows), b, {.transpose_b = true}), all.slice(0, rows));
  }
}

TEST_CASE("products of one column: in batches, with a bias and an activation, added to a gradient") {
  for (const int64_t k : {1, 15, 40, 500}) {
    CAPTURE(k);
    for_each_transpose([&](MatmulOptions options) {
      check_matmul({}, with_batch({3}, stored(9, k, options.transpose_a)),
                   with_batch({3}, stored(k, 1, options.transpose_b)), options);
    });
    const Tensor x = sample({21, k}, float32, 1), w = sample({k, 1}, float32, 2), b = sample({1}, float32, 3);
    const Tensor expected = relu(dense(x.to(float64), w.to(float64), b.to(float64)));
    CHECK(close(dense(x, w, b, UnaryOp::relu), expected, kSums));
    // Used twice, what has one column of its own gets the sum of both gradients.
    const auto gradients = [&](DType dtype) {
      Tensor column = sample({21, 1}, dtype, 4);
      const Tensor wide = sample({1, k}, dtype, 5), other = sample({1, k}, dtype, 6);
      Tape tape;
      tape.watch(column);
      return tape.gradient(sum(matmul(column, wide) * x.to(dtype)) + sum(matmul(column, other)), {column})[0];
    };
    CHECK(close(gradients(float32), gradients(float64), kSums));
  }
}

TEST_CASE("on each device, matmul of batches multiplies each pair, or each matrix with the one on the right") {
  for_each_device([](Device device) {
    for_each_transpose([&](MatmulOptions options) {
      for (const Shape& batch : {Shape{3}, Shape{2, 1, 3}, Shape{1}, Shape{0}, Shape{2, 0}}) {
        const Shape a = with_batch(batch, stored(5, 7, options.transpose_a)), b = stored(7, 17, options.transpose_b);
        check_matmul(device, a, with_batch(batch, b), options);
        check_matmul(device, a, b, options);
      }
    });
  });
}

TEST_CASE("on each device, a product over nothing is zeros, and of nothing is empty") {
  for_each_device([](Device device) {
    for_each_transpose([&](MatmulOptions options) {
      for (const auto& [m, n, k] : {std::array<int64_t, 3>{3, 5, 0}, {0, 5, 3}, {3, 0, 5}, {0, 0, 0}})
        check_matmul(device, stored(m, k, options.transpose_a), stored(k, n, options.transpose_b), options);
    });
  });
}

TEST_CASE("dense over nothing is the bias through the activation") {
  for (const DType dtype : {float32, float64}) {
    const Tensor x = zeros({2, 0}, {dtype}), w = zeros({0, 3}, {dtype}), bias = tensor({-1, 0, 2}, {dtype});
    CHECK(close(dense(x, w, bias, UnaryOp::relu), {0, 0, 2, 0, 0, 2}));
    CHECK(close(dense(x, w), {0, 0, 0, 0, 0, 0}));
  }
}

TEST_CASE("dense with each activation is the activation of dense") {
  for (const DType dtype : {float32, float64})
    for (const int64_t n : {1, 7, 16, 33}) {
      const Tensor x = sample({3, 5}, dtype, 1, 0.2, 1), w = sample({5, n}, dtype, 2, 0.2, 1),
                   b = sample({n}, dtype, 3, 0.2, 1);
      const Tensor z = dense(x, w, b);
#define MICA_CHECK(function, Functor) \
  CHECK(close(dense(x, w, b, UnaryOp::function), function(z), tolerance_of(dtype, kPointwise)));
      MICA_UNARY_OPS(MICA_CHECK)
#undef MICA_CHECK
    }
}

TEST_CASE("matmul passes a gradient check, however the operands lie") {
  for_each_transpose([](MatmulOptions options) {
    const auto check = [&](const Shape& batch_a, const Shape& batch_b, int64_t m, int64_t n, int64_t k) {
      const Shape a = with_batch(batch_a, stored(m, k, options.transpose_a));
      const Shape b = with_batch(batch_b, stored(k, n, options.transpose_b));
      CAPTURE(a);
      CAPTURE(b);
      CHECK(gradcheck([&](const Tensors& x) { return matmul(x[0], x[1], options); },
                      {sample(a), sample(b, float64, 1)}) <= 1e-6);
    };
    check({}, {}, 1, 1, 1);
    check({}, {}, 3, 5, 7);
    check({}, {}, 3, 5, 0);
    check({}, {}, 0, 5, 3);
    check({}, {}, 3, 0, 1);
    check({3}, {3}, 2, 5, 3);
    check({2, 1}, {2, 1}, 3, 1, 5);
    check({3}, {}, 2, 5, 3);
    check({2, 3}, {}, 1, 3, 2);
    check({0}, {}, 2, 3, 1);
    check({0}, {0}, 2, 3, 1);
    check({}, {3}, 2, 5, 3);
    check({2, 1}, {3}, 1, 3, 2);
    check({1}, {0}, 2, 3, 1);
  });
}

TEST_CASE("dense passes a gradient check with and without bias, with each activation") {
  const std::pair<Shape, int64_t> shapes[] = {{{1, 1}, 1}, {{3, 5}, 7}, {{5}, 3},   {{2, 3, 5}, 1},
                                              {{0, 3}, 5}, {{3, 0}, 5}, {{2, 3}, 0}};
#define MICA_OP(function, Functor) UnaryOp::function,
  for (const UnaryOp activation : {MICA_UNARY_OPS(MICA_OP)})
#undef MICA_OP
    for (const auto& pair : shapes) {
      const Shape& shape = pair.first;
      const int64_t units = pair.second;
      CAPTURE(static_cast<int>(activation));
      CAPTURE(shape);
      CAPTURE(units);
      // A log or square root over no features is the one of the bias, so that is above 0 as well.
      const Tensor x = sample(shape, float64, 1, 0.1, 1), w = sample({shape[-1], units}, float64, 2, 0.1, 1);
      const Tensor b = sample({units}, float64, 3, 0.5, 1);
      const auto f = [&](const Tensors& t) { return dense(t[0], t[1], t.size() > 2 ? t[2] : Tensor(), activation); };
      CHECK(gradcheck(f, {x, w, b}) <= 1e-6);
      if (shape[-1] > 0) CHECK(gradcheck(f, {x, w}) <= 1e-6);
    }
}

TEST_CASE("matmul and dense refuse operands that do not fit") {
  const Tensor a = ones({2, 3}), x = ones({4, 3});
  check_wrong_use({
      {"[matmul] inner sizes must match: [2,3] and [2,3]", [=] { matmul(a, a); }},
      {"[matmul] inner sizes must match: [2,3] transposed and [4,3]", [=] { matmul(a, x, {.transpose_a = true}); }},
      {"[matmul] inner sizes must match: [2,3] and [2,4] transposed",
       [=] {
         matmul(a, ones({2, 4}), {.transpose_b = true});
       }},
      {"[matmul] operands must have at least one axis: [] and [3,2]",
       [=] {
         matmul(ones({}), ones({3, 2}));
       }},
      {"[matmul] a vector cannot be transposed: [3] and [3,2]",
       [=] {
         matmul(ones({3}), ones({3, 2}), {.transpose_a = true});
       }},
      {"[matmul] inner sizes must match: [1,4] and [3,2]",
       [=] {
         matmul(ones({4}), ones({3, 2}));
       }},
      {"[matmul] shapes do not broadcast: [5] and [4]",
       [=] {
         matmul(ones({5, 2, 3}), ones({4, 3, 2}));
       }},
      {"[matmul] the first operand must be float32 or float64, got int32", [=] { matmul(a.to(int32), a); }},
      {"[matmul] dtypes must match: float32 and float64 (the second operand)", [=] { matmul(a, a.to(float64)); }},
      {"[matmul] the first operand is undefined", [=] { matmul({}, a); }},
      {"[matmul] the second operand is undefined", [=] { matmul(a, {}); }},
      {"[matmul] " + two_devices() + " (the second operand)", [=] { matmul(a, a.to(another_device())); }},
      {"[dense] the kernel must have 2 axes, got [3]", [=] { dense(x, ones({3})); }},
      {"[dense] the input's last axis must match the kernel's first: input [4,3], kernel [2,3]", [=] { dense(x, a); }},
      {"[dense] the input's last axis must match the kernel's first: input [], kernel [2,3]",
       [=] { dense(ones({}), a); }},
      {"[dense] the bias must have one value for each of the kernel's 2 columns, got [3]",
       [=] {
         dense(x, ones({3, 2}), ones({3}));
       }},
      {"[dense] the bias must have one value for each of the kernel's 2 columns, got [1,2]",
       [=] {
         dense(x, ones({3, 2}), ones({1, 2}));
       }},
      {"[dense] dtypes must match: float32 and float64 (the bias)",
       [=] {
         dense(x, ones({3, 2}), ones({2}, {float64}));
       }},
      {"[dense] the input must be float32 or float64, got uint8",
       [=] {
         dense(ones({2, 2}, {uint8}), a);
       }},
  });
}
