// Every scalar function of the lists, on a working set in the caches and one in memory.
#include <mica/mica.h>

#include "machine.h"

namespace {

using namespace mica;

// Samples within the functor's domain.
template <class Functor>
Tensor sample(int64_t n, uint64_t step) {
  return random_uniform({n}, Functor::low, Functor::high, {1, step});
}

template <class Functor>
void unary(benchmark::State& state, UnaryOp op) {
  const Tensor x = sample<Functor>(state.range(0), 0);
  bench::Timed timed(state);
  for (auto _ : state) timed([&] { benchmark::DoNotOptimize(mica::detail::unary(op, x).raw()); });
  timed.report_bytes(2 * 4 * state.range(0));
}

template <class Functor>
void binary(benchmark::State& state, BinaryOp op) {
  const Tensor a = sample<Functor>(state.range(0), 0), b = sample<Functor>(state.range(0), 1);
  bench::Timed timed(state);
  for (auto _ : state) timed([&] { benchmark::DoNotOptimize(mica::detail::binary(op, a, b).raw()); });
  timed.report_bytes(3 * 4 * state.range(0));
}

const int registered = [] {
#define MICA_BENCH(function, Functor)                                                            \
  benchmark::RegisterBenchmark(#function, unary<mica::scalar::Functor>, mica::UnaryOp::function) \
      ->Arg(1 << 16)                                                                             \
      ->Arg(1 << 23)                                                                             \
      ->UseManualTime();
  MICA_UNARY_OPS(MICA_BENCH)
#undef MICA_BENCH
#define MICA_BENCH(function, Functor)                                                              \
  benchmark::RegisterBenchmark(#function, binary<mica::scalar::Functor>, mica::BinaryOp::function) \
      ->Arg(1 << 16)                                                                               \
      ->Arg(1 << 23)                                                                               \
      ->UseManualTime();
  MICA_BINARY_OPS(MICA_BENCH)
#undef MICA_BENCH
  return 0;
}();

}  // namespace
