// Matrix products, in the shapes that networks have and the square ones that libraries are compared by.
#include <mica/mica.h>

#include "machine.h"

namespace {

using namespace mica;

void matmul_float32(benchmark::State& state) {
  const int64_t m = state.range(0), n = state.range(1), k = state.range(2);
  const Tensor a = random_uniform({m, k}, -1, 1, {1, 0}), b = random_uniform({k, n}, -1, 1, {2, 0});
  bench::Timed timed(state);
  for (auto _ : state) timed([&] { benchmark::DoNotOptimize(matmul(a, b).raw()); });
  timed.report_flops(2.0 * static_cast<double>(m * n * k));
}
BENCHMARK(matmul_float32)
    ->ArgNames({"m", "n", "k"})
    ->Args({512, 512, 512})
    ->Args({1024, 1024, 1024})
    ->Args({2048, 2048, 2048})
    ->Args({128, 128, 1600})
    ->Args({15488, 64, 288})
    ->UseManualTime();

void matmul_transposed(benchmark::State& state) {
  const bool ta = state.range(0), tb = state.range(1);
  const Tensor a = random_uniform({512, 512}, -1, 1, {1, 0}), b = random_uniform({512, 512}, -1, 1, {2, 0});
  bench::Timed timed(state);
  for (auto _ : state)
    timed([&] { benchmark::DoNotOptimize(matmul(a, b, {.transpose_a = ta, .transpose_b = tb}).raw()); });
  timed.report_flops(2.0 * 512 * 512 * 512);
}
BENCHMARK(matmul_transposed)->ArgNames({"ta", "tb"})->Args({0, 1})->Args({1, 0})->Args({1, 1})->UseManualTime();

void matmul_batched(benchmark::State& state) {
  const Tensor a = random_uniform({64, 128, 64}, -1, 1, {1, 0}), b = random_uniform({64, 64, 128}, -1, 1, {2, 0});
  bench::Timed timed(state);
  for (auto _ : state) timed([&] { benchmark::DoNotOptimize(matmul(a, b).raw()); });
  timed.report_flops(2.0 * 64 * 128 * 128 * 64);
}
BENCHMARK(matmul_batched)->UseManualTime();

void dense_relu(benchmark::State& state) {
  const int64_t m = state.range(0), n = state.range(1), k = state.range(2);
  const Tensor x = random_uniform({m, k}, -1, 1, {1, 0}), w = random_uniform({k, n}, -1, 1, {2, 0}), b = zeros({n});
  bench::Timed timed(state);
  for (auto _ : state) timed([&] { benchmark::DoNotOptimize(dense(x, w, b, UnaryOp::relu).raw()); });
  timed.report_flops(2.0 * static_cast<double>(m * n * k));
}
BENCHMARK(dense_relu)
    ->ArgNames({"m", "n", "k"})
    ->Args({128, 128, 1600})
    ->Args({256, 256, 256})
    ->Args({1, 128, 1600})
    ->UseManualTime();

}  // namespace
