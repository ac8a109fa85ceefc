// Trains a convolutional network on MNIST, or any data set in its four files, and saves it.
#include <mica/mica.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <string>

#include "show_images.h"

using namespace mica;

namespace {

nn::StopToken stop;

struct Arguments {
  int64_t epochs = 10;
  int64_t batch_size = 128;
  uint64_t seed = 0;
  int threads = 0;
  std::string device = "cpu";
  std::string data = MICA_EXAMPLE_DATA "/mnist";
  std::string save = "mnist.safetensors";
  double require_accuracy = 0;
};

int run(const Arguments& arguments) {
  set_seed(arguments.seed);
  if (arguments.threads > 0) set_num_threads(arguments.threads);
  set_default_device(Device::named(arguments.device));

  const auto [train, test] = data::mnist(arguments.data);
  const Tensor train_targets = one_hot(train.labels, 10), test_targets = one_hot(test.labels, 10);
  std::printf("%lld training and %lld test images from %s\n\n", static_cast<long long>(train.size()),
              static_cast<long long>(test.size()), arguments.data.c_str());

  nn::Sequential model{
      nn::Input{train.images.example()},
      nn::Conv2D(32, {3, 3}, {.activation = relu}),
      nn::MaxPool2D({2, 2}),
      nn::Conv2D(64, {3, 3}, {.activation = relu}),
      nn::MaxPool2D({2, 2}),
      nn::Flatten(),
      nn::Dense(128, {.activation = relu}),
      nn::Dense(10, {.activation = softmax}),
  };
  std::printf("%s\n", model.summary().c_str());
  std::fflush(stdout);
  model.compile({.optimizer = optim::Adam(), .loss = losses::categorical_crossentropy, .metrics = {metrics::accuracy}});

  std::signal(SIGINT, [](int) { stop.request_stop(); });
  const auto start = std::chrono::steady_clock::now();
  const nn::History history = model.fit(train.images, train_targets,
                                        {.epochs = arguments.epochs,
                                         .batch_size = arguments.batch_size,
                                         .callbacks = {callbacks::progress_bar()},
                                         .stop = stop});
  std::signal(SIGINT, SIG_DFL);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::printf(history.stopped ? "\nStopped after %.1f s.\n" : "\nTrained in %.1f s.\n", seconds);

  const nn::Logs result = model.evaluate(test.images, test_targets);
  std::printf("test loss %.4f\ntest accuracy %.4f (%.0f of %lld digits)\n\n", result["loss"], result["accuracy"],
              result["accuracy"] * static_cast<double>(test.size()), static_cast<long long>(test.size()));
  const int64_t shown = std::min<int64_t>(6, test.size());
  const Tensor images = test.images.rows(0, shown);
  examples::show_images(images, test.labels.rows(0, shown), model.predict(images),
                        {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}, {.rows = 2, .columns = 4});

  model.save(arguments.save);
  std::printf("Saved to %s.\n", arguments.save.c_str());
  if (history.stopped) return 130;  // as a shell reports Ctrl-C
  if (result["accuracy"] < arguments.require_accuracy) {
    std::fprintf(stderr, "The test accuracy is below the required %.4f.\n", arguments.require_accuracy);
    return 1;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  CLI::App app("Trains a convolutional network on MNIST and saves it.");
  app.option_defaults()->always_capture_default();
  app.add_option("--epochs", arguments.epochs, "Passes over the training images")->check(CLI::Range(0, 10000));
  app.add_option("--batch-size", arguments.batch_size, "Images a step")->check(CLI::Range(1, 60000));
  app.add_option("--seed", arguments.seed, "Of weights and order");
  app.add_option("--threads", arguments.threads, "0: as many as processors")->check(CLI::Range(0, 256));
  app.add_option("--device", arguments.device, "cpu, cuda or cuda:<number>");
  app.add_option("--data", arguments.data, "Folder of the four IDX files");
  app.add_option("--save", arguments.save, "Where the model goes");
  app.add_option("--require-accuracy", arguments.require_accuracy, "Fail below this test accuracy")
      ->check(CLI::Range(0.0, 1.0));
  CLI11_PARSE(app, argc, argv);
  try {
    return run(arguments);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "mnist: %s\n", error.what());
    return 1;
  }
}
