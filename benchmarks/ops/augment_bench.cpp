// Augmentation of a batch: images that each go somewhere else.
#include <mica/mica.h>

#include "machine.h"

namespace {

using namespace mica;

// f(images, rows, columns, switches) for images of `side` pixels and `channels`, read and written once.
template <class F>
void run(benchmark::State& state, const F& f) {
  const int64_t n = 128, side = state.range(0), channels = state.range(1);
  const Tensor x = random_uniform({n, side, side, channels}, -1, 1, {1, 0});
  const auto draw = [&](uint64_t stream) { return floor(random_uniform({n}, -2, 3, {stream, 0})).to(int64); };
  const Tensor rows = draw(2), columns = draw(3), switches = random_bernoulli({n}, 0.5, {4, 0}, {uint8});
  bench::Timed timed(state);
  for (auto _ : state) timed([&] { benchmark::DoNotOptimize(f(x, rows, columns, switches).raw()); });
  timed.report_bytes(8 * x.elements());
}

void shapes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"side", "channels"})->Args({28, 1})->Args({32, 3})->Args({64, 3})->UseManualTime();
}

void crop_images(benchmark::State& state) {
  run(state, [](const Tensor& x, const Tensor& rows, const Tensor& columns, const Tensor&) {
    return crop2d(x, rows, columns, {x.dim(1), x.dim(2)});
  });
}
BENCHMARK(crop_images)->Apply(shapes);

void flip_images(benchmark::State& state) {
  run(state,
      [](const Tensor& x, const Tensor&, const Tensor&, const Tensor& switches) { return flip2d(x, {}, switches); });
}
BENCHMARK(flip_images)->Apply(shapes);

}  // namespace
