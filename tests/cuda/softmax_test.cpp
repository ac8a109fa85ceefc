// Softmax, cross-entropy and layer normalization on each layout of a row, of which the ops' tests see the short ones.
#include <cmath>

#include "agree.h"

using namespace mica;
using namespace mica::test;

namespace {

struct Rows {
  int64_t n;
  DType dtype = float32;
  int64_t offset = 0;  // of 1: no row is made of packs
};

// Each layout: whole packs, single elements; the last ones do not fit registers.
const Rows kRows[] = {
    {4},  {32},  {100}, {256},  {400},  {1000},           {2048},         {9000},         {20000},
    {10}, {101}, {333}, {3001}, {5001}, {96, float32, 1}, {100, float64}, {300, float64}, {2500, float64}};
constexpr int64_t kCount = 18;  // rows: one more than a block of the shortest has

template <class Body>
void for_rows(const Body& body) {
  for (const Rows& r : kRows) {
    CAPTURE(r.n);
    CAPTURE(r.dtype);
    body(r.n <= 300 ? kCount : 3, r);
  }
}

Tolerance tolerance(const Rows& r) { return r.dtype == float64 ? kFloat64 : Tolerance{2e-5, 2e-6}; }

}  // namespace

TEST_CASE("cuda: softmax, its logarithm and their gradients, in each layout") {
  for_rows([](int64_t rows, const Rows& r) {
    const Tensor x = sample({rows, r.n}, r.dtype, 1, -4, 4), dy = sample({rows, r.n}, r.dtype, 2);
    check_agrees(tolerance(r), [&](Device device) {
      const kernels::Table& table = kernels_for(device);
      Context ctx = context(device);
      Operand y(device, x, r.offset), log_y(device, x, r.offset);  // in place
      table.softmax(ctx, r.dtype, rows, r.n, y.in(), y.out());
      table.log_softmax(ctx, r.dtype, rows, r.n, log_y.in(), log_y.out());
      Operand dx(device, dy, r.offset), log_dx(device, dy, r.offset), sum(device, x, r.offset), d(device, dy, r.offset);
      table.softmax_gradient(ctx, r.dtype, rows, r.n, y.in(), dx.in(), dx.out(), kernels::Write::overwrite);
      table.log_softmax_gradient(ctx, r.dtype, rows, r.n, log_y.in(), log_dx.in(), log_dx.out(),
                                 kernels::Write::overwrite);
      table.softmax_gradient(ctx, r.dtype, rows, r.n, y.in(), d.in(), sum.out(), kernels::Write::accumulate);
      return std::vector<Tensor>{y.read(), log_y.read(), dx.read(), log_dx.read(), sum.read()};
    });
  });
}

TEST_CASE("cuda: rows with infinities and NaN are the CPU's, however long") {
  for (const int64_t n : {int64_t{10}, int64_t{1000}, int64_t{9000}, int64_t{20000}}) {
    CAPTURE(n);
    const float inf = std::numeric_limits<float>::infinity();
    Tensor x = on_cpu(sample({6, n}, float32, 1)), labels = zeros({6}, {int64, Device::cpu()});
    float* const v = x.mutable_data<float>();
    for (int64_t i = 0; i < n; ++i) {
      if (i != n - 1) v[i] = -inf;          // all but the last
      v[n + i] = -inf;                      // all
      if (i >= n / 2) v[2 * n + i] = -inf;  // the second half
      if (i == n / 2) v[3 * n + i] = inf;   // one
      if (i == n / 2) v[4 * n + i] = std::nanf("");
      v[5 * n + i] += i < n / 2 ? -300 : 30;  // of which the maximum so far says little
    }
    check_agrees({2e-5, 2e-6}, [&](Device device) {
      const kernels::Table& table = kernels_for(device);
      Context ctx = context(device);
      const Operand in(device, x), label(device, labels), targets(device, sample({6, n}, float32, 3, 0, 1));
      const int64_t* const at = static_cast<const int64_t*>(label.in());
      Operand y(device, x), log_y(device, x), dz(device, x);
      const Tensor one = sample({6}, float32, 4);
      Operand plain(device, one), smooth(device, one), dense(device, one);
      table.softmax(ctx, float32, 6, n, in.in(), y.out());
      table.log_softmax(ctx, float32, 6, n, in.in(), log_y.out());
      table.sparse_cross_entropy(ctx, float32, 6, n, 0, in.in(), at, plain.out());
      table.sparse_cross_entropy(ctx, float32, 6, n, 1, in.in(), at, smooth.out());
      table.cross_entropy(ctx, float32, 6, n, in.in(), targets.in(), dense.out());
      table.sparse_cross_entropy_gradient(ctx, float32, 6, n, 0, in.in(), at, Operand(device, one).in(), dz.out(),
                                          kernels::Write::overwrite);
      return std::vector<Tensor>{y.read(), log_y.read(), plain.read(), smooth.read(), dense.read(), dz.read()};
    });
  }
}

