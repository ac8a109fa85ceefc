// Mica's side of the comparison on a GPU (tools/gpu_check.sh): kernels and a training step, timed by events.
//   mica_device [--device cuda] [--json FILE] [--smoke] [NAME...]      of all cases those whose names begin so
// Random data, buffers rotated beyond the L2 cache, the best of several rounds. --smoke: once, on small data.
#include <mica/mica.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/kernels.h"
#include "networks.h"

using namespace mica;

namespace {

constexpr int kRounds = 5;
constexpr int64_t kBeyondCache = int64_t{256} << 20;  // bytes

struct Case {
  std::string name;
  double milliseconds = 0, bytes = 0, flops = 0;
};

class Bench {
 public:
  Bench(bool smoke, std::vector<std::string> wanted) : smoke_(smoke), wanted_(std::move(wanted)) {}

  bool smoke() const { return smoke_; }
  const std::vector<Case>& cases() const { return cases_; }

  // Elements for which a large case has `n`.
  int64_t size(int64_t n) const { return smoke_ ? std::min<int64_t>(n, 1 << 12) : n; }
  // Buffers of `bytes` each that together are beyond the cache.
  int sets(int64_t bytes) const {
    return smoke_ ? 1 : static_cast<int>(std::clamp<int64_t>(kBeyondCache / std::max<int64_t>(bytes, 1), 1, 16));
  }
  bool wants(std::string_view name) const {
    if (wanted_.empty()) return true;
    for (const std::string& prefix : wanted_)
      if (name.starts_with(prefix)) return true;
    return false;
  }

  // call(i) works on buffers number i, i < sets. `bytes` and `flops` of one call.
  template <class F>
  void time(const std::string& name, double bytes, double flops, int sets, const F& call) {
    if (!wants(name)) return;
    const auto run = [&](int repeats) {
      Event begin, end;
      begin.record();
      for (int repeat = 0; repeat < repeats; ++repeat)
        for (int i = 0; i < sets; ++i) call(i);
      end.record();
      end.wait();
      return elapsed_ms(begin, end);
    };
    double best = run(1);
    int repeats = 1;
    while (!smoke_ && run(repeats) < 20 && repeats < 1 << 20) repeats *= 2;
    for (int round = 0; round < (smoke_ ? 1 : kRounds); ++round) {
      const double each = run(repeats) / repeats / sets;
      best = round == 0 ? each : std::min(best, each);
    }
    cases_.push_back({name, best, bytes, flops});
    std::printf("%-40s %10.4f ms", name.c_str(), best);
    if (bytes > 0) std::printf(" %8.0f GB/s", bytes / best / 1e6);
    if (flops > 0) std::printf(" %8.0f GFLOP/s", flops / best / 1e6);
    std::printf("\n");
    std::fflush(stdout);
  }

