// The MNIST network as a whole: a training step, and prediction.
#include "machine.h"
#include "mnist_network.h"

namespace {

using namespace mica;

// Multiply-adds of the layers for one image, as operations.
constexpr double kForward = 2.0 * (26 * 26 * 9 * 32 + 11 * 11 * 288 * 64 + 1600 * 128 + 128 * 10);
// Both gradients of each layer, but for that of the images.
constexpr double kTraining = 3 * kForward - 2.0 * 26 * 26 * 9 * 32;

void mnist_training_step(benchmark::State& state) {
  const int64_t n = state.range(0);
  nn::Sequential model = bench::mnist_network();
  optim::Adam optimizer(model.parameters());
  const Tensor x = random_uniform({n, 28, 28, 1}, 0, 1, {1, 0});
  const Tensor y = one_hot(zeros({n}, {uint8}), 10);
  bench::Timed timed(state);
  for (auto _ : state)
    timed([&] {
      Tape tape;
      const Tensor loss = losses::categorical_crossentropy(model(x), y);
      tape.backward(loss);
      optimizer.step();
      optimizer.zero_grad();
    });
  timed.report_rate("images/s", static_cast<double>(n));
  timed.report_flops(static_cast<double>(n) * kTraining);
}
BENCHMARK(mnist_training_step)->Arg(128)->UseManualTime()->Unit(benchmark::kMillisecond);

void mnist_predict(benchmark::State& state) {
  const int64_t n = state.range(0);
  const nn::Sequential model = bench::mnist_network();
  const Tensor x = random_uniform({n, 28, 28, 1}, 0, 1, {1, 0});
  bench::Timed timed(state);
  for (auto _ : state) timed([&] { benchmark::DoNotOptimize(model.predict(x, {.batch_size = 128}).raw()); });
  timed.report_rate("images/s", static_cast<double>(n));
  timed.report_flops(static_cast<double>(n) * kForward);
}
BENCHMARK(mnist_predict)->Arg(1)->Arg(128)->Arg(1024)->UseManualTime()->Unit(benchmark::kMicrosecond);

}  // namespace
