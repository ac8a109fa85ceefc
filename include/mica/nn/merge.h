// Layers of several inputs: Add, Multiply, Concatenate and their like.
#pragma once

#include "mica/nn/layer.h"
#include "mica/ops/elementwise.h"
#include "mica/ops/manipulate.h"

namespace MICA_EXPORT mica {
namespace nn {

namespace detail {

// The result has the mask of the first input that has one.
inline void join_masks(Call& call, size_t inputs) {
  for (size_t i = 1; i < inputs && !call.mask().defined(); ++i) call.set_mask(call.mask(i));
}

// A layer that folds its inputs, from the left, with a binary function.
template <class Derived, Tensor (*kFunction)(const Tensor&, const Tensor&)>
class Merge : public Module<Derived> {
 public:
  Tensor forward(std::span<const Tensor> xs, Call& call) const {
    check(!xs.empty(), Derived::kOp, "there must be at least one input");
    join_masks(call, xs.size());
    Tensor y = xs[0];
    for (size_t i = 1; i < xs.size(); ++i) y = kFunction(y, xs[i]);
    return y;
  }
  void visit(Visitor&) {}
};

}  // namespace detail

/// The sum, difference, product, largest or smallest of the inputs, element by element; shapes broadcast. Of masked
/// sequences the first one's mask is the result's.
struct Add : detail::Merge<Add, mica::add> {
  static constexpr const char* kType = "Add";
  static constexpr const char* kOp = "add";
};
struct Subtract : detail::Merge<Subtract, mica::subtract> {
  static constexpr const char* kType = "Subtract";
  static constexpr const char* kOp = "subtract";
};
struct Multiply : detail::Merge<Multiply, mica::multiply> {
  static constexpr const char* kType = "Multiply";
  static constexpr const char* kOp = "multiply";
};
struct Maximum : detail::Merge<Maximum, mica::maximum> {
  static constexpr const char* kType = "Maximum";
  static constexpr const char* kOp = "maximum";
};
struct Minimum : detail::Merge<Minimum, mica::minimum> {
  static constexpr const char* kType = "Minimum";
  static constexpr const char* kOp = "minimum";
};

/// The mean of the inputs.
struct Average : detail::Merge<Average, mica::add> {
  static constexpr const char* kType = "Average";
  static constexpr const char* kOp = "average";
  Tensor forward(std::span<const Tensor> xs, Call& call) const {
    return Merge::forward(xs, call) / static_cast<double>(xs.size());
  }
};

/// The inputs one after another along an axis, the last unless another is named.
class Concatenate : public Module<Concatenate> {
 public:
  static constexpr const char* kType = "Concatenate";
  explicit Concatenate(int64_t axis = -1) : axis_(axis) { check_axis(); }
  Tensor forward(std::span<const Tensor> xs, Call& call) const {
    check_axis();
    detail::join_masks(call, xs.size());
    return concat(xs, static_cast<int>(axis_));
  }
  void visit(Visitor& v) { v("axis", axis_); }

 private:
  // A loaded layer has not been through the constructor.
  void check_axis() const {
    check(axis_ >= -Shape::kMaxRank && axis_ < Shape::kMaxRank, "concatenate", "there is no axis ", axis_);
  }

  int64_t axis_ = -1;
};

}  // namespace nn
}  // namespace mica
