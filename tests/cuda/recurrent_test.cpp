// Recurrent networks by CUDA's kernels against the CPU's: u that fits shared memory and u that does not, few
// and many rows of the batch, all that a step may be told. And the bits of a row, whatever else is in its batch.
#include <doctest/doctest.h>

#include <cmath>

#include "kernels/kernels.h"
#include "mica/ops/elementwise.h"
#include "support/devices.h"
#include "support/error_text.h"
#include "support/tensors.h"

using namespace mica;
using namespace mica::test;
using mica::kernels::RecurrentArgs;

namespace {

struct Network {
  RecurrentKind kind = RecurrentKind::rnn;
  bool reset_after = true;
  UnaryOp activation = UnaryOp::tanh;
};
constexpr Network kNetworks[] = {{RecurrentKind::rnn},
                                 {RecurrentKind::rnn, true, UnaryOp::relu},
                                 {RecurrentKind::rnn, true, UnaryOp::identity},
                                 {RecurrentKind::lstm},
                                 {RecurrentKind::gru},
                                 {RecurrentKind::gru, false}};

struct Way {
  int64_t b, t, h;
  bool options = false;  // reverse, mask, drop, bias
  bool dy = true;
};

// All that both kernels write: gates, y, inner, h, c, then dh, dc, dz, da, previous. Of a batch of which only the rows
// from `first` on are there.
Tensors results(const Network& network, const Way& way, DType dtype, Device device, int64_t first = 0) {
  const bool is_rnn = network.kind == RecurrentKind::rnn, is_lstm = network.kind == RecurrentKind::lstm;
  const bool after = network.kind == RecurrentKind::gru && network.reset_after;
  const int64_t width = gates_of(network.kind) * way.h, b = way.b - first;
  const double limit = 1 / std::sqrt(static_cast<double>(way.h));
  uint64_t seed = 0;
  const auto rows = [&](const Tensor& x) { return (first > 0 ? x.slice(first, way.b).clone() : x).to(device); };
  const auto numbers = [&](const Shape& shape) { return rows(sample(shape, dtype, ++seed)); };
  // What is not written keeps its value.
  const auto output = [&](const Shape& shape) { return full(shape, 7, {dtype}).to(device); };

  const Tensor u = sample({way.h, width}, dtype, 100, -limit, limit).to(device);
  const Tensor bias = sample({width}, dtype, 101).to(device);
  const Tensor mask = rows(random_bernoulli({way.b, way.t}, 0.6, {7, 0}, {uint8}));
  const Tensor drop = rows(2 * random_bernoulli({way.b, way.h}, 0.5, {5, 0}, {dtype}));
  Tensor gates = numbers({way.b, way.t, width}), h = numbers({way.b, way.h}), c = numbers({way.b, way.h});
  Tensor dy = numbers({way.b, way.t, way.h}), dh = numbers({way.b, way.h}), dc = numbers({way.b, way.h});
  const Tensor h0 = h.clone(), c0 = c.clone();
  Tensor y = is_rnn ? gates : output({b, way.t, way.h}), inner = output({b, way.t, way.h});
  Tensor dz = output({b, way.t, width}), da = output({b, way.t, width}), previous = output({b, way.t, way.h});

  RecurrentArgs args{.dtype = dtype, .kind = network.kind, .b = b, .t = way.t, .h = way.h};
  args.reset_after = network.reset_after;
  args.activation = network.activation;
  args.u = u.raw();
  if (way.options) {
    args.reverse = true;
    args.mask = static_cast<const uint8_t*>(mask.raw());
    args.drop = drop.raw();
    if (after) args.bias = bias.raw();
  }
  Context ctx = context(device);
  kernels_for(device).recurrent(ctx, args, gates.mutable_raw(), y.mutable_raw(), is_rnn ? nullptr : inner.mutable_raw(),
                                h.mutable_raw(), is_lstm ? c.mutable_raw() : nullptr);
  args.bias = nullptr;
  kernels_for(device).recurrent_gradient(ctx, args, gates.raw(), y.raw(), is_rnn ? nullptr : inner.raw(), h0.raw(),
                                         is_lstm ? c0.raw() : nullptr, way.dy ? dy.raw() : nullptr, dh.mutable_raw(),
                                         is_lstm ? dc.mutable_raw() : nullptr, dz.mutable_raw(),
                                         after ? da.mutable_raw() : nullptr, previous.mutable_raw());
  Tensors all{gates, y, inner, h, c, dh, dc, dz, da, previous};
  for (Tensor& each : all) each = on_cpu(each);
  return all;
}

void check_as_on_cpu(const Network& network, const Way& way, DType dtype) {
  CAPTURE(static_cast<int>(network.kind));
  CAPTURE(network.reset_after);
  CAPTURE(network.activation);
  CAPTURE(way.b);
  CAPTURE(way.h);
  CAPTURE(dtype);
  const Tensors expected = results(network, way, dtype, Device::cpu());
  for (const Device device : cuda_devices()) {
    CAPTURE(device);
    const Tensors found = results(network, way, dtype, device);
    for (size_t i = 0; i < expected.size(); ++i) {
      CAPTURE(i);
      CHECK(close(found[i], expected[i], tolerance_of(dtype, kSums)));
    }
  }
}

}  // namespace

TEST_CASE("cuda: recurrent networks whose u fits shared memory are the CPU's") {
  for (const Network& network : kNetworks)
    for (const DType dtype : {float32, float64})
      for (const bool options : {false, true})
        for (const Way& way : {Way{3, 4, 1}, Way{2, 1, 19}, Way{1, 3, 32}, Way{130, 2, 5}})
          check_as_on_cpu(network, {way.b, way.t, way.h, options, way.h != 19}, dtype);
}

TEST_CASE("cuda: recurrent networks whose u does not are the CPU's: both tiles, edges in each direction") {
  for (const Network& network : kNetworks)
    for (const bool options : {false, true}) check_as_on_cpu(network, {5, 3, 149, options}, float32);
  for (const Network& network : kNetworks) check_as_on_cpu(network, {2, 3, 150, true, false}, float64);
  check_as_on_cpu({RecurrentKind::lstm}, {401, 2, 69, true}, float32);
  check_as_on_cpu({RecurrentKind::gru, false}, {801, 1, 150, true}, float32);
  check_as_on_cpu({RecurrentKind::rnn}, {368, 2, 150, true}, float64);
}

TEST_CASE("cuda: a row of a recurrent network has the same bits in each batch") {
  for (const Network& network : kNetworks)
    for (const Way& way : {Way{131, 2, 9}, Way{390, 1, 70}}) {
      if (way.h > 9 && network.kind != RecurrentKind::lstm) continue;
      for (const Device device : cuda_devices()) {
        CAPTURE(device);
        const Tensors all = results(network, way, float32, device);
        const Tensors last = results(network, way, float32, device, way.b - 2);
        for (size_t i = 0; i < all.size(); ++i) CHECK(close(last[i], all[i].slice(way.b - 2, way.b).clone(), kExact));
      }
    }
}

TEST_CASE("cuda: a recurrent network whose u no launch could pack is refused") {
  const RecurrentArgs args{.dtype = float32, .kind = RecurrentKind::lstm, .b = 1, .t = 1, .h = 65544};
  for (const Device device : cuda_devices()) {
    Context ctx = context(device);
    CHECK(error_text([&] { kernels_for(device).recurrent(ctx, args, nullptr, nullptr, nullptr, nullptr, nullptr); }) ==
          "[recurrent] too many units for the CUDA kernels: 65544");
  }
}
