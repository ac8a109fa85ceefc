// Convolution and its two gradients, in the MNIST network's layers and a deeper network's; dilated, in groups, and
// depthwise, which moves bytes rather than multiplies.
#include <mica/mica.h>

#include "machine.h"

namespace {

using namespace mica;

struct Case {
  Tensor x, w, b;
  ConvOptions options{.activation = UnaryOp::relu};
  double flops = 0;
  int64_t bytes = 0;
  bool depthwise = false;

  explicit Case(const benchmark::State& state) {
    const int64_t n = state.range(0), h = state.range(1), c = state.range(2), o = state.range(3), k = state.range(4);
    const int64_t dilation = state.range(6), groups = state.range(7);
    options.padding = state.range(5) ? Padding::same : Padding::valid;
    options.dilation = dilation;
    options.groups = groups;
    x = random_uniform({n, h, h, c}, -1, 1, {1, 0});
    w = random_uniform({k, k, c / groups, o}, -1, 1, {2, 0});
    b = zeros({o});
    const int64_t out = options.padding == Padding::same ? h : h - (k - 1) * dilation;
    flops = 2.0 * static_cast<double>(n * out * out * k * k * c / groups * o);
    bytes = 4 * (n * h * h * c + n * out * out * o);  // images in, images out; or both in
    depthwise = groups == c && c > 1;
  }
  void report(bench::Timed& timed) const { depthwise ? timed.report_bytes(bytes) : timed.report_flops(flops); }
};

void shapes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"n", "hw", "c", "o", "k", "same", "dilation", "groups"})
      ->Args({128, 28, 1, 32, 3, 0, 1, 1})
      ->Args({128, 13, 32, 64, 3, 0, 1, 1})
      ->Args({1, 13, 32, 64, 3, 0, 1, 1})
      ->Args({32, 32, 64, 64, 3, 1, 1, 1})
      ->Args({32, 14, 48, 48, 3, 1, 1, 1})
      ->Args({32, 16, 128, 128, 1, 0, 1, 1})
      ->Args({32, 32, 64, 64, 3, 1, 2, 1})
      ->Args({32, 32, 64, 64, 3, 1, 1, 2})
      ->Args({32, 32, 128, 128, 3, 1, 1, 32})
      ->Args({32, 32, 128, 128, 3, 1, 1, 128})
      ->Args({32, 32, 128, 128, 3, 1, 2, 128})
      ->Args({32, 32, 64, 128, 3, 1, 1, 64})
      ->Args({32, 14, 512, 512, 5, 1, 1, 512})
      ->UseManualTime();
}

void conv2d_forward(benchmark::State& state) {
  const Case c(state);
  bench::Timed timed(state);
  for (auto _ : state) timed([&] { benchmark::DoNotOptimize(conv2d(c.x, c.w, c.b, c.options).raw()); });
  c.report(timed);
}
BENCHMARK(conv2d_forward)->Apply(shapes);

// The MNIST network's two, in one op with the pooling that follows: forward, and with the gradients that training asks
// for.
void pooled_shapes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"n", "hw", "c", "o", "k", "same", "dilation", "groups"})
      ->Args({128, 28, 1, 32, 3, 0, 1, 1})
      ->Args({128, 13, 32, 64, 3, 0, 1, 1})
      ->Args({1, 13, 32, 64, 3, 0, 1, 1})
      ->UseManualTime();
}
void conv2d_max_pool2d_forward(benchmark::State& state) {
  const Case c(state);
  bench::Timed timed(state);
  for (auto _ : state) timed([&] { benchmark::DoNotOptimize(conv2d_max_pool2d(c.x, c.w, c.b, c.options, 2).raw()); });
  c.report(timed);
}
BENCHMARK(conv2d_max_pool2d_forward)->Apply(pooled_shapes);

void conv2d_max_pool2d_and_gradients(benchmark::State& state) {
  const Case c(state);
  const Parameter w(c.w), b(c.b);
  const bool inner = c.x.dim(3) > 1;  // images themselves need no gradient
  bench::Timed timed(state);
  for (auto _ : state)
    timed([&] {
      Tensor x = c.x;
      Tape tape;
      if (inner) tape.watch(x);
      tape.backward(sum(conv2d_max_pool2d(x, w.tensor(), b.tensor(), c.options, 2)));
    });
  timed.report_flops((inner ? 3 : 2) * c.flops);
}
BENCHMARK(conv2d_max_pool2d_and_gradients)->Apply(pooled_shapes);

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
  c.report(timed);
}
void conv2d_gradient_input(benchmark::State& state) { gradient(state, true); }
void conv2d_gradient_filter(benchmark::State& state) { gradient(state, false); }
BENCHMARK(conv2d_gradient_input)->Apply(shapes);
BENCHMARK(conv2d_gradient_filter)->Apply(shapes);

void conv2d_transpose_forward(benchmark::State& state) {
  const int64_t n = state.range(0), h = state.range(1), c = state.range(2), f = state.range(3), k = state.range(4);
  const int64_t stride = state.range(5);
  const Tensor x = random_uniform({n, h, h, c}, -1, 1, {1, 0}), w = random_uniform({k, k, f, c}, -1, 1, {2, 0});
  const Tensor b = zeros({f});
  const ConvTransposeOptions options{.strides = stride, .padding = Padding::same, .activation = UnaryOp::relu};
  bench::Timed timed(state);
  for (auto _ : state) timed([&] { benchmark::DoNotOptimize(conv2d_transpose(x, w, b, options).raw()); });
  timed.report_flops(2.0 * static_cast<double>(n * h * h * k * k * c * f));
}
BENCHMARK(conv2d_transpose_forward)
    ->ArgNames({"n", "hw", "c", "f", "k", "stride"})
    ->Args({32, 16, 64, 32, 3, 2})
    ->Args({32, 16, 64, 64, 4, 2})
    ->UseManualTime();

}  // namespace
