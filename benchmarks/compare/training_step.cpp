// One network's training step, timed for compare.py: prints images or tokens a second, the best of several rounds.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "../networks.h"

int main(int argc, char** argv) {
  using namespace mica;
  if (argc != 4) {
    std::fprintf(stderr, "usage: training_step NETWORK THREADS ROUNDS\n");
    return 2;
  }
  set_num_threads(std::atoi(argv[2]));
  const int rounds = std::atoi(argv[3]);
  const bench::Training training = bench::training(argv[1]);
  optim::Adam optimizer(training.model.parameters());
  double best = 1e9;
  for (int round = 0; round <= rounds; ++round) {
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < 5; ++i) training.step(optimizer);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (round > 0) best = std::min(best, seconds);  // the first warms up
  }
  std::printf("%.1f\n", 5 * training.units / best);
}
