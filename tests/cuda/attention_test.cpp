// Attention and rotary by CUDA's kernels against the CPU's: the sizes of head that have tiles of their own,
// edges of tiles, divided keys, strides that forbid packs, and what each gradient alone takes.
#include <doctest/doctest.h>

#include <limits>

#include "kernels/kernels.h"
#include "mica/ops/manipulate.h"
#include "support/devices.h"
#include "support/tensors.h"

using namespace mica;
using namespace mica::test;
using mica::kernels::AttentionArgs;
using mica::kernels::HeadStrides;

namespace {

struct Way {
  int64_t b, n, tq, tk, d, dv;
  bool causal = false;
  int mask = 0;  // its rank
  double dropout = 0;
  bool padded = false;  // a spare feature in each head and step after each example, of NaN
};

HeadStrides strides_of(const Tensor& x) { return {x.dim(1) * x.dim(2) * x.dim(3), x.dim(2) * x.dim(3), x.dim(3)}; }

// [b, t, n, d] with what is spare.
Tensor operand(const Way& way, int64_t t, int64_t d, DType dtype, uint64_t seed) {
  const Tensor x = sample({way.b, t, way.n, d}, dtype, seed);
  if (!way.padded) return x;
  constexpr double kNothing = std::numeric_limits<double>::quiet_NaN();
  const Tensor wide = concat({x, full({way.b, t, way.n, 1}, kNothing, {dtype})}, 3);
  return concat({wide, full({way.b, 1, way.n, d + 1}, kNothing, {dtype})}, 1);
}

Tensor mask_of(const Way& way) {
  if (way.mask == 0) return {};
  const Shape shape = way.mask == 2   ? Shape{way.b, way.tk}
                      : way.mask == 3 ? Shape{way.b, way.tq, way.tk}
                                      : Shape{way.b, way.n, way.tq, way.tk};
  return random_bernoulli(shape, 0.6, {5, 0}, {uint8});
}

// y, log_sum, dq, dk, dv; `wanted` says which gradients.
std::vector<Tensor> results(const Way& way, DType dtype, Device device, int wanted) {
  AttentionArgs a{.dtype = dtype,
                  .batch = way.b,
                  .heads = way.n,
                  .tq = way.tq,
                  .tk = way.tk,
                  .d = way.d,
                  .dv = way.dv,
                  .scale = 0.4,
                  .causal = way.causal,
                  .dropout = way.dropout,
                  .key = {42, 7}};
  const Tensor q = operand(way, way.tq, way.d, dtype, 1).to(device),
               k = operand(way, way.tk, way.d, dtype, 2).to(device),
               v = operand(way, way.tk, way.dv, dtype, 3).to(device),
               dy = operand(way, way.tq, way.dv, dtype, 4).to(device);
  a.q = strides_of(q);
  a.k = strides_of(k);
  a.v = strides_of(v);
  a.y = strides_of(dy);
  const Tensor mask = mask_of(way).defined() ? mask_of(way).to(device) : Tensor();
  if (mask.defined()) {
    a.mask = static_cast<const uint8_t*>(mask.raw());
    a.mask_query = way.mask > 2 ? way.tk : 0;
    a.mask_head = way.mask > 3 ? way.tq * way.tk : 0;
    a.mask_batch = mask.elements() / way.b;
  }
  // What is not written keeps its value.
  const auto output = [&](const Shape& shape) { return full(shape, 7, {dtype}).to(device); };
  Tensor y = output(dy.shape()), log_sum = output({way.b, way.n, way.tq});
  Tensor dq = output(q.shape()), dk = output(k.shape()), dv = output(v.shape());
  Context ctx = context(device);
  kernels_for(device).attention(ctx, a, q.raw(), k.raw(), v.raw(), y.mutable_raw(), log_sum.mutable_raw());
  kernels_for(device).attention_gradient(
      ctx, a, q.raw(), k.raw(), v.raw(), y.raw(), log_sum.raw(), dy.raw(), (wanted & 1) ? dq.mutable_raw() : nullptr,
      (wanted & 2) ? dk.mutable_raw() : nullptr, (wanted & 4) ? dv.mutable_raw() : nullptr);
  std::vector<Tensor> all{y, log_sum, dq, dk, dv};
  for (Tensor& each : all) each = on_cpu(each);
  return all;
}

void check_as_on_cpu(const Way& way, int wanted = 7) {
  for (const DType dtype : {float32, float64}) {
    CAPTURE(dtype);
    CAPTURE(way.tq);
    CAPTURE(way.tk);
    CAPTURE(way.d);
    CAPTURE(way.dv);
    CAPTURE(way.causal);
    CAPTURE(way.mask);
    CAPTURE(way.dropout);
    CAPTURE(way.padded);
    CAPTURE(wanted);
    const std::vector<Tensor> expected = results(way, dtype, Device::cpu(), wanted);
    for (const Device device : cuda_devices()) {
      CAPTURE(device);
      const std::vector<Tensor> actual = results(way, dtype, device, wanted);
      for (size_t i = 0; i < expected.size(); ++i) {
        CAPTURE(i);
        CHECK(close(actual[i], expected[i], tolerance_of(dtype, kSums)));
      }
    }
  }
}

}  // namespace

