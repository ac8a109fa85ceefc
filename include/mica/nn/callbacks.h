// Callbacks: how fit reports, and how it is told to stop.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "mica/core/state.h"

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
  /// Writes "*.csv": a line of names, then one for each epoch, counted from 1; or "*.json": an object with an array for
  /// each name, null for what JSON has no number for, NaN and infinity. Numbers have the shortest digits that read back
  /// the same. The file appears whole or not at all. Throws Error for another extension, and FileError where it cannot
  /// be written.
  void save(const std::string& path) const;
  /// Whether fit was stopped before its last epoch was done.
  bool stopped = false;
  void visit_state(StateVisitor& v);

 private:
  friend class Training;
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
  const History& history;           ///< the epochs that are done; not empty in on_train_begin where training goes on
};

/// A batch whose loss is NaN or infinite, before it has changed anything.
class NonfiniteLoss {
 public:
  virtual ~NonfiniteLoss() = default;
  double loss = 0;
  uint64_t step = 0;  ///< Call::step() of this batch, from 0
  /// Where the first value that is not finite came from: the data, a parameter, or the layer and op that made it, which
  /// is found by running the batch once more with the same random numbers.
  virtual std::string origin() const = 0;
};

/// Told of each step of fit. Override what you need.
class Callback {
 public:
  virtual ~Callback() = default;
  /// Before the gradients are computed; training goes on unless this throws or stops it.
  virtual void on_nonfinite_loss(const Progress&, const NonfiniteLoss&) {}
  virtual void on_train_begin(const Progress&) {}
  virtual void on_epoch_begin(const Progress&) {}
  virtual void on_batch_end(const Progress&) {}
  virtual void on_epoch_end(const Progress&) {}
  virtual void on_train_end(const Progress&, const History&) {}
  /// What it must remember where training goes on from a checkpoint. It is set after on_train_begin, as are the model
  /// and its optimizer: what on_train_begin changes in them is for a training that begins.
  virtual void visit_state(StateVisitor&) {}
};

}  // namespace nn
}  // namespace mica

namespace MICA_EXPORT mica {
namespace callbacks {

namespace detail {
// A callback that is written as a value, {.callbacks = {callbacks::EarlyStopping()}}; copies share it.
class Handle {
 public:
  operator std::shared_ptr<nn::Callback>() const { return callback_; }

 protected:
  explicit Handle(std::shared_ptr<nn::Callback> callback) : callback_(std::move(callback)) {}
  std::shared_ptr<nn::Callback> callback_;
};
}  // namespace detail

/// Whether less or more of what is monitored is better. `automatic` knows Mica's own names, and those that end in
/// "loss" or "error" (min) and in "accuracy" (max); for others it throws Error at the end of the first epoch.
enum class Mode : unsigned char { automatic, min, max };

struct EarlyStoppingOptions {
  std::string monitor = "val_loss";  ///< a name of the epoch's logs; throws Error, listing them, when it is none
  int64_t patience = 3;              ///< stops after so many epochs in a row that were not better
  double min_delta = 0;              ///< better is by more than this; NaN is never better
  Mode mode = Mode::automatic;
  /// Whether the parameters and buffers of the best epoch are put back at the end, also where training was not stopped.
  /// The optimizer's state is that of the last epoch.
  bool restore_best = true;
};

/// Stops training when it no longer gets better. Each fit begins anew.
class EarlyStopping : public detail::Handle {
 public:
  /// Throws Error for a patience below 1, and a min_delta that is negative or not finite.
  explicit EarlyStopping(EarlyStoppingOptions options = {});
  /// The best value of the last fit; NaN when there is none.
  double best() const;
  /// Its epoch, from 1; 0 when there is none.
  int64_t best_epoch() const;
};

struct ModelCheckpointOptions {
  std::string monitor = "val_loss";  ///< as EarlyStopping's
  Mode mode = Mode::automatic;
  bool save_best_only = true;  ///< false: after every epoch, whatever is monitored
};

/// Saves the model (Model::save) after each epoch that is better than all before it in this fit.
class ModelCheckpoint : public detail::Handle {
 public:
  /// "{epoch}" in the path becomes the epoch's number, from 1; without it the file is replaced. Throws Error for other
  /// names in braces.
  explicit ModelCheckpoint(std::string path, ModelCheckpointOptions options = {});
};

/// Writes one line an epoch as it ends: epoch, from 1, then the logs, in the shortest digits that read back the same.
/// A file that is there is replaced when training begins. Throws FileError where it cannot be written.
class CSVLogger : public detail::Handle {
 public:
  explicit CSVLogger(std::string path);
};

/// Ends fit with an Error when the loss of a batch is NaN or infinite, saying in which step and where the first value
/// that is not finite came from: "[fit] the loss of step 12 (epoch 1, batch 13) is nan: dense_1: [log] ...". The model
/// keeps the parameters that it had before that batch.
class TerminateOnNaN : public detail::Handle {
 public:
  TerminateOnNaN();
};

/// A progress bar on standard output: batches, images/s, time left, loss and metrics as they move; where that is no
/// terminal, one plain line an epoch.
std::shared_ptr<nn::Callback> progress_bar();

}  // namespace callbacks
}  // namespace mica
