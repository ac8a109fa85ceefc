// Four networks learn two tasks that need memory over a distance, and a table says which of them reach 99 %: adding two
// marked numbers of a long sequence (Hochreiter, Schmidhuber, "Long short-term memory", 1997, experiment 4), and
// recalling which value stood with a key.
#include <mica/mica.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

using namespace mica;

namespace {

struct Arguments {
  std::string task = "both";
  std::string network = "all";
  int64_t length = 0;
  double seconds = 60;
  uint64_t seed = 0;
  int threads = 0;
  double require_accuracy = 0;
};

constexpr double kGoal = 0.99;
constexpr int64_t kKeys = 50, kValues = 10;

// ---- The tasks. Sequences are drawn as they are needed and never seen twice: each `part` has others.

// Whole numbers in [low, high), drawn under a name of their own.
Tensor draw(const char* name, uint64_t part, const Shape& shape, int64_t low, int64_t high) {
  const RandomKey key{random_stream(seed(), name), part};
  return floor(random_uniform(shape, static_cast<double>(low), static_cast<double>(high), key)).to(int64);
}

// [n, length, 2]: numbers in [0, 1), and beside them a marker, which is 1 at one step of the first half and at one of
// the second, else 0. The target [n, 1] is the sum of the two marked numbers.
data::Dataset adding(int64_t n, int64_t length, uint64_t part) {
  const Tensor numbers = random_uniform({n, length}, 0, 1, {random_stream(seed(), "numbers"), part});
  const Tensor markers = one_hot(draw("first", part, {n}, 0, length / 2), length) +
                         one_hot(draw("second", part, {n}, length / 2, length), length);
  return {stack({numbers, markers}, 2), sum(numbers * markers, 1, true)};
}

// [n, pairs + 1, 2] tokens: at each step a key and its value, in the last one of the keys again, with a blank. The
// target [n] is the value that stood with it. No key stands twice.
data::Dataset recalling(int64_t n, int64_t pairs, uint64_t part) {
  const Tensor order = argsort(random_uniform({n, kKeys}, 0, 1, {random_stream(seed(), "keys"), part}), 1);
  const Tensor keys = slice(order, {{}, {0, pairs}});
  const Tensor values = draw("values", part, {n, pairs}, 0, kValues);
  const Tensor asked = draw("asked", part, {n, 1}, 0, pairs);
  const Tensor blank = full({n, 1}, kKeys + kValues, {int64});
  return {stack({concat({keys, gather(keys, asked, 1)}, 1), concat({values + kKeys, blank}, 1)}, 2),
          gather(values, asked, 1).reshape({n})};
}

// ---- The networks.

// [batch, time, features] -> [batch, features]. Any type that can be called and visited is a layer.
struct LastStep {
  Tensor operator()(const Tensor& x) const { return slice(x, {{}, {-1}}).reshape({x.dim(0), x.dim(2)}); }
  void visit(nn::Visitor&) {}
};

// What they differ in: how a sequence becomes one vector of what is remembered of it. The first three carry a state
// from step to step, attention looks back from the last step to all others at once.
void add_memory(nn::Sequential& model, const std::string& network, int64_t units) {
  if (network == "RNN") {
    model.add(nn::RNN(units));
  } else if (network == "LSTM") {
    model.add(nn::LSTM(units, {.forget_bias = 3}));  // sigmoid(3) = 0.95: it begins by forgetting little
  } else if (network == "GRU") {
    model.add(nn::GRU(units));
  } else {
    model.add(nn::Dense(units));
    model.add(nn::MultiHeadSelfAttention(1));
    model.add(LastStep());
  }
}

// The share of sums that are right: off by less than 0.04.
struct RightSums {
  static constexpr const char* kName = "accuracy";
  double right = 0, all = 0;
  void reset() { right = all = 0; }
  void update(const Tensor& prediction, const Tensor& target) {
    right += sum(less(abs(prediction - target), 0.04)).item();
    all += static_cast<double>(target.elements());
  }
  double result() const { return all > 0 ? right / all : 0; }
};

// A simple network's gradients are large now and then: it takes smaller steps.
optim::Adam optimizer(double rate) { return optim::Adam({.learning_rate = rate, .clip_norm = 1}); }

nn::Sequential adder(const std::string& network, int64_t length) {
  nn::Sequential model;
  add_memory(model, network, 32);
  model.add(nn::Dense(1));
  model.build(nn::Input({length, 2}));
  model.compile({.optimizer = optimizer(network == "RNN" ? 1e-3 : 1e-2),
                 .loss = losses::mean_squared_error,
                 .metrics = {RightSums()}});
  return model;
}

nn::Sequential recaller(const std::string& network, int64_t pairs) {
  nn::Sequential model;
  model.add(nn::Embedding(kKeys + kValues + 1, 32, {.initializer = nn::init::normal(1)}));
  model.add(nn::Reshape({pairs + 1, 2 * 32}));  // key and value side by side
  add_memory(model, network, 64);
  model.add(nn::Dense(kValues, {.activation = softmax}));
  model.build(nn::Input({pairs + 1, 2}, int64));
  model.compile({.optimizer = optimizer(network == "RNN" ? 1e-3 : 3e-3),
                 .loss = losses::sparse_categorical_crossentropy,
                 .metrics = {metrics::accuracy}});
  return model;
}

// ---- Training, and the table.

struct Task {
  const char* name;
  const char* title;  // of a table, with the length in it
  std::vector<int64_t> lengths;
  data::Dataset (*draw)(int64_t n, int64_t length, uint64_t part);
  nn::Sequential (*network)(const std::string& network, int64_t length);
};

const std::vector<Task> kTasks = {
    {"adding", "Adding two marked numbers among %lld", {10, 50, 200}, adding, adder},
    {"recalling", "Recalling the value of a key among %lld", {2, 10, 50}, recalling, recaller},
};
const std::vector<std::string> kNetworks = {"RNN", "LSTM", "GRU", "attention"};

// Until it is right in 99 % of the sequences that decide, or the time is over; then one row, of sequences that
// neither trained it nor decided anything. Returns its accuracy.
double train(const Task& task, const std::string& network, int64_t length, double budget) {
  constexpr int64_t kBatch = 32, kSteps = 100;  // steps between two looks at how far it is
  const bool terminal = isatty(STDOUT_FILENO) != 0;
  nn::Sequential model = task.network(network, length);
  int64_t parameters = 0;
  for (const Parameter& p : model.parameters()) parameters += p.value().elements();

  const data::Dataset deciding = task.draw(2000, length, 0), test = task.draw(10000, length, 1);
  const auto start = std::chrono::steady_clock::now();
  double seconds = 0, accuracy = 0;
  uint64_t rounds = 0;
  // A little above the goal: what decides is right more often than other sequences would be.
  while (accuracy < kGoal + 0.002 && seconds < budget) {
    model.fit(task.draw(kBatch * kSteps, length, 2 + rounds++), {.batch_size = kBatch, .shuffle = false});
    accuracy = model.evaluate(deciding)["accuracy"];
    seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (!terminal) continue;
    std::printf("\r\033[K  %-10s %9.1f s  %8lld steps  %6.2f %%", network.c_str(), seconds,
                static_cast<long long>(model.optimizer().iterations()), 100 * accuracy);
    std::fflush(stdout);
  }
  accuracy = model.evaluate(test)["accuracy"];
  std::printf("%s  %-10s %10lld  %8lld  %7.1f  %6.2f %%  %s\n", terminal ? "\r\033[K" : "", network.c_str(),
              static_cast<long long>(parameters), static_cast<long long>(model.optimizer().iterations()), seconds,
              100 * accuracy, accuracy >= kGoal ? "yes" : "no");
  std::fflush(stdout);
  return accuracy;
}

int run(const Arguments& arguments) {
  set_seed(arguments.seed);
  if (arguments.threads > 0) set_num_threads(arguments.threads);
  double least = 1;
  for (const Task& task : kTasks) {
    if (arguments.task != "both" && arguments.task != task.name) continue;
    const std::vector<int64_t> lengths = arguments.length > 0 ? std::vector<int64_t>{arguments.length} : task.lengths;
    for (const int64_t length : lengths) {
      std::printf(task.title, static_cast<long long>(length));
      std::printf("\n  %-10s %10s  %8s  %7s  %8s  %s\n", "network", "parameters", "steps", "seconds", "right", "99 %");
      for (const std::string& network : kNetworks)
        if (arguments.network == "all" || arguments.network == network)
          least = std::min(least, train(task, network, length, arguments.seconds));
      std::printf("\n");
    }
  }
  if (least >= arguments.require_accuracy) return 0;
  std::fprintf(stderr, "An accuracy is below the required %.4f.\n", arguments.require_accuracy);
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  CLI::App app("Four networks learn two tasks that need memory over a distance.");
  app.option_defaults()->always_capture_default();
  app.add_option("--task", arguments.task, "What is learned")->check(CLI::IsMember({"adding", "recalling", "both"}));
  app.add_option("--network", arguments.network, "What learns it")
      ->check(CLI::IsMember({"RNN", "LSTM", "GRU", "attention", "all"}));
  app.add_option("--length", arguments.length, "Numbers or pairs in a sequence; 0: three lengths of each task")
      ->check(CLI::Range(0, 100000));
  app.add_option("--seconds", arguments.seconds, "Of each training, at most")->check(CLI::Range(0.0, 1e6));
  app.add_option("--seed", arguments.seed, "Of sequences and weights");
  app.add_option("--threads", arguments.threads, "0: as many as processors")->check(CLI::Range(0, 256));
  app.add_option("--require-accuracy", arguments.require_accuracy, "Fail where one is below this")
      ->check(CLI::Range(0.0, 1.0));
  CLI11_PARSE(app, argc, argv);
  try {
    return run(arguments);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "memory: %s\n", error.what());
    return 1;
  }
}
