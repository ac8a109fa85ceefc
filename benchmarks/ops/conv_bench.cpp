// Convolution and its two gradients, in the MNIST network's layers and a deeper network's.
#include <mica/mica.h>

#include "machine.h"

namespace {

using namespace mica;

struct Case {
  Tensor x, w, b;
  ConvOptions options{.activation = UnaryOp::relu};
  double flops = 0;

  explicit Case(const benchmark::State& state) {
    const int64_t n = state.range(0), h = state.range(1), c = state.range(2), o = state.range(3), k = state.range(4);
    options.padding = state.range(5) ? Padding::same : Padding::valid;
    x = random_uniform({n, h, h, c}, -1, 1, {1, 0});
    w = random_uniform({k, k, c, o}, -1, 1, {2, 0});
    b = zeros({o});
    const int64_t out = options.padding == Padding::same ? h : h - k + 1;
    flops = 2.0 * static_cast<double>(n * out * out * k * k * c * o);
  }
};

void shapes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"n", "hw", "c", "o", "k", "same"})
      ->Args({128, 28, 1, 32, 3, 0})
      ->Args({128, 13, 32, 64, 3, 0})
      ->Args({1, 13, 32, 64, 3, 0})
      ->Args({32, 32, 64, 64, 3, 1})
      ->Args({32, 16, 128, 128, 1, 0})
      ->UseManualTime();
}

void conv2d_forward(benchmark::State& state) {
  const Case c(state);
  bench::Timed timed(state);
  for (auto _ : state) timed([&] { benchmark::DoNotOptimize(conv2d(c.x, c.w, c.b, c.options).raw()); });
  timed.report_flops(c.flops);
}
BENCHMARK(conv2d_forward)->Apply(shapes);

// The gradient alone: the forward pass and its record are not timed.
void gradient(benchmark::State& state, bool of_input) {
  Case c(state);
  c.options.activation = UnaryOp::identity;
  bench::Timed timed(state);
  for (auto _ : state) {
    Tape tape;
    tape.watch(of_input ? c.x : c.w);
    const Tensor loss = sum(conv2d(c.x, c.w, {}, c.options));
    timed([&] { benchmark::DoNotOptimize(tape.gradient(loss, {of_input ? c.x : c.w})); });
  }
  timed.report_flops(c.flops);
}
void conv2d_gradient_input(benchmark::State& state) { gradient(state, true); }
void conv2d_gradient_filter(benchmark::State& state) { gradient(state, false); }
BENCHMARK(conv2d_gradient_input)->Apply(shapes);
BENCHMARK(conv2d_gradient_filter)->Apply(shapes);

}  // namespace
