// Attention and its gradient, in the shapes of a small model and of a large one; a step over a cache, which reads bytes
// rather than multiplies; rotary. Causal ones are counted by what they need, half of the products.
#include <mica/mica.h>

#include "machine.h"

namespace {

using namespace mica;

struct Case {
  int64_t b, n, t, d;
  AttentionOptions options;
  Tensor qkv;
  double flops;  // of the two products of the forward pass

  explicit Case(const benchmark::State& state)
      : b(state.range(0)), n(state.range(1)), t(state.range(2)), d(state.range(3)) {
    options.causal = state.range(4) != 0;
    qkv = random_uniform({b, t, 3 * n * d}, -1, 1, {1, 0});
    const double pairs = options.causal ? static_cast<double>(t * (t + 1) / 2) : static_cast<double>(t * t);
    flops = 4.0 * static_cast<double>(b * n * d) * pairs;
  }
};

void shapes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"b", "n", "t", "d", "causal"})
      ->Args({32, 4, 128, 32, 0})
      ->Args({32, 4, 128, 32, 1})
      ->Args({8, 8, 512, 64, 0})
      ->Args({8, 8, 512, 64, 1})
      ->UseManualTime();
}

void attention_forward(benchmark::State& state) {
  const Case c(state);
  bench::Timed timed(state);
  for (auto _ : state) timed([&] { benchmark::DoNotOptimize(self_attention(c.qkv, c.n, c.options).raw()); });
  timed.report_flops(c.flops);
}
BENCHMARK(attention_forward)->Apply(shapes);

// The gradient computes the scores anew: five products to the forward's two.
void attention_backward(benchmark::State& state) {
  Case c(state);
  const Tensor dy = random_uniform({c.b, c.t, c.n * c.d}, -1, 1, {2, 0});
  bench::Timed timed(state);
  for (auto _ : state) {
    Tape tape;
    Tensor x = c.qkv;
    tape.watch(x);
    const Tensor loss = sum(self_attention(x, c.n, c.options) * dy);
    timed([&] { benchmark::DoNotOptimize(tape.gradient(loss, {x})[0].raw()); });
  }
  timed.report_flops(2.5 * c.flops);
}
BENCHMARK(attention_backward)->Apply(shapes);

void attention_step_over_cache(benchmark::State& state) {
  const int64_t t = state.range(0);
  const Tensor q = random_uniform({1, 1, 8, 64}, -1, 1, {1, 0}), cache = random_uniform({1, t, 8, 64}, -1, 1, {2, 0});
  bench::Timed timed(state);
  for (auto _ : state) timed([&] { benchmark::DoNotOptimize(cached_attention(q, cache, cache, t).raw()); });
  timed.report_bytes(2 * t * 8 * 64 * 4);
}
BENCHMARK(attention_step_over_cache)->ArgNames({"t"})->Arg(512)->Arg(4096)->UseManualTime();

void rotary_of_projection(benchmark::State& state) {
  const Tensor x = random_uniform({8, 512, 24, 64}, -1, 1, {1, 0});
  bench::Timed timed(state);
  for (auto _ : state) timed([&] { benchmark::DoNotOptimize(rotary(x, {.heads = 16}).raw()); });
  timed.report_bytes(2 * x.elements() * 4);
}
BENCHMARK(rotary_of_projection)->UseManualTime();

}  // namespace
