// The ops that are bound by memory: pooling, softmax, cross-entropy, reductions, dropout, updates.
#include <mica/mica.h>

#include "machine.h"

namespace {

using namespace mica;

void max_pool2d_forward(benchmark::State& state) {
  const Tensor x = random_uniform({128, 26, 26, 32}, -1, 1, {1, 0});
  bench::Timed timed(state);
  for (auto _ : state) timed([&] { benchmark::DoNotOptimize(max_pool2d(x, {2, 2}).raw()); });
  timed.report_bytes(static_cast<int64_t>(x.bytes()) * 5 / 4);
}
BENCHMARK(max_pool2d_forward)->UseManualTime();

void average_pool2d_forward(benchmark::State& state) {
  const Tensor x = random_uniform({128, 26, 26, 32}, -1, 1, {1, 0});
  bench::Timed timed(state);
  for (auto _ : state) timed([&] { benchmark::DoNotOptimize(average_pool2d(x, {2, 2}).raw()); });
  timed.report_bytes(static_cast<int64_t>(x.bytes()) * 5 / 4);
}
BENCHMARK(average_pool2d_forward)->UseManualTime();

void softmax_forward(benchmark::State& state) {
  const Tensor x = random_uniform({state.range(0), state.range(1)}, -5, 5, {1, 0});
  bench::Timed timed(state);
  for (auto _ : state) timed([&] { benchmark::DoNotOptimize(softmax(x).raw()); });
  timed.report_bytes(2 * static_cast<int64_t>(x.bytes()));
}
BENCHMARK(softmax_forward)->Args({4096, 10})->Args({4096, 128})->Args({128, 5000})->UseManualTime();

void cross_entropy_forward(benchmark::State& state) {
  const Tensor x = random_uniform({state.range(0), state.range(1)}, -5, 5, {1, 0});
  const Tensor labels = zeros({state.range(0)}, {int64});
  bench::Timed timed(state);
  for (auto _ : state) timed([&] { benchmark::DoNotOptimize(sparse_cross_entropy(x, labels).raw()); });
  timed.report_bytes(static_cast<int64_t>(x.bytes()));
}
BENCHMARK(cross_entropy_forward)->Args({4096, 10})->Args({128, 5000})->UseManualTime();

void batch_norm_forward(benchmark::State& state) {
  const Tensor x = random_uniform({128 * 13 * 13, 64}, -1, 1, {1, 0}), one = ones({64});
  bench::Timed timed(state);
  for (auto _ : state) timed([&] { benchmark::DoNotOptimize(batch_norm(x, one, one).y.raw()); });
  timed.report_bytes(4 * static_cast<int64_t>(x.bytes()));  // read for the mean, the variance and the result
}
BENCHMARK(batch_norm_forward)->UseManualTime();

void layer_norm_forward(benchmark::State& state) {
  const Tensor x = random_uniform({4096, 128}, -1, 1, {1, 0}), one = ones({128});
  bench::Timed timed(state);
  for (auto _ : state) timed([&] { benchmark::DoNotOptimize(layer_norm(x, one, one).raw()); });
  timed.report_bytes(2 * static_cast<int64_t>(x.bytes()));
}
BENCHMARK(layer_norm_forward)->UseManualTime();

void norm_gradient(benchmark::State& state) {
  const bool of_batch = state.range(0);
  Tensor x = random_uniform({4096, 128}, -1, 1, {1, 0});
  const Tensor one = ones({128});
  bench::Timed timed(state);
  for (auto _ : state) {
    Tape tape;
    tape.watch(x);
    const Tensor loss = sum(of_batch ? batch_norm(x, one, one).y : layer_norm(x, one, one));
    timed([&] { benchmark::DoNotOptimize(tape.gradient(loss, {x})); });
  }
  timed.report_bytes(5 * static_cast<int64_t>(x.bytes()));
}
BENCHMARK(norm_gradient)->ArgName("batch")->Arg(0)->Arg(1)->UseManualTime();

void sum_all(benchmark::State& state) {
  const Tensor x = random_uniform({1 << 22}, -1, 1, {1, 0});
  bench::Timed timed(state);
  for (auto _ : state) timed([&] { benchmark::DoNotOptimize(sum(x).raw()); });
  timed.report_bytes(static_cast<int64_t>(x.bytes()));
}
BENCHMARK(sum_all)->UseManualTime();

void sum_columns(benchmark::State& state) {  // the gradient of a bias
  const Tensor x = random_uniform({15488, 64}, -1, 1, {1, 0});
  bench::Timed timed(state);
  for (auto _ : state) timed([&] { benchmark::DoNotOptimize(sum(x, 0).raw()); });
  timed.report_bytes(static_cast<int64_t>(x.bytes()));
}
BENCHMARK(sum_columns)->UseManualTime();

void dropout_half(benchmark::State& state) {
  const Tensor x = random_uniform({1 << 20}, -1, 1, {1, 0});
  bench::Timed timed(state);
  for (auto _ : state) timed([&] { benchmark::DoNotOptimize(dropout(x, 0.5, {1, 2}).raw()); });
  timed.report_bytes(2 * static_cast<int64_t>(x.bytes()));
}
BENCHMARK(dropout_half)->UseManualTime();

template <class Optimizer>
void update(benchmark::State& state, int64_t passes) {
  std::vector<Parameter> parameters{Parameter(zeros({1 << 20}))};
  pack(parameters);
  Optimizer optimizer(parameters);
  {
    Tape tape;
    tape.backward(sum(square(parameters[0].tensor() - 1)));
  }
  bench::Timed timed(state);
  for (auto _ : state) timed([&] { optimizer.step(); });
  timed.report_bytes(passes * 4 * (1 << 20));
}
void adam(benchmark::State& state) { update<optim::Adam>(state, 7); }  // reads w, g, m, v; writes w, m, v
void sgd(benchmark::State& state) { update<optim::SGD>(state, 3); }
void adamw(benchmark::State& state) { update<optim::AdamW>(state, 7); }
void rmsprop(benchmark::State& state) { update<optim::RMSprop>(state, 5); }  // reads w, g, s; writes w, s
BENCHMARK(adam)->UseManualTime();
BENCHMARK(adamw)->UseManualTime();
BENCHMARK(rmsprop)->UseManualTime();
BENCHMARK(sgd)->UseManualTime();

void clip_gradients(benchmark::State& state) {  // to half of the norm: reads the gradients twice, writes them once
  const std::vector<Parameter> parameters{Parameter(zeros({1 << 20}))};
  {
    Tape tape;
    tape.backward(sum(square(parameters[0].tensor() - 1)));
  }
  double norm = optim::clip_gradients(parameters, 1);
  bench::Timed timed(state);
  for (auto _ : state)
    timed([&] { benchmark::DoNotOptimize(norm = optim::clip_gradients(parameters, norm / 2 + 1e-3)); });
  timed.report_bytes(3 * 4 * (1 << 20));
}
BENCHMARK(clip_gradients)->UseManualTime();

}  // namespace
