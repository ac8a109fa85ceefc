// What moves and compares values: copies, gathers, sorts, reductions.
#include <mica/mica.h>

#include "machine.h"

namespace {

using namespace mica;

constexpr int64_t kSide = 1024;

// A benchmark of f(x), x [kSide, kSide], which reads and writes `bytes` an element.
template <class F>
void run(benchmark::State& state, int64_t bytes, const F& f) {
  const Tensor x = random_uniform({kSide, kSide}, -1, 1, {1, 0});
  bench::Timed timed(state);
  for (auto _ : state) timed([&] { benchmark::DoNotOptimize(f(x).raw()); });
  timed.report_bytes(bytes * x.elements());
}

#define MICA_ARRAY_BENCH(name, bytes, expression)                  \
  void name(benchmark::State& state) {                             \
    run(state, bytes, [](const Tensor& x) { return expression; }); \
  }                                                                \
  BENCHMARK(name)->UseManualTime();

MICA_ARRAY_BENCH(transpose_matrix, 8, transpose(x))
MICA_ARRAY_BENCH(transpose_heads, 8, transpose(x.reshape({32, 32, 16, 64}), {0, 2, 1, 3}))
MICA_ARRAY_BENCH(broadcast_rows, 4, broadcast_to(x[0], {kSide, kSide}))
MICA_ARRAY_BENCH(concat_columns, 16, concat({x, x}, 1))
MICA_ARRAY_BENCH(pad_images, 8, pad(x.reshape({32, 32, 32, 32}), {{0, 0}, {1, 1}, {1, 1}, {0, 0}}))
MICA_ARRAY_BENCH(flip_columns, 8, flip(x, 1))
MICA_ARRAY_BENCH(compare_less, 5, less(x, 0))
MICA_ARRAY_BENCH(where_positive, 10, where(greater(x, 0), x, 0))
MICA_ARRAY_BENCH(max_all, 4, max(x))
MICA_ARRAY_BENCH(max_rows, 4, max(x, 1))
MICA_ARRAY_BENCH(max_columns, 4, max(x, 0))
MICA_ARRAY_BENCH(prod_rows, 4, prod(x, 1))
MICA_ARRAY_BENCH(argmax_rows, 4, argmax(x, 1))
MICA_ARRAY_BENCH(cumsum_rows, 8, cumsum(x, 1))
MICA_ARRAY_BENCH(cumsum_columns, 8, cumsum(x, 0))
MICA_ARRAY_BENCH(argsort_rows, 12, argsort(x, 1))
MICA_ARRAY_BENCH(top_5_of_rows, 4, top_k(x, 5, 1).values)

void take_rows(benchmark::State& state) {  // an embedding
  const Tensor tokens = random_permutation(kSide, {3, 0});
  run(state, 8, [&](const Tensor& x) { return take(x, tokens); });
}
BENCHMARK(take_rows)->UseManualTime();

void take_rows_gradient(benchmark::State& state) {
  Tensor x = random_uniform({kSide, kSide}, -1, 1, {1, 0});
  const Tensor tokens = random_permutation(kSide, {3, 0});
  bench::Timed timed(state);
  for (auto _ : state) {
    Tape tape;
    tape.watch(x);
    const Tensor loss = sum(take(x, tokens));
    timed([&] { benchmark::DoNotOptimize(tape.gradient(loss, {x})); });
  }
  timed.report_bytes(16 * x.elements());
}
BENCHMARK(take_rows_gradient)->UseManualTime();

}  // namespace
