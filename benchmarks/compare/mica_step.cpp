// Mica's side of make compare: the workloads, timed for compare.py or by themselves. worker.py tells what is said.
#include <mica/mica.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <string>
#include <vector>

#include "machine.h"
#include "networks.h"

namespace {

using namespace mica;

/// What is timed: `step` works on `units`, at `flops` operations.
struct Case {
  std::string name;
  const char* unit;
  double units, flops;
  std::function<void()> step;
};

/// The cases of a workload, and what the other frameworks need to do the same and to see that they do.
struct Workload {
  std::vector<Case> cases;
  io::NamedTensors shared;
};

/// What networks.h calls it.
std::string network_of(const std::string& workload) {
  if (workload == "cnn") return "mnist";
  if (workload == "rnn" || workload == "lstm") return "char_" + workload;
  return workload;
}

/// Initial weights by name, and the batch.
io::NamedTensors initial(const bench::Training& training) {
  io::NamedTensors tensors{{"x", training.x}, {"y", training.y}};
  for (const Parameter& p : training.model.parameters()) tensors.emplace_back(p.name(), p.value().clone());
  return tensors;
}

Workload training(const std::string& workload) {
  const bench::Training training = bench::training(network_of(workload));
  Workload result;
  result.shared = initial(training);
  optim::Adam optimizer(training.model.parameters());
  std::vector<double> losses;
  for (int i = 0; i <= 20; ++i) losses.push_back(training.step(optimizer).item());
  result.shared.emplace_back("losses", tensor(losses, {static_cast<int64_t>(losses.size())}));
  result.cases.push_back({"step", training.unit, training.units, training.units * training.flops,
                          [training, optimizer]() mutable { training.step(optimizer); }});
  return result;
}

Workload prediction() {
  const bench::Training network = bench::mnist(1024);
  Workload result;
  result.shared = initial(network);
  result.shared.emplace_back("expected", network.model.predict(network.x));
  for (const int64_t n : {1, 128, 1024})
    result.cases.push_back({std::to_string(n), "images", static_cast<double>(n),
                            static_cast<double>(n) * bench::kMnistForward,
                            [model = network.model, x = network.x.slice(0, n)] { model.predict(x); }});
  return result;
}

Workload products() {
  struct Product {
    int64_t m, n, k;
  };
  Workload result;
  for (const auto& [m, n, k] : {Product{512, 512, 512},
                                {1024, 1024, 1024},
                                {2048, 2048, 2048},
                                {128, 128, 1600},
                                // The MNIST network's second convolution, as a product.
                                {15488, 64, 288}}) {
    const std::string name = std::to_string(m) + "x" + std::to_string(n) + "x" + std::to_string(k);
    const Tensor a = random_uniform({m, k}, -1, 1, {1, 0}), b = random_uniform({k, n}, -1, 1, {2, 0});
    result.shared.emplace_back(name + ".a", a);
    result.shared.emplace_back(name + ".b", b);
    result.shared.emplace_back(name + ".expected", matmul(a.to(float64), b.to(float64)).to(float32));
    const double flops = 2.0 * static_cast<double>(m * n * k);
    result.cases.push_back({name, "GFLOP", flops / 1e9, flops, [a, b] { matmul(a, b); }});
  }
  return result;
}

Workload workload(const std::string& name) {
  if (name == "predict") return prediction();
  if (name == "matmul") return products();
  return training(name);
}

/// Seconds of one step, the best of `seconds` of them: in bunches long enough for the clock.
double time_step(const std::function<void()>& step, double seconds) {
  const auto run = [&](int64_t count) {
    const auto start = std::chrono::steady_clock::now();
    for (int64_t i = 0; i < count; ++i) step();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  const double once = run(1);
  const auto count = std::max<int64_t>(1, static_cast<int64_t>(0.02 / once));
  double best = once;
  for (double total = once; total < seconds;) {
    const double took = run(count);
    total += took;
    best = std::min(best, took / static_cast<double>(count));
  }
  return best;
}

/// Answers compare.py's requests until there are no more.
void serve(const std::string& name, const std::string& folder) {
  const Workload served = workload(name);
  io::save_safetensors(folder + "/" + name + ".safetensors", served.shared);
  std::printf("{\"ready\": true, \"cases\": {");
  const char* separator = "";
  for (const Case& c : served.cases) {
    std::printf("%s\"%s\": {\"unit\": \"%s\", \"units\": %.9g, \"flops\": %.9g}", separator, c.name.c_str(), c.unit,
                c.units, c.flops);
    separator = ", ";
  }
  std::printf("}}\n");
  std::fflush(stdout);
  std::string request, wanted;
  double seconds = 0;
  while (std::cin >> request >> wanted >> seconds && request == "round")
    for (const Case& c : served.cases)
      if (c.name == wanted) {
        std::printf("{\"seconds\": %.9g}\n", time_step(c.step, seconds));
        std::fflush(stdout);
      }
}

void first_step(const std::string& name) {
  const bench::Training training = bench::training(network_of(name));
  optim::Adam optimizer(training.model.parameters());
  std::printf("{\"loss\": %.9g}\n", training.step(optimizer).item());
}

void machine(int threads) {
  std::printf("{\"simd\": \"%s\", \"peak_gflops\": %.1f}\n", bench::simd_level(), bench::peak_gflops(threads));
}

/// Without compare.py: units a second, the best of so many rounds of 0.4 s.
void by_itself(const std::string& name, int threads, int rounds) {
  const Workload timed = workload(name);
  for (const Case& c : timed.cases) {
    double best = 1e9;
    for (int r = 0; r < rounds; ++r) best = std::min(best, time_step(c.step, 0.4));
    std::printf("%s %s: %.3f ms, %.1f %s/s, %.0f %% of %s's peak\n", name.c_str(), c.name.c_str(), best * 1e3,
                c.units / best, c.unit, c.flops / best / 1e9 / bench::peak_gflops(threads) * 100, bench::simd_level());
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  const size_t count = arguments.size();
  if (count < 2 || count > 4 || (count == 2) != (arguments[0] == "--machine")) {
    std::fprintf(stderr,
                 "usage: mica_step WORKLOAD THREADS ROUNDS          cnn, rnn, lstm, attention, mlp, predict or matmul\n"
                 "       mica_step WORKLOAD THREADS --serve FOLDER  answers compare.py\n"
                 "       mica_step WORKLOAD THREADS --first-step    trains one step\n"
                 "       mica_step --machine THREADS                the peak of this machine\n");
    return 2;
  }
  try {
    const int threads = std::atoi(arguments[1].c_str());
    set_num_threads(threads);
    if (arguments[0] == "--machine")
      machine(threads);
    else if (count == 4 && arguments[2] == "--serve")
      serve(arguments[0], arguments[3]);
    else if (count == 3 && arguments[2] == "--first-step")
      first_step(arguments[0]);
    else
      by_itself(arguments[0], threads, std::atoi(arguments[2].c_str()));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "mica_step: %s\n", error.what());
    return 1;
  }
  return 0;
}
