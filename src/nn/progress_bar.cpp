// The progress bar. It is the one piece of the library that prints, and only when it is asked for.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>

#include "mica/nn/callbacks.h"
#include "nn/format.h"

namespace MICA_EXPORT mica {
namespace callbacks {

namespace {

using nn::Progress;

std::string duration(double seconds) {
  const long s = static_cast<long>(seconds + 0.5);
  char text[32];
  if (s >= 3600)
    std::snprintf(text, sizeof text, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
  else
    std::snprintf(text, sizeof text, "%ld:%02ld", s / 60, s % 60);
  return text;
}

class ProgressBar final : public nn::Callback {
 public:
  void on_train_begin(const Progress&) override { last_ = {}; }

  void on_batch_end(const Progress& p) override {
    if (!terminal_) return;
    const auto now = std::chrono::steady_clock::now();
    if (p.batch < p.batches && now - last_ < std::chrono::milliseconds(100)) return;
    last_ = now;
    constexpr int64_t kWidth = 24;
    const int64_t full = kWidth * p.batch / std::max<int64_t>(1, p.batches);
    std::string bar;
    for (int64_t i = 0; i < kWidth; ++i) bar += i < full ? "━" : "╌";
    const double rate = p.seconds > 0 ? static_cast<double>(p.examples) / p.seconds : 0;
    const double left = rate > 0 ? static_cast<double>(p.total - p.examples) / rate : 0;
    std::printf("\r\033[KEpoch %*lld/%lld %s %*lld/%lld  %s/s  ETA %s%s", digits(p.epochs),
                static_cast<long long>(p.epoch + 1), static_cast<long long>(p.epochs), bar.c_str(), digits(p.batches),
                static_cast<long long>(p.batch), static_cast<long long>(p.batches),
                nn::grouped(std::llround(rate)).c_str(), duration(left).c_str(), values(p.logs).c_str());
    std::fflush(stdout);
    open_ = true;
  }

  void on_epoch_end(const Progress& p) override {
    const double rate = p.seconds > 0 ? static_cast<double>(p.examples) / p.seconds : 0;
    std::printf("%sEpoch %*lld/%lld  %s  %s/s%s\n", terminal_ ? "\r\033[K" : "", digits(p.epochs),
                static_cast<long long>(p.epoch + 1), static_cast<long long>(p.epochs), duration(p.seconds).c_str(),
                nn::grouped(std::llround(rate)).c_str(), values(p.logs).c_str());
    std::fflush(stdout);
    open_ = false;
  }

  void on_train_end(const Progress&, const nn::History&) override {
    if (open_) std::printf("\n");
    open_ = false;
  }

 private:
  static int digits(int64_t n) { return static_cast<int>(std::to_string(n).size()); }
  static std::string values(const nn::Logs& logs) {
    std::string text;
    for (const auto& [name, value] : logs) {
      char number[32];
      std::snprintf(number, sizeof number, "%.4f", value);
      text += "  " + name + " " + number;
    }
    return text;
  }

  const bool terminal_ = isatty(STDOUT_FILENO) != 0;
  std::chrono::steady_clock::time_point last_;
  bool open_ = false;
};

}  // namespace

std::shared_ptr<nn::Callback> progress_bar() { return std::make_shared<ProgressBar>(); }

}  // namespace callbacks
}  // namespace mica
