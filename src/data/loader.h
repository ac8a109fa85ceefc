// Loader: batches of any number of columns, made by a thread while the last one is used.
#pragma once

#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "mica/core/stream.h"
#include "mica/data/batches.h"

namespace mica::data {

class Loader {
 public:
  /// Of columns of equal length, at least one; the options are checked.
  Loader(std::vector<Column> columns, const BatchOptions& options);
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  /// The next batch, a tensor for each column; false when there is none. What `batch` held is let go of first, and
  /// serves a batch to come.
  bool next(Tensors& batch);
  int64_t per_epoch() const;

 private:
  static constexpr int kReady = 2;  // batches made ahead

  void run() noexcept;

  const std::vector<Column> columns_;
  const BatchOptions options_;
  std::vector<Stream> streams_;  // of the columns' devices, into which who asked for batches puts work
  std::mutex mutex_;
  std::condition_variable changed_;
  Tensors ready_[kReady];
  int64_t made_ = 0, taken_ = 0;
  bool done_ = false, stopping_ = false;
  std::exception_ptr error_;
  std::thread thread_;
};

}  // namespace mica::data
