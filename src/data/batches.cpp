// Mini-batches: a thread fills a small queue, the consumer empties it; the hand-off is the only lock.
#include "mica/data/batches.h"

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <numeric>
#include <thread>

#include "mica/core/error.h"

namespace MICA_EXPORT mica {
namespace data {

struct Batches::Loader {
  static constexpr int kReady = 2;  // batches made ahead

  Column x, y;
  BatchOptions options;
  std::thread thread;
  std::mutex mutex;
  std::condition_variable changed;
  Batch ready[kReady];
  int64_t made = 0, taken = 0;
  bool done = false, stopping = false;
  std::exception_ptr error;

  int64_t per_epoch() const {
    const int64_t n = x.size(), b = options.batch_size;
    return n / b + (!options.drop_last && n % b != 0);
  }

  void run() noexcept {
    try {
      Tensor order;
      for (int64_t epoch = options.epoch; epoch < options.epoch + options.epochs; ++epoch) {
        if (options.shuffle)
          order = random_permutation(x.size(), {random_stream(options.seed, "batches"), static_cast<uint64_t>(epoch)});
        for (int64_t b = 0; b < per_epoch(); ++b) {
          const int64_t begin = b * options.batch_size, end = std::min(begin + options.batch_size, x.size());
          Batch batch = make(order, begin, end);
          std::unique_lock lock(mutex);
          changed.wait(lock, [&] { return stopping || made - taken < kReady; });
          if (stopping) return;
          ready[made++ % kReady] = std::move(batch);
          changed.notify_all();
        }
      }
    } catch (...) {
      error = std::current_exception();
    }
    const std::lock_guard lock(mutex);
    done = true;
    changed.notify_all();
  }

  Batch make(const Tensor& order, int64_t begin, int64_t end) const {
    if (!options.shuffle) return {x.rows(begin, end), y.defined() ? y.rows(begin, end) : Tensor()};
    const std::span indices(order.data<int64_t>() + begin, static_cast<size_t>(end - begin));
    return {x.gather(indices), y.defined() ? y.gather(indices) : Tensor()};
  }

  bool next(Batch& batch) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return done || made > taken; });
    if (made == taken) {
      if (error) std::rethrow_exception(std::exchange(error, nullptr));
      return false;
    }
    batch = std::move(ready[taken++ % kReady]);
    changed.notify_all();
    return true;
  }

  ~Loader() {
    {
      const std::lock_guard lock(mutex);
      stopping = true;
      changed.notify_all();
    }
    if (thread.joinable()) thread.join();
  }
};

Batches::Batches(Column x, Column y, BatchOptions options) : loader_(std::make_unique<Loader>()) {
  check(x.defined() && x.values().rank() >= 1, "batches", "the inputs must have a first axis of examples");
  check(!y.defined() || y.size() == x.size(), "batches", "inputs and targets must be equal in number: ", x.size(),
        " and ", y.size());
  check(options.batch_size >= 1, "batches", "the batch size must be at least 1, got ", options.batch_size);
  loader_->x = std::move(x);
  loader_->y = std::move(y);
  loader_->options = options;
  loader_->thread = std::thread([loader = loader_.get()] { loader->run(); });
}

Batches::~Batches() = default;
Batches::Batches(Batches&&) noexcept = default;
Batches& Batches::operator=(Batches&&) noexcept = default;

bool Batches::next(Batch& batch) { return loader_->next(batch); }
int64_t Batches::per_epoch() const { return loader_->per_epoch(); }

}  // namespace data
}  // namespace mica
