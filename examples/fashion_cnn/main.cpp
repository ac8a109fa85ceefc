// Trains a convolutional network on Fashion-MNIST (Debian's dataset-fashion-mnist) with augmented images, and saves it.
#include <mica/mica.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

#include "show_images.h"

using namespace mica;

namespace {

nn::StopToken stop;

struct Arguments {
  int64_t epochs = 18;
  int64_t batch_size = 128;
  uint64_t seed = 0;
  int threads = 0;
  std::string data = "/usr/share/datasets/fashion-mnist";
  std::string save = "fashion_cnn.safetensors";
  double require_accuracy = 0;
};

const std::vector<std::string> kClasses = {"T-shirt", "Trouser", "Pullover", "Dress", "Coat",
                                           "Sandal",  "Shirt",   "Sneaker",  "Bag",   "Ankle boot"};

nn::Sequential network(const nn::Input& input) {
  nn::Sequential model{nn::RandomFlip(), nn::RandomTranslation(2)};
  // A pool comes before its normalization, which then has a quarter of the work.
  const auto convolution = [&](int64_t filters, bool pool) {
    model.add(nn::Conv2D(filters, 3, {.padding = Padding::same, .use_bias = false}));
    if (pool) model.add(nn::MaxPool2D(2));
    model.add(nn::BatchNorm({.momentum = 0.9}));
    model.add(nn::Activation(relu));
  };
  convolution(32, true);
  convolution(64, false);
  convolution(64, true);
  convolution(128, false);
  convolution(128, false);
  model.add(nn::GlobalAveragePool2D());
  model.add(nn::Dense(10, {.activation = softmax}));
  model.build(input);
  return model;
}

// How many of each class are right, and what most of the others are taken for.
void show_classes(const data::Column& labels, const Tensor& probabilities) {
  const Tensor counts = metrics::confusion_matrix(probabilities, labels, 10);
  for (int64_t i = 0; i < 10; ++i) {
    double all = 0;
    int64_t other = i == 0 ? 1 : 0;
    for (int64_t j = 0; j < 10; ++j) {
      all += counts.at({i, j});
      if (j != i && counts.at({i, j}) > counts.at({i, other})) other = j;
    }
    std::printf("  %-10s  %5.1f %%", kClasses[static_cast<size_t>(i)].c_str(),
                all > 0 ? 100 * counts.at({i, i}) / all : 0);
    if (counts.at({i, other}) > 0)
      std::printf("  %4.0f taken for %s", counts.at({i, other}), kClasses[static_cast<size_t>(other)].c_str());
    std::printf("\n");
  }
  std::printf("\n");
}

int run(const Arguments& arguments) {
  set_seed(arguments.seed);
  if (arguments.threads > 0) set_num_threads(arguments.threads);

  if (!std::filesystem::is_directory(arguments.data))
    throw std::runtime_error("there is no folder " + arguments.data +
                             ": install Debian's package dataset-fashion-mnist, or name another with --data");
  const auto [train, test] = data::mnist(arguments.data);
  std::printf("%lld training and %lld test images from %s\n\n", static_cast<long long>(train.size()),
              static_cast<long long>(test.size()), arguments.data.c_str());

  nn::Sequential model = network(train.images.example());
  std::printf("%s\n", model.summary().c_str());
  std::fflush(stdout);

  // What decides when to stop is held out of the training images; the test images are looked at once, at the end.
  constexpr double kHeldOut = 0.05;
  const auto trained_on = static_cast<int64_t>(static_cast<double>(train.size()) * (1 - kHeldOut));
  const int64_t steps = std::max<int64_t>(1, arguments.epochs * ((trained_on - 1) / arguments.batch_size + 1));
  const int64_t warmup = steps / 10;
  const optim::LearningRate rate = optim::cosine_decay(0.1, std::max<int64_t>(1, steps - warmup), {.warmup = warmup});
  model.compile(
      {.optimizer = optim::SGD({.learning_rate = rate, .momentum = 0.9, .nesterov = true, .weight_decay = 5e-4}),
       .loss = losses::SparseCategoricalCrossentropy{.label_smoothing = 0.1},
       .metrics = {metrics::accuracy}});
  const callbacks::EarlyStopping early_stopping({.monitor = "val_loss", .patience = 6});

  std::signal(SIGINT, [](int) { stop.request_stop(); });
  const auto start = std::chrono::steady_clock::now();
  const nn::History history =
      model.fit(train, {.epochs = arguments.epochs,
                        .batch_size = arguments.batch_size,
                        .validation_split = kHeldOut,
                        .callbacks = {callbacks::progress_bar(), early_stopping,
                                      callbacks::ModelCheckpoint(arguments.save, {.monitor = "val_loss"})},
                        .stop = stop});
  std::signal(SIGINT, SIG_DFL);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::printf("\n%s %.1f s", history.stopped ? "Stopped after" : "Trained in", seconds);
  if (const int64_t best = early_stopping.best_epoch())
    std::printf("; epoch %lld was the best on the images held out", static_cast<long long>(best));
  std::printf(".\n");

  const nn::Logs result = model.evaluate(test);
  std::printf("test loss %.4f\ntest accuracy %.4f (%.0f of %lld images)\n\n", result["loss"], result["accuracy"],
              result["accuracy"] * static_cast<double>(test.size()), static_cast<long long>(test.size()));
  const Tensor probabilities = model.predict(test.images);
  show_classes(test.labels, probabilities);
  const int64_t shown = std::min<int64_t>(4, test.size());
  examples::show_images(test.images.rows(0, shown), test.labels.rows(0, shown), probabilities.slice(0, shown), kClasses,
                        {.shades = true});

  model.save(arguments.save);
  std::printf("Saved to %s.\n", arguments.save.c_str());
  if (stop.stop_requested()) return 130;  // as a shell reports Ctrl-C
  if (result["accuracy"] < arguments.require_accuracy) {
    std::fprintf(stderr, "The test accuracy is below the required %.4f.\n", arguments.require_accuracy);
    return 1;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  CLI::App app("Trains a convolutional network on Fashion-MNIST and saves it.");
  app.option_defaults()->always_capture_default();
  app.add_option("--epochs", arguments.epochs, "Passes over the training images, at most")->check(CLI::Range(1, 10000));
  app.add_option("--batch-size", arguments.batch_size, "Images a step")->check(CLI::Range(1, 60000));
  app.add_option("--seed", arguments.seed, "Of weights, order and augmentation");
  app.add_option("--threads", arguments.threads, "0: as many as processors")->check(CLI::Range(0, 256));
  app.add_option("--data", arguments.data, "Folder of the four IDX files");
  app.add_option("--save", arguments.save, "Where the model goes: the best so far, as soon as there is one");
  app.add_option("--require-accuracy", arguments.require_accuracy, "Fail below this test accuracy")
      ->check(CLI::Range(0.0, 1.0));
  CLI11_PARSE(app, argc, argv);
  try {
    return run(arguments);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "fashion_cnn: %s\n", error.what());
    return 1;
  }
}
