// Batch normalization: columns cut into strips and splits, threads that sum several runs of rows, and what is not whole
// packs.
#include "agree.h"

using namespace mica;
using namespace mica::test;

namespace {

struct Columns {
  int64_t rows, n;
  DType dtype = float32;
  int64_t offset = 0;
};

const Columns kColumns[] = {{3000, 64},           {999, 3},          {5, 1000},        {4000, 1}, {1, 8},
                            {70, 64, float32, 1}, {300, 6, float64}, {300, 7, float64}};

template <class Body>
void for_columns(const Body& body) {
  for (const Columns& c : kColumns) {
    CAPTURE(c.rows);
    CAPTURE(c.n);
    CAPTURE(c.dtype);
    body(c);
  }
}

constexpr Tolerance kMoments{5e-6, 1e-8};

// The CPU's are made in float64, which is the truth.
std::vector<Tensor> moments(Device device, const Columns& c) {
  Tensor x = on_cpu(sample({c.rows, c.n}, float32, 1, 1000, 1001));
  x.mutable_data<float>()[0] = 5000;  // far from the others
  const DType dtype = device == Device::cpu() ? float64 : c.dtype;
  Operand mean(device, sample({c.n}, dtype)), variance(device, sample({c.n}, dtype));
  Context ctx = context(device);
  kernels_for(device).column_moments(ctx, dtype, c.rows, c.n, Operand(device, x.to(dtype), c.offset).in(), mean.out(),
                                     variance.out());
  return {mean.read(), variance.read()};
}

}  // namespace

TEST_CASE("cuda: column_moments of values far from 0 are float64's") {
  for_columns([](const Columns& c) {
    check_agrees(c.dtype == float64 ? kFloat64 : kMoments, [&](Device device) { return moments(device, c); });
  });
}

TEST_CASE("cuda: threads that sum several runs of rows") {
  const Columns c{520, 16385};  // as many columns as make one split of the rows
  const std::vector<Tensor> expected = moments(Device::cpu(), c);
  for (const Device device : cuda_devices()) {
    CAPTURE(device);
    const std::vector<Tensor> actual = moments(device, c);
    CHECK(close(actual[0], expected[0], kMoments));
    CHECK(close(actual[1], expected[1], kMoments));
  }
}

TEST_CASE("cuda: batch_norm and its gradient") {
  for_columns([](const Columns& c) {
    const Tensor x = sample({c.rows, c.n}, c.dtype, 1), dy = sample({c.rows, c.n}, c.dtype, 2),
                 mean = sample({c.n}, c.dtype, 3), inverse = sample({c.n}, c.dtype, 4, 0.5, 2);
    check_agrees(c.dtype == float64 ? kFloat64 : Tolerance{1e-5, 1e-4}, [&](Device device) {
      const kernels::Table& table = kernels_for(device);
      Context ctx = context(device);
      const Operand in(device, x, c.offset), d(device, dy, c.offset), m(device, mean), v(device, inverse);
      Operand y(device, x, c.offset), dx(device, x, c.offset), dgamma(device, mean), dbeta(device, mean);
      table.batch_norm(ctx, c.dtype, c.rows, c.n, in.in(), m.in(), v.in(), v.in(), m.in(), y.out());
      table.batch_norm_gradient(ctx, c.dtype, c.rows, c.n, true, in.in(), m.in(), v.in(), v.in(), d.in(), dx.out(),
                                dgamma.out(), dbeta.out());
      Operand given(device, x, c.offset);
      table.batch_norm_gradient(ctx, c.dtype, c.rows, c.n, false, in.in(), m.in(), v.in(), nullptr, d.in(), given.out(),
                                nullptr, nullptr);
      return std::vector<Tensor>{y.read(), dx.read(), dgamma.read(), dbeta.read(), given.read()};
    });
  });
}

TEST_CASE("cuda: moments of no rows are NaN, and their gradients 0") {
  check_agrees(kExact, [](Device device) {
    Context ctx = context(device);
    Operand mean(device, ones({5})), variance(device, ones({5})), dgamma(device, ones({5})), dbeta(device, ones({5}));
    kernels_for(device).column_moments(ctx, float32, 0, 5, nullptr, mean.out(), variance.out());
    kernels_for(device).batch_norm_gradient(ctx, float32, 0, 5, true, nullptr, mean.in(), variance.in(), nullptr,
                                            nullptr, nullptr, dgamma.out(), dbeta.out());
    return std::vector<Tensor>{mean.read(), variance.read(), dgamma.read(), dbeta.read()};
  });
}
