// Trains a convolutional network on MNIST, or any data set in its four files, and saves it.
#include <mica/mica.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <string>

using namespace mica;

namespace {

nn::StopToken stop;

struct Arguments {
  int64_t epochs = 10;
  int64_t batch_size = 128;
  uint64_t seed = 0;
  int threads = 0;
  std::string data = MICA_EXAMPLE_DATA "/mnist";
  std::string save = "mnist.safetensors";
  double require_accuracy = 0;
};

// Test images side by side, two rows of pixels to a line of half blocks, each with what the model says and how sure it
// is.
void show_digits(const Tensor& images, const Tensor& labels, const Tensor& probabilities, int64_t count) {
  const Tensor digits = argmax(probabilities);
  const int64_t height = images.dim(1), width = images.dim(2);
  const auto shade = [&](int64_t image, int64_t y, int64_t x) {
    return y < height && images.at({image, y, x, 0}) > 0.35;
  };
  for (int64_t y = 2; y < height - 2; y += 2) {
    std::string line = "  ";
    for (int64_t i = 0; i < count; ++i) {
      for (int64_t x = 4; x < width - 4; ++x) {
        const bool upper = shade(i, y, x), lower = shade(i, y + 1, x);
        line += upper && lower ? "█" : upper ? "▀" : lower ? "▄" : " ";
      }
      line += " ";
    }
    std::printf("%s\n", line.c_str());
  }
  std::string line = "  ";
  for (int64_t i = 0; i < count; ++i) {
    const auto digit = static_cast<int64_t>(digits.at({i}));
    char text[32];
    std::snprintf(text, sizeof text, "%lld %3.0f %%%s", static_cast<long long>(digit),
                  100 * probabilities.at({i, digit}), static_cast<double>(digit) == labels.at({i}) ? "" : " (wrong)");
    std::string cell(static_cast<size_t>(std::max<int64_t>(0, (width - 8 - 7) / 2)), ' ');
    cell += text;
    cell.resize(static_cast<size_t>(width - 7), ' ');
    line += cell;
  }
  std::printf("%s\n\n", line.c_str());
}

int run(const Arguments& arguments) {
  set_seed(arguments.seed);
  if (arguments.threads > 0) set_num_threads(arguments.threads);

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
  show_digits(images, test.labels.rows(0, shown), model.predict(images), shown);

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
