// Loader: its thread fills a small queue, the consumer empties it; the hand-off is the only lock.
#include "data/loader.h"

#include <algorithm>
#include <deque>
#include <utility>

namespace mica::data {

Loader::Loader(std::vector<Column> columns, const BatchOptions& options)
    : columns_(std::move(columns)), options_(options) {
  for (Tensors& batch : ready_) batch.resize(columns_.size());
  for (const Column& column : columns_) streams_.push_back(current_stream(column.values().device()));
  thread_ = std::thread([this] { run(); });
}

Loader::~Loader() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  thread_.join();
}

int64_t Loader::per_epoch() const {
  const int64_t n = columns_[0].size(), b = options_.batch_size;
  return n / b + (!options_.drop_last && n % b != 0);
}

void Loader::run() noexcept {
  try {
    std::deque<StreamScope> scopes;
    for (const Stream& stream : streams_) scopes.emplace_back(stream);
    const int64_t n = columns_[0].size(), batches = per_epoch();
    Tensor order;
    Tensors batch(columns_.size());
    for (int64_t epoch = 0; epoch < options_.epochs; ++epoch) {
      if (options_.shuffle)
        order = random_permutation(
            n, {random_stream(options_.seed, "batches"), static_cast<uint64_t>(options_.epoch + epoch)});
      for (int64_t b = epoch == 0 ? options_.batch : 0; b < batches; ++b) {
        const int64_t begin = b * options_.batch_size, end = std::min(begin + options_.batch_size, n);
        for (size_t i = 0; i < columns_.size(); ++i)
          batch[i] = options_.shuffle ? columns_[i].gather({order.data<int64_t>() + begin, order.data<int64_t>() + end})
                                      : columns_[i].rows(begin, end);
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return stopping_ || made_ - taken_ < kReady; });
        if (stopping_) return;
        std::swap(ready_[made_++ % kReady], batch);
        changed_.notify_all();
      }
    }
  } catch (...) {
    error_ = std::current_exception();
  }
  const std::lock_guard lock(mutex_);
  done_ = true;
  changed_.notify_all();
}

bool Loader::next(Tensors& batch) {
  batch.resize(columns_.size());
  for (Tensor& t : batch) t = {};
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return done_ || made_ > taken_; });
  if (made_ == taken_) {
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
    return false;
  }
  std::swap(batch, ready_[taken_++ % kReady]);
  changed_.notify_all();
  return true;
}

}  // namespace mica::data
