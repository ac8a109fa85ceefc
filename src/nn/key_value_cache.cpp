// The cache of keys and values: room, order of layers, masks.
#include "mica/nn/key_value_cache.h"

#include <algorithm>
#include <utility>

#include "mica/ops/index.h"
#include "mica/ops/manipulate.h"

namespace MICA_EXPORT mica {
namespace nn {

namespace {
constexpr const char* kOp = "key_value_cache";
constexpr const char* kOther =
    "the cache holds the steps of another model, or its layers were called in another order: truncate() empties it";

// Writes [B, T, ...] into the steps [B, capacity, ...] from `begin` on.
void put(Tensor& steps, int64_t begin, const Tensor& x) {
  const Shape step = steps.shape().tail();  // [capacity, ...]
  for (int64_t b = 0; b < x.dim(0); ++b)
    steps.slice(b, b + 1).reshape(step).slice(begin, begin + x.dim(1)).copy_from(x[b]);
}
}  // namespace

KeyValueCache::KeyValueCache(int64_t capacity) : capacity_(capacity) {
  check(capacity >= 1, kOp, "there must be room for at least 1 step, got ", capacity);
}

KeyValueCache::KeyValueCache(const KeyValueCache& other)
    : capacity_(other.capacity_), length_(other.length_), entries_(other.entries_) {
  for (Entry& entry : entries_)
    for (Tensor* t : {&entry.keys, &entry.values, &entry.mask})
      if (t->defined()) *t = t->clone();
}

KeyValueCache& KeyValueCache::operator=(KeyValueCache other) noexcept {
  std::swap(capacity_, other.capacity_);
  std::swap(length_, other.length_);
  std::swap(entries_, other.entries_);
  return *this;
}

void KeyValueCache::truncate(int64_t length) {
  check(length >= 0 && length <= length_, kOp, "the length must be in [0, ", length_, "], got ", length);
  length_ = length;
  if (length == 0) entries_.clear();
}

void KeyValueCache::reorder(const Tensor& indices) {
  check(indices.defined() && indices.rank() == 1, kOp, "the indices must be a vector",
        indices.defined() ? ", got " + to_string(indices.shape()) : "");
  std::vector<Entry> ordered = entries_;
  for (Entry& entry : ordered)
    for (Tensor* t : {&entry.keys, &entry.values, &entry.mask})
      if (t->defined()) {
        const Tensor steps = take(slice(*t, {{}, {0, length_}}), indices, 0);
        *t = empty(t->shape().tail().with_first(indices.dim(0)), {t->dtype(), t->device()});
        put(*t, 0, steps);
      }
  entries_ = std::move(ordered);
}

void KeyValueCache::begin_call(const Tensor& x) {
  check(x.rank() >= 2, kOp, "the first input must be the new steps [batch, time, ...], got ", x.shape());
  check(x.dim(1) <= capacity_ - length_, kOp, "the cache has room for ", capacity_, " steps and holds ", length_,
        ", got ", x.dim(1), " more");
  if (length_ == 0) entries_.clear();  // of a call that threw, too
  next_ = 0;
  new_steps_ = x.dim(1);
}

void KeyValueCache::end_call() {
  check(next_ == entries_.size(), kOp, kOther);
  length_ += new_steps_;
}

KeyValueCache::Entry& KeyValueCache::next(const Parameter& kernel) {
  if (next_ == entries_.size() && length_ == 0) entries_.push_back({kernel});
  check(next_ < entries_.size() && entries_[next_].kernel == kernel, kOp, kOther);
  return entries_[next_++];
}

KeyValueCache::Steps KeyValueCache::append(const Parameter& kernel, const Tensor& keys, const Tensor& values,
                                           const Tensor& mask) {
  const int64_t batch = keys.dim(0), steps = keys.dim(1);
  check(steps == new_steps_, kOp, "attention must be to the ", new_steps_, " steps of the first input, got ", steps);
  Entry& entry = next(kernel);
  const TensorOptions like{keys.dtype(), keys.device()};
  if (!entry.keys.defined()) {
    entry.keys = empty({batch, capacity_, keys.dim(2), keys.dim(3)}, like);
    entry.values = empty({batch, capacity_, values.dim(2), values.dim(3)}, like);
  }
  check(entry.keys.dim(0) == batch, kOp, "the cache holds ", entry.keys.dim(0), " sequences, got ", batch);
  const int64_t length = length_ + steps;
  put(entry.keys, length_, keys);
  put(entry.values, length_, values);
  if (mask.defined() && !entry.mask.defined()) entry.mask = ones({batch, capacity_}, {uint8, keys.device()});
  if (!entry.mask.defined()) return {entry.keys, entry.values, length};
  put(entry.mask, length_, mask.defined() ? mask : ones({batch, steps}, {uint8, keys.device()}));
  return {entry.keys, entry.values, length, slice(entry.mask, {{}, {0, length}})};
}

}  // namespace nn
}  // namespace mica