TEST_CASE("cuda: attention of each size of head is the CPU's, with its gradients") {
  for (const int64_t d : {1, 16, 32, 33, 64, 72, 128, 200, 300}) {
    check_as_on_cpu({1, 2, 70, 69, d, d});
    check_as_on_cpu({1, 2, 5, 70, d, d, true});
  }
  check_as_on_cpu({1, 1, 9, 70, 160, 20});
  check_as_on_cpu({1, 1, 70, 9, 20, 160});
  check_as_on_cpu({1, 1, 3, 3, 4, 0});
}

TEST_CASE("cuda: attention under masks, causality and dropout is the CPU's, with its gradients") {
  for (const bool padded : {false, true})
    for (const int64_t tk : {64, 130}) {
      for (const int64_t tq : {3, 72, 150}) check_as_on_cpu({2, 2, tq, tk, 8, 8, true, 0, 0, padded});
      for (const int mask : {2, 3, 4}) check_as_on_cpu({2, 2, 65, tk, 8, 12, mask == 3, mask, 0, padded});
      check_as_on_cpu({2, 2, 65, tk, 8, 8, true, 4, 0.3, padded});
      check_as_on_cpu({1, 2, 3, tk + 1, 8, 8, false, 0, 0.3, padded});
    }
}

TEST_CASE("cuda: each gradient of attention alone, and of nothing") {
  for (int wanted = 0; wanted < 7; ++wanted) check_as_on_cpu({1, 2, 70, 80, 8, 72, true}, wanted);
  check_as_on_cpu({1, 2, 0, 5, 4, 4});
  check_as_on_cpu({1, 2, 5, 0, 4, 4});
  check_as_on_cpu({0, 2, 5, 5, 4, 4});
}

TEST_CASE("cuda: rotary is the CPU's") {
  for (const DType dtype : {float32, float64})
    for (const Shape& shape : {Shape{2, 5, 3, 8}, {1, 70, 2, 10}, {3, 2, 40, 64}, {2, 1, 1, 2}, {1, 2, 600, 16}})
      for (const bool inverse : {false, true}) {
        CAPTURE(shape);
        const kernels::RotaryArgs args{.dtype = dtype,
                                       .batch = shape[0],
                                       .time = shape[1],
                                       .heads = shape[2],
                                       .d = shape[3],
                                       .rotated = (shape[2] + 1) / 2,
                                       .offset = 1000,
                                       .base = 10000,
                                       .inverse = inverse};
        const auto turned = [&](Device device) {
          const Tensor x = sample(shape, dtype).to(device);
          Tensor y = full(shape, 7, {dtype}).to(device);
          Context ctx = context(device);
          kernels_for(device).rotary(ctx, args, x.raw(), y.mutable_raw());
          return on_cpu(y);
        };
        const Tensor expected = turned(Device::cpu());
        for (const Device device : cuda_devices()) {
          CAPTURE(device);
          CHECK(close(turned(device), expected, tolerance_of(dtype, kPointwise)));
        }
      }
}
