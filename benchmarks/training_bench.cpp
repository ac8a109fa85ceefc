// Networks as a whole: training steps, and prediction.
#include "machine.h"
#include "networks.h"

namespace {

using namespace mica;

void training_step(benchmark::State& state, const std::string& network) {
  const bench::Training training = bench::training(network);
  optim::Adam optimizer(training.model.parameters());
  bench::Timed timed(state);
  for (auto _ : state) timed([&] { training.step(optimizer); });
  timed.report_rate((std::string(training.unit) + "/s").c_str(), training.units);
  timed.report_flops(training.units * training.flops);
}
BENCHMARK_CAPTURE(training_step, mnist, "mnist")->UseManualTime()->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(training_step, char_lstm, "char_lstm")->UseManualTime()->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(training_step, char_rnn, "char_rnn")->UseManualTime()->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(training_step, attention, "attention")->UseManualTime()->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(training_step, mlp, "mlp")->UseManualTime()->Unit(benchmark::kMicrosecond);

void mnist_predict(benchmark::State& state) {
  const bench::Training mnist = bench::mnist(state.range(0));
  bench::Timed timed(state);
  for (auto _ : state)
    timed([&] { benchmark::DoNotOptimize(mnist.model.predict(mnist.x, {.batch_size = 128}).raw()); });
  timed.report_rate("images/s", mnist.units);
  timed.report_flops(mnist.units * bench::kMnistForward);
}
BENCHMARK(mnist_predict)->Arg(1)->Arg(128)->Arg(1024)->UseManualTime()->Unit(benchmark::kMicrosecond);

}  // namespace