TEST_CASE("cuda: cross-entropy and its gradients, in each layout") {
  for_rows([](int64_t rows, const Rows& r) {
    const Tensor z = sample({rows, r.n}, r.dtype, 1, -4, 4),
                 t = sample({rows, r.n}, r.dtype, 2, 0, 2.0 / static_cast<double>(r.n)), d = sample({rows}, r.dtype, 3);
    Tensor labels = empty({rows}, {int64, Device::cpu()});
    for (int64_t i = 0; i < rows; ++i) labels.mutable_data<int64_t>()[i] = (i * 7919 + r.n - 1) % r.n;
    check_agrees(tolerance(r), [&](Device device) {
      const kernels::Table& table = kernels_for(device);
      Context ctx = context(device);
      const Operand logits(device, z, r.offset), targets(device, t, r.offset), label(device, labels), dloss(device, d);
      const int64_t* const at = static_cast<const int64_t*>(label.in());
      Operand plain(device, d), smooth(device, d), dense(device, d);
      table.sparse_cross_entropy(ctx, r.dtype, rows, r.n, 0, logits.in(), at, plain.out());
      table.sparse_cross_entropy(ctx, r.dtype, rows, r.n, 0.1, logits.in(), at, smooth.out());
      table.cross_entropy(ctx, r.dtype, rows, r.n, logits.in(), targets.in(), dense.out());
      Operand dz(device, z, r.offset), sum(device, z, r.offset), dense_dz(device, z, r.offset);
      table.sparse_cross_entropy_gradient(ctx, r.dtype, rows, r.n, 0.1, logits.in(), at, dloss.in(), dz.out(),
                                          kernels::Write::overwrite);
      table.sparse_cross_entropy_gradient(ctx, r.dtype, rows, r.n, 0, logits.in(), at, dloss.in(), sum.out(),
                                          kernels::Write::accumulate);
      table.cross_entropy_gradient(ctx, r.dtype, rows, r.n, logits.in(), targets.in(), dloss.in(), dense_dz.out(),
                                   kernels::Write::overwrite);
      return std::vector<Tensor>{plain.read(), smooth.read(), dense.read(), dz.read(), sum.read(), dense_dz.read()};
    });
  });
}

TEST_CASE("cuda: layer_norm and its gradient, in each layout") {
  for_rows([](int64_t rows, const Rows& r) {
    const Tensor x = sample({rows, r.n}, r.dtype, 1, 9, 12), dy = sample({rows, r.n}, r.dtype, 2),
                 gamma = sample({r.n}, r.dtype, 3), one = sample({rows}, r.dtype, 4);
    check_agrees(r.dtype == float64 ? kFloat64 : Tolerance{1e-4, 1e-4}, [&](Device device) {
      const kernels::Table& table = kernels_for(device);
      Context ctx = context(device);
      const Operand in(device, x, r.offset), d(device, dy, r.offset), scale(device, gamma, r.offset);
      Operand y(device, x, r.offset), mean(device, one), inverse(device, one), plain(device, x, r.offset);
      table.layer_norm(ctx, r.dtype, rows, r.n, 1e-5, in.in(), nullptr, nullptr, plain.out(), mean.out(),
                       inverse.out());
      table.layer_norm(ctx, r.dtype, rows, r.n, 1e-5, in.in(), scale.in(), scale.in(), y.out(), mean.out(),
                       inverse.out());
      Operand dx(device, x, r.offset), only_dx(device, x, r.offset), dgamma(device, gamma), dbeta(device, gamma);
      const bool sums = r.n <= 1000;  // of columns, which norm_test.cpp has more of
      table.layer_norm_gradient(ctx, r.dtype, rows, r.n, in.in(), mean.in(), inverse.in(), scale.in(), d.in(), dx.out(),
                                sums ? dgamma.out() : nullptr, sums ? dbeta.out() : nullptr);
      table.layer_norm_gradient(ctx, r.dtype, rows, r.n, in.in(), mean.in(), inverse.in(), nullptr, d.in(),
                                only_dx.out(), nullptr, nullptr);
      return std::vector<Tensor>{y.read(),  plain.read(),   mean.read(),   inverse.read(),
                                 dx.read(), only_dx.read(), dgamma.read(), dbeta.read()};
    });
  });
}
