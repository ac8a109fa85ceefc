// Recurrent networks and their gradients, at the sizes of a network over characters; shares of the peak of products.
#include <mica/mica.h>

#include <cmath>

#include "machine.h"

namespace {

using namespace mica;

struct Network {
  int64_t cell, b, t, f, h;
  RecurrentInputs in;
  double flops;  // of the products of the forward pass

  explicit Network(const benchmark::State& state)
      : cell(state.range(0)), b(state.range(1)), t(state.range(2)), f(state.range(3)), h(state.range(4)) {
    const int64_t gates = gates_of(static_cast<RecurrentKind>(cell));
    const double limit = 1 / std::sqrt(static_cast<double>(h));
    in.x = random_uniform({b, t, f}, -1, 1, {1, 0});
    in.kernel = random_uniform({f, gates * h}, -limit, limit, {2, 0});
    in.recurrent_kernel = random_uniform({h, gates * h}, -limit, limit, {3, 0});
    in.bias = zeros({gates * h});
    flops = 2.0 * static_cast<double>(b * t * (f + h) * gates * h);
  }
  Tensor run() const { return cell == 0 ? rnn(in).y : cell == 1 ? lstm(in).y : gru(in).y; }
};

void shapes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"cell", "b", "t", "f", "h"});
  for (const int64_t cell : {0, 1, 2}) b->Args({cell, 32, 64, 128, 256});
  b->Args({1, 1, 64, 128, 256})->Args({1, 128, 32, 64, 64})->UseManualTime();
}

void recurrent_forward(benchmark::State& state) {
  const Network network(state);
  bench::Timed timed(state);
  for (auto _ : state) timed([&] { benchmark::DoNotOptimize(network.run().raw()); });
  timed.report_flops(network.flops);
}
BENCHMARK(recurrent_forward)->Apply(shapes);

// Two products to each of the forward's.
void recurrent_backward(benchmark::State& state) {
  Network network(state);
  const Tensor dy = random_uniform({network.b, network.t, network.h}, -1, 1, {4, 0});
  bench::Timed timed(state);
  for (auto _ : state) {
    Tape tape;
    RecurrentInputs& in = network.in;
    for (Tensor* watched : {&in.x, &in.kernel, &in.recurrent_kernel, &in.bias}) {
      *watched = watched->detach();
      tape.watch(*watched);
    }
    const Tensor loss = sum(network.run() * dy);
    timed([&] {
      benchmark::DoNotOptimize(tape.gradient(loss, {in.x, in.kernel, in.recurrent_kernel, in.bias})[0].raw());
    });
  }
  timed.report_flops(2 * network.flops);
}
BENCHMARK(recurrent_backward)->Apply(shapes);

}  // namespace
