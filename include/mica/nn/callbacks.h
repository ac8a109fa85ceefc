// Callbacks: how fit reports, and how it is told to stop.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "mica/core/macros.h"

namespace MICA_EXPORT mica {
namespace nn {

/// Asks fit to end after the current batch. Copies share the request; request_stop() may be called from a signal
/// handler.
class StopToken {
 public:
  StopToken() : requested_(std::make_shared<std::atomic<bool>>(false)) {}
  void request_stop() noexcept { requested_->store(true, std::memory_order_relaxed); }
  bool stop_requested() const noexcept { return requested_->load(std::memory_order_relaxed); }

 private:
  std::shared_ptr<std::atomic<bool>> requested_;
  static_assert(std::atomic<bool>::is_always_lock_free);
};

/// Named numbers in order: "loss", then the metrics, then the same with "val_" before.
class Logs {
 public:
  /// Throws Error when there is no such name.
  double operator[](const std::string& name) const;
  bool contains(const std::string& name) const;
  void set(const std::string& name, double value);
  auto begin() const { return values_.begin(); }
  auto end() const { return values_.end(); }
  size_t size() const { return values_.size(); }

 private:
  std::vector<std::pair<std::string, double>> values_;
};

/// The Logs of each epoch.
class History {
 public:
  /// One number an epoch; throws Error when there is no such name.
  std::vector<double> operator[](const std::string& name) const;
  const std::vector<Logs>& epochs() const { return epochs_; }
  size_t size() const { return epochs_.size(); }
  /// Whether fit was stopped before its last epoch was done.
  bool stopped = false;

 private:
  friend class Model;
  std::vector<Logs> epochs_;
};

class Model;

/// Where training stands when a callback is told of it.
struct Progress {
  Model& model;                     ///< that is trained: save it, change its optimizer's learning rate, ...
  StopToken& stop;                  ///< request_stop() ends training, after this batch or epoch
  int64_t epoch = 0, epochs = 0;    ///< this one from 0, and how many
  int64_t batch = 0, batches = 0;   ///< done in this epoch, and how many
  int64_t examples = 0, total = 0;  ///< likewise
  double seconds = 0;               ///< since the epoch began
  const Logs& logs;                 ///< loss and metrics so far
};

/// Told of each step of fit. Override what you need.
class Callback {
 public:
  virtual ~Callback() = default;
  virtual void on_train_begin(const Progress&) {}
  virtual void on_epoch_begin(const Progress&) {}
  virtual void on_batch_end(const Progress&) {}
  virtual void on_epoch_end(const Progress&) {}
  virtual void on_train_end(const Progress&, const History&) {}
};

}  // namespace nn
}  // namespace mica

namespace MICA_EXPORT mica {
namespace callbacks {

/// A progress bar on standard output: batches, images/s, time left, loss and metrics as they move; where that is no
/// terminal, one plain line an epoch.
std::shared_ptr<nn::Callback> progress_bar();

}  // namespace callbacks
}  // namespace mica
