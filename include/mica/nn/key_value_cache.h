// KeyValueCache: what attention keeps while a sequence is generated step by step.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "mica/autograd/parameter.h"
#include "mica/core/tensor.h"

namespace MICA_EXPORT mica {
namespace nn {

/// The keys and values of the steps so far, of every attention layer of a model. A call with a cache computes new steps
/// alone, at the positions behind those that it holds, and gives what a call on the whole sequence gives for them:
///   nn::KeyValueCache cache(256);
///   Tensor logits = model(prompt, cache);                       // [B, T, vocabulary]
///   while (...) logits = model(next_tokens(logits), cache);     // [B, 1, vocabulary]
/// The new steps are the model's first input. Self-attention must be causal, and all other layers work on each step by
/// itself. A decoder's context, with its padding, is that of the first call; later ones only need its shape. Inference
/// alone, whether a tape records or not; one thread at a time, while the model may serve others. What a copy holds is
/// its own. A call that throws leaves the cache as it was.
class KeyValueCache {
 public:
  /// Room for `capacity` steps, >= 1, of each sequence: layers ask for it in their first call.
  explicit KeyValueCache(int64_t capacity);
  KeyValueCache(const KeyValueCache& other);
  KeyValueCache(KeyValueCache&&) noexcept = default;
  KeyValueCache& operator=(KeyValueCache other) noexcept;
  ~KeyValueCache() = default;

  int64_t capacity() const { return capacity_; }
  /// How many steps it holds.
  int64_t length() const { return length_; }
  /// Forgets all steps behind the first `length`; 0: all that it knows. Throws Error unless 0 <= length <= length().
  void truncate(int64_t length = 0);
  /// Sequence i becomes a copy of what sequence indices[i] was: the beams that go on. int64 [n], n of any size. Throws
  /// Error for an index that is not there.
  void reorder(const Tensor& indices);

  /// What it holds of one layer: keys [B, capacity, N, D] and values [B, capacity, N, Dv], of which the first `length`
  /// steps count, the new ones among them, and which of those are padding (uint8 [B, length], or undefined).
  struct Steps {
    Tensor keys, values;
    int64_t length = 0;
    Tensor mask = {};
  };
  /// For layers of attention: puts the new steps' keys [B, T, N, D], values [B, T, N, Dv] and mask [B, T] behind those
  /// of the layer that owns `kernel`, which is the next one that is called. Throws Error where they do not fit.
  Steps append(const Parameter& kernel, const Tensor& keys, const Tensor& values, const Tensor& mask);
  /// Likewise of a context: the steps that make() gives in the first call.
  template <class Make>
  Steps context(const Parameter& kernel, const Make& make) {
    Entry& entry = next(kernel);
    if (!entry.keys.defined()) {
      Steps made = make();
      entry.keys = std::move(made.keys);
      entry.values = std::move(made.values);
      entry.mask = std::move(made.mask);
    }
    return {entry.keys, entry.values, entry.keys.dim(1), entry.mask};
  }
  /// For models: begins a call on new steps [B, T, ...], and ends one that went well.
  void begin_call(const Tensor& x);
  void end_call();

 private:
  struct Entry {
    Parameter kernel;
    Tensor keys = {}, values = {}, mask = {};  // the mask [B, capacity], once there is one; of a context, its own
  };
  Entry& next(const Parameter& kernel);

  int64_t capacity_, length_ = 0;
  std::vector<Entry> entries_;  // in the order in which layers are called
  size_t next_ = 0;
  int64_t new_steps_ = 0;  // of the call under way
};

}  // namespace nn
}  // namespace mica
