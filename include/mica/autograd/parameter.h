// Parameter: a trainable tensor, its gradient, and the stable handle by which layers and optimizers hold both.
#pragma once

#include <string>
#include <vector>

#include "mica/core/tensor.h"

namespace MICA_EXPORT mica {

namespace detail {

struct Leaf {
  std::atomic<int32_t> references{0};
  bool trainable = true;
  bool has_gradient = false;
  Tensor value;
  Tensor gradient;  // the storage; valid while has_gradient
  std::string name;
};

}  // namespace detail

/// A handle on a parameter: copies share it. Its tensor may be rebound (packed into flat storage, moved to a device)
/// without the handle changing.
class Parameter {
 public:
  Parameter() : leaf_(new detail::Leaf) { detail::retain(leaf_); }
  explicit Parameter(Tensor value) : Parameter() { leaf_->value = std::move(value); }
  Parameter(const Parameter& other) : leaf_(other.leaf_) { detail::retain(leaf_); }
  Parameter& operator=(const Parameter& other) {
    detail::retain(other.leaf_);
    detail::release(leaf_);
    leaf_ = other.leaf_;
    return *this;
  }
  ~Parameter() { detail::release(leaf_); }

  /// The value, known to the tape as this parameter. Undefined until the layer is built.
  Tensor tensor() const {
    Tensor t = leaf_->value;
    attach(t);
    return t;
  }
  operator Tensor() const { return tensor(); }

  /// The value as plain storage, for reading and writing in place.
  Tensor& value() const { return leaf_->value; }
  /// The gradient accumulated since it was last zeroed; undefined when there is none.
  Tensor gradient() const { return leaf_->has_gradient ? leaf_->gradient : Tensor(); }
  /// Forgets the gradient. Costs nothing: the next backward pass overwrites it.
  void zero_gradient() const { leaf_->has_gradient = false; }

  /// Whether the tape records gradients to this parameter (true at first).
  bool trainable() const { return leaf_->trainable; }
  void set_trainable(bool trainable) const { leaf_->trainable = trainable; }

  /// "conv2d_1.kernel": given when the model is built, from the position in it.
  const std::string& name() const { return leaf_->name; }
  void set_name(std::string name) const { leaf_->name = std::move(name); }
  const Shape& shape() const { return leaf_->value.shape(); }
  bool defined() const { return leaf_->value.defined(); }

  friend bool operator==(const Parameter& a, const Parameter& b) { return a.leaf_ == b.leaf_; }
  detail::Leaf* leaf() const { return leaf_; }

 private:
  void attach(Tensor& t) const;

  detail::Leaf* leaf_;
};

/// Moves the values and gradients of `parameters` into flat storages, one for each dtype and device, each parameter at
/// a 64-byte boundary, so that an update is one pass. Values are kept; the handles stay valid.
void pack(const std::vector<Parameter>& parameters);

}  // namespace mica
