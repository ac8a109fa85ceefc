// Mini-batches, the next one prepared in the background.
#pragma once

#include <memory>
#include <vector>

#include "mica/core/random.h"
#include "mica/data/dataset.h"

namespace MICA_EXPORT mica {
namespace data {

struct BatchOptions {
  int64_t batch_size = 32;
  bool shuffle = false;
  bool drop_last = false;  ///< leave out a last batch that is not full
  uint64_t seed = mica::seed();
  int64_t epoch = 0;   ///< with the seed, it decides the order
  int64_t epochs = 1;  ///< how many passes, epoch, epoch + 1, ...
  int64_t batch = 0;   ///< the first pass begins with this one
};

struct Batch {
  Tensor x, y;
};

/// A pass over x and y (y may be undefined) in batches. A thread gathers the next batch while the last one is used; it
/// ends with the object. Iterate once: `for (auto [x, y] : batches(train, {.batch_size = 128, .shuffle = true}))`.
class Batches {
 public:
  /// Throws Error when x and y differ in number, the batch size is below 1, or the first batch
  /// is negative.
  Batches(Column x, Column y, BatchOptions options);
  ~Batches();
  Batches(Batches&&) noexcept;
  Batches& operator=(Batches&&) noexcept;

  /// The next batch; false when there is none.
  bool next(Batch& batch);
  /// The number of batches of one epoch.
  int64_t per_epoch() const;

  class Iterator {
   public:
    explicit Iterator(Batches* batches) : batches_(batches) { ++*this; }
    Batch operator*() const { return batch_; }
    Iterator& operator++() {
      batch_ = {};
      if (!batches_->next(batch_)) batches_ = nullptr;
      return *this;
    }
    struct End {};
    friend bool operator==(const Iterator& i, End) { return i.batches_ == nullptr; }

   private:
    Batches* batches_;
    Batch batch_;
  };
  Iterator begin() { return Iterator(this); }
  Iterator::End end() { return {}; }

 private:
  struct State;
  std::unique_ptr<State> state_;
};

inline Batches batches(const Dataset& dataset, BatchOptions options = {}) {
  return Batches(dataset.images, dataset.labels, options);
}
inline Batches batches(const Column& x, const Column& y, BatchOptions options = {}) { return Batches(x, y, options); }

}  // namespace data
}  // namespace mica
