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

/// The broadcast of `a` and `b` to `shape`, with axes merged where both run on.
kernels::BroadcastDims broadcast_dims(const Shape& shape, const Shape& a, const Shape& b);

/// Whether a kernel can apply the function in its epilogue and find the gradient from the result alone. Sigmoid stays
/// an op of its own: cross-entropy looks for it.
inline bool fuses(UnaryOp op) { return op == UnaryOp::identity || op == UnaryOp::relu || op == UnaryOp::tanh; }

/// dy times the derivative of a fused activation, from the result y: dy itself where there is none.
Tensor activation_gradient(UnaryOp op, const Tensor& y, const Tensor& dy);

/// bias[N] (+)= the sum of dy [..., N] over all but the last axis.
void bias_gradient(Gradients& g, int input, const Tensor& dy);

}  // namespace mica::ops