 private:
  bool smoke_;
  std::vector<std::string> wanted_;
  std::vector<Case> cases_;
};

uint64_t next_stream() {
  static uint64_t stream = 0;
  return ++stream;
}

Tensor rand(const Shape& shape) { return random_uniform(shape, -1, 1, {next_stream(), 0}); }

void elementwise(Bench& bench) {
  const int64_t n = bench.size(int64_t{64} << 20), columns = 1024, rows = n / columns;
  const double bytes = 4.0 * static_cast<double>(n);
  const Tensor x = rand({n}), y = rand({n}), matrix = x.reshape({rows, columns}), row = rand({columns});
  Tensor z = empty({n});
  bench.time("copy", 2 * bytes, 0, 1, [&](int) { z.copy_from(x); });
  bench.time("relu", 2 * bytes, 0, 1, [&](int) { relu(x); });
  bench.time("exp", 2 * bytes, 0, 1, [&](int) { exp(x); });
  bench.time("add", 3 * bytes, 0, 1, [&](int) { x + y; });
  bench.time("add_row", 2 * bytes, 0, 1, [&](int) { matrix + row; });
  const int64_t side = bench.smoke() ? 64 : 8192;
  bench.time("transpose", 2 * bytes, 0, 1, [&](int) { transpose(x.reshape({side, side})); });
  bench.time("sum", bytes, 0, 1, [&](int) { sum(x); });
  bench.time("sum_rows", bytes, 0, 1, [&](int) { sum(matrix, 1); });
  bench.time("sum_columns", bytes, 0, 1, [&](int) { sum(matrix, 0); });
  bench.time("softmax_1024", 2 * bytes, 0, 1, [&](int) { softmax(matrix); });
  const Tensor narrow = x.slice(0, n / 10 * 10).reshape({n / 10, 10});
  bench.time("softmax_10", 2 * bytes, 0, 1, [&](int) { softmax(narrow); });
  const Tensor gamma = rand({columns}), beta = rand({columns});
  bench.time("layer_norm_1024", 2 * bytes, 0, 1, [&](int) { layer_norm(matrix, gamma, beta, 1e-5); });
  const int64_t image = bench.smoke() ? 8 : 128;
  const Tensor images = x.reshape({n / (image * image * 64), image, image, 64});
  bench.time("max_pool_2x2", 1.25 * bytes, 0, 1, [&](int) { max_pool2d(images, {2, 2}); });
  const Parameter p(x.clone());
  optim::Optimizer adam = optim::Adam();
  adam.attach({p});
  {
    Tape tape;
    tape.backward(sum(p.tensor() * y));
  }
  bench.time("adam", 7 * bytes, 0, 1, [&](int) { adam.step(); });
}

void products(Bench& bench) {
  for (const int64_t n : {2048, 4096, 8192}) {
    const int64_t size = bench.smoke() ? 64 : n;
    const int sets = bench.sets(12 * size * size);
    Tensors as, bs;
    for (int i = 0; i < sets; ++i) {
      as.push_back(rand({size, size}));
      bs.push_back(rand({size, size}));
    }
    for (const bool ta : {false, true})
      for (const bool tb : {false, true})
        bench.time(
            "matmul_" + std::to_string(n) + "_" + (ta ? "T" : "N") + (tb ? "T" : "N"), 0,
            2.0 * static_cast<double>(size) * static_cast<double>(size) * static_cast<double>(size), sets, [&](int i) {
              matmul(as[static_cast<size_t>(i)], bs[static_cast<size_t>(i)], {.transpose_a = ta, .transpose_b = tb});
            });
    if (bench.smoke()) break;
  }
}

struct Convolution {
  const char* name;
  int64_t n, h, w, c, o, k, stride, padding;
};
constexpr Convolution kConvolutions[] = {
    {"mnist1", 128, 28, 28, 1, 32, 3, 1, 0},    {"mnist2", 128, 13, 13, 32, 64, 3, 1, 0},
    {"3x3_64", 64, 56, 56, 64, 64, 3, 1, 1},    {"3x3_256", 64, 14, 14, 256, 256, 3, 1, 1},
    {"1x1_256", 64, 28, 28, 256, 128, 1, 1, 0}, {"3x3_128_stride2", 64, 56, 56, 128, 128, 3, 2, 1},
};

void convolutions(Bench& bench) {
  for (const Convolution& each : kConvolutions) {
    kernels::Conv2DArgs args;
    args.n = bench.smoke() ? 2 : each.n;
    args.h = each.h;
    args.w = each.w;
    args.c = each.c;
    args.o = each.o;
    args.kh = args.kw = each.k;
    args.sh = args.sw = each.stride;
    args.pad_top = args.pad_left = each.padding;
    args.oh = (each.h + 2 * each.padding - each.k) / each.stride + 1;
    args.ow = (each.w + 2 * each.padding - each.k) / each.stride + 1;
    const int sets = bench.sets(4 * args.n * args.h * args.w * args.c);
    Tensors xs;
    for (int i = 0; i < sets; ++i) xs.push_back(rand({args.n, args.h, args.w, args.c}));
    const Tensor w = rand({args.kh, args.kw, args.c, args.o}), dy = rand({args.n, args.oh, args.ow, args.o});
    Tensor y = empty_like(dy), dx = empty_like(xs[0]), dw = empty_like(w);
    const double flops = 2.0 * static_cast<double>(dy.elements()) * static_cast<double>(args.kh * args.kw * args.c);
    Context ctx = context(default_device());
    const kernels::Table& k = kernels_for(default_device());
    const auto x = [&](int i) { return xs[static_cast<size_t>(i)].raw(); };
    const std::string name = std::string("conv_") + each.name;
    constexpr auto kOverwrite = kernels::Write::overwrite;
    bench.time(name, 0, flops, sets, [&](int i) { k.conv2d(ctx, args, x(i), w.raw(), nullptr, y.mutable_raw()); });
    bench.time(name + "_dx", 0, flops, sets, [&](int i) {
      k.conv2d_gradient(ctx, args, x(i), w.raw(), dy.raw(), dx.mutable_raw(), kOverwrite, nullptr, kOverwrite);
    });
    bench.time(name + "_dw", 0, flops, sets, [&](int i) {
      k.conv2d_gradient(ctx, args, x(i), w.raw(), dy.raw(), nullptr, kOverwrite, dw.mutable_raw(), kOverwrite);
    });
    if (bench.smoke() && each.c > 1) break;
  }
}

void training(Bench& bench) {
  const bench::Training cnn = bench::mnist(bench.smoke() ? 4 : 128);
  optim::Optimizer adam = optim::Adam();
  nn::Model model = cnn.model;
  adam.attach(model.parameters());
  bench.time("mnist_step", 0, cnn.flops * cnn.units, bench.smoke() ? 1 : 8, [&](int) { cnn.step(adam); });
}

int run(int argc, char** argv) {
  std::string device = "cuda", json;
  bool smoke = false;
  std::vector<std::string> wanted;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--smoke")
      smoke = true;
    else if (argument == "--device" && i + 1 < argc)
      device = argv[++i];
    else if (argument == "--json" && i + 1 < argc)
      json = argv[++i];
    else if (argument.starts_with("-"))
      fail("mica_device", "there is no option ", argument);
    else
      wanted.emplace_back(argument);
  }
  set_default_device(Device::named(device));
  Bench bench(smoke, std::move(wanted));
  for (const auto part : {elementwise, products, convolutions, training}) part(bench);
  if (json.empty()) return 0;
  std::ofstream out(json);
  out << "{\"device\": \"" << default_device() << "\", \"cases\": [";
  const char* comma = "\n";
  for (const Case& c : bench.cases()) {
    out << comma << "{\"name\": \"" << c.name << "\", \"milliseconds\": " << c.milliseconds
        << ", \"bytes\": " << c.bytes << ", \"flops\": " << c.flops << "}";
    comma = ",\n";
  }
  out << "\n]}\n";
  return out.flush() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "mica_device: %s\n", error.what());
    return 1;
  }
}
