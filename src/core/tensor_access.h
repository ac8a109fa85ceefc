// TensorAccess: how ops and the tape reach a tensor's insides.
#pragma once

#include "mica/core/tensor.h"

namespace mica {

struct TensorAccess {
  /// A view of `x`'s storage, `offset` bytes further in, unknown to any tape.
  static Tensor view(const Tensor& x, size_t offset, const Shape& shape) {
    Tensor y;
    y.storage_ = x.storage_;
    if (y.storage_) y.storage_->references.fetch_add(1, std::memory_order_relaxed);
    y.offset_ = x.offset_ + offset;
    y.shape_ = shape;
    y.dtype_ = x.dtype_;
    return y;
  }
  static Tensor make(detail::Storage* storage, const Shape& shape, DType dtype) {
    Tensor y;
    y.storage_ = storage;
    y.shape_ = shape;
    y.dtype_ = dtype;
    return y;
  }
  static const detail::Provenance& provenance(const Tensor& x) { return x.from_; }
  static void set_provenance(Tensor& x, detail::Provenance from) { x.from_ = std::move(from); }
  /// Whether nothing else shares the storage, so that it can be written to unseen.
  static bool unique(const Tensor& x) {
    return x.storage_ && x.storage_->references.load(std::memory_order_acquire) == 1;
  }
  /// The streams that may be working with the storage.
  static uint64_t streams(const Tensor& x) { return x.storage_ ? x.storage_->streams.load() : 0; }
  /// For writing results: no version bump (nobody has seen the tensor yet).
  static void* data(Tensor& x) { return const_cast<void*>(x.raw()); }
};

}  // namespace mica
