// What the ops share: argument checks and broadcasts as kernels want them.
#pragma once

#include "core/tensor_access.h"
#include "kernels/kernels.h"
#include "mica/autograd/tape.h"
#include "mica/core/tensor.h"

namespace mica::ops {

/// The ops whose records cross-entropy looks for, to compute from the logits that they saved second. It compares
/// addresses: somebody's own op may have the same name.
inline constexpr char kSoftmax[] = "softmax";
inline constexpr char kSigmoid[] = "sigmoid";

inline void* out(Tensor& x) { return TensorAccess::data(x); }

inline void check_float(const char* op, const char* what, const Tensor& x) {
  check(x.defined(), op, what, " is undefined");
  check(x.dtype() == float32 || x.dtype() == float64, op, what, " must be float32 or float64, got ", x.dtype());
}

/// `b` (named `what`) must be of a's dtype and on its device.
inline void check_like(const char* op, const char* what, const Tensor& b, const Tensor& a) {
  check(b.defined(), op, what, " is undefined");
  check(b.dtype() == a.dtype(), op, "dtypes must match: ", a.dtype(), " and ", b.dtype(), " (", what, ")");
  check(b.device() == a.device(), op, "devices must match: ", a.device(), " and ", b.device(), " (", what, ")");
}

inline kernels::Write write(const Gradients::Out& out) {
  return out.accumulate ? kernels::Write::accumulate : kernels::Write::overwrite;
}

/// The strides of a contiguous tensor, in elements.
struct Strides {
  explicit Strides(const Shape& shape) {
    int64_t run = 1;
    for (int i = shape.rank() - 1; i >= 0; --i) {
      of[i] = run;
      run *= shape[i];
    }
  }
  int64_t of[Shape::kMaxRank] = {};
};

/// A walk over `shape` with the operands' strides, without axes of size 1, with axes merged where both run on.
kernels::StridedDims strided_dims(const Shape& shape, const int64_t* a_strides, const int64_t* b_strides);
/// The broadcast of `a` and `b` to `shape`.
kernels::StridedDims broadcast_dims(const Shape& shape, const Shape& a, const Shape& b);

/// x [outer, n, inner] seen around one axis.
struct AroundAxis {
  AroundAxis(const Shape& shape, int axis) : n(shape[axis]) {
    for (int i = 0; i < shape.index(axis); ++i) outer *= shape[i];
    for (int i = shape.index(axis) + 1; i < shape.rank(); ++i) inner *= shape[i];
  }
  int64_t outer = 1, n, inner = 1;
};

/// Whether a number is a value of the dtype, but for rounding: integers hold integers within their range.
bool holds(DType dtype, double value);

/// Throws Error naming `op` when a result of this shape cannot be.
void check_size(const char* op, const Shape& shape);

/// Throws Error naming `op` unless x is defined and of a dtype that is compared and counted: any but bfloat16.
void check_number(const char* op, const Tensor& x);

/// x summed over the axes in which `shape` was broadcast to x's: the gradient of broadcast_to. Not recorded.
Tensor sum_to(const Tensor& x, const Shape& shape);

/// `axis` counted from the front; throws Error in the name of `op` when `shape` does not have it.
int checked_axis(const char* op, const Shape& shape, int axis);

/// `shape` with `axis` (counted from the front) of another size, without it, or with a new one before it.
Shape with_size(Shape shape, int axis, int64_t size);
Shape without_axis(const Shape& shape, int axis);
Shape with_axis(const char* op, const Shape& shape, int axis, int64_t size);

/// Integer indices as int64 within [0, n), on their device; negative ones count from the end. Throws Error naming `op`
/// and the first index outside of [-n, n).
Tensor checked_indices(const char* op, const Tensor& indices, int64_t n);
/// Integer labels as int64; throws Error naming `op` and the first label outside of [0, classes).
Tensor checked_labels(const char* op, const Tensor& labels, int64_t classes);

/// The same of tokens within [0, tokens).
Tensor checked_tokens(const char* op, const Tensor& tokens, int64_t count);

/// A few values without malloc, many with it.
template <class T>
class Small {
 public:
  void add(T value) {
    if (count_ < kInline)
      few_[count_] = value;
    else if (many_.empty())
      many_.assign(few_, few_ + kInline), many_.push_back(value);
    else
      many_.push_back(value);
    ++count_;
  }
  std::span<const T> span() const { return {many_.empty() ? few_ : many_.data(), count_}; }

 private:
  static constexpr size_t kInline = 8;
  T few_[kInline] = {};
  size_t count_ = 0;
  std::vector<T> many_;
};

/// Whether a kernel applies the function in its epilogue.
inline bool fuses(UnaryOp op) {
  switch (op) {
#define MICA_CASE(function, Functor) case UnaryOp::function:
    MICA_FUSED_OPS(MICA_CASE)
#undef MICA_CASE
    return true;
    default: return false;
  }
}

/// dz [..., N] where y = f(z), f a fused activation and z a sum with the bias that is input `bias`, whose gradient is
/// added where it is wanted. dy itself where f is the identity; may be written over dy.
Tensor activation_gradient(Gradients& g, UnaryOp op, const Tensor& y, int bias);

/// bias[N] (+)= the sum of dy [..., N] over all but the last axis.
void bias_gradient(Gradients& g, int input, const Tensor& dy);

}  // namespace mica::ops
