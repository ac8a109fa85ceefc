// The MNIST training step, timed for compare.py: prints images/s of the best of several rounds.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "../mnist_network.h"

int main(int argc, char** argv) {
  using namespace mica;
  if (argc > 1) set_num_threads(std::atoi(argv[1]));
  const int rounds = argc > 2 ? std::atoi(argv[2]) : 8;
  nn::Sequential model = bench::mnist_network();
  optim::Adam optimizer(model.parameters());
  const Tensor x = random_uniform({128, 28, 28, 1}, 0, 1, {1, 0}), y = one_hot(zeros({128}, {uint8}), 10);
  double best = 1e9;
  for (int round = 0; round <= rounds; ++round) {
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < 5; ++i) {
      Tape tape;
      const Tensor loss = losses::categorical_crossentropy(model(x), y);
      tape.backward(loss);
      optimizer.step();
      optimizer.zero_grad();
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (round > 0) best = std::min(best, seconds);  // the first warms up
  }
  std::printf("%.1f\n", 5 * 128 / best);
}
