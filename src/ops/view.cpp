// What is a member of Tensor: views, copies, conversions; checks, forward and gradient.
#include "ops/common.h"

namespace MICA_EXPORT mica {

Tensor Tensor::reshape(const Shape& wanted) const {
  check(defined(), "reshape", "the tensor is undefined");
  Shape target = wanted;
  int64_t known = 1, nonzero = 1;
  int unknown = -1;
  for (int i = 0; i < target.rank(); ++i) {
    if (target[i] == -1) {
      check(unknown < 0, "reshape", "only one size may be -1: ", wanted);
      unknown = i;
    } else {
      check(target[i] >= 0, "reshape", "sizes must not be negative: ", wanted);
      check(target[i] == 0 || (!__builtin_mul_overflow(nonzero, target[i], &nonzero) && nonzero < (int64_t{1} << 46)),
            "reshape", "too many elements: ", wanted);
      known = target[i] == 0 || known == 0 ? 0 : nonzero;
    }
  }
  if (unknown >= 0) {
    check(known > 0 && elements() % known == 0, "reshape", "cannot infer the -1: ", shape_, " to ", wanted);
    target[unknown] = elements() / known;
  }
  check(target.elements() == elements(), "reshape", "the number of elements must stay the same: ", shape_, " to ",
        wanted);
  Tensor y = TensorAccess::view(*this, 0, target);
  if (Tape* tape = Tape::recording(*this))
    tape->record("reshape", {this}, {&y}, {}, [shape = shape_](Gradients& g) { g.add(0, g.dy().reshape(shape)); });
  return y;
}

namespace {

// Rows [begin, end) of x under `shape`, as a view whose gradient is added to those rows.
Tensor rows(const char* op, const Tensor& x, int64_t begin, const Shape& shape) {
  const int64_t row = x.shape().tail().elements();
  const size_t offset = static_cast<size_t>(begin * row) * size_of(x.dtype());
  Tensor y = TensorAccess::view(x, offset, shape);
  if (Tape* tape = Tape::recording(x))
    tape->record(op, {&x}, {&y}, {}, [offset](Gradients& g) {
      Gradients::Out dx = g.out(0);
      Context ctx = context(g.dy().device());
      const kernels::Table& k = kernels_for(g.dy().device());
      if (!dx.accumulate) k.fill(ctx, dx.tensor.dtype(), dx.tensor.elements(), 0, ops::out(dx.tensor));
      k.accumulate(ctx, g.dy().dtype(), g.dy().elements(), g.dy().raw(),
                   static_cast<char*>(ops::out(dx.tensor)) + offset);
    });
  return y;
}

}  // namespace

Tensor Tensor::slice(int64_t begin, int64_t end) const {
  check(defined() && rank() > 0, "slice", "the tensor must have an axis to slice, shape ", shape_);
  const int64_t n = dim(0);
  const int64_t first = begin < 0 ? begin + n : begin, last = end < 0 ? end + n : end;
  check(0 <= first && first <= last && last <= n, "slice", "rows [", begin, ", ", end, ") are not within ", shape_);
  return rows("slice", *this, first, shape_.tail().with_first(last - first));
}

Tensor Tensor::operator[](int64_t index) const {
  check(defined() && rank() > 0, "index", "the tensor must have an axis to index, shape ", shape_);
  const int64_t i = index < 0 ? index + dim(0) : index;
  check(0 <= i && i < dim(0), "index", "row ", index, " is not within ", shape_);
  return rows("index", *this, i, shape_.tail());
}

Tensor Tensor::clone() const {
  check(defined(), "clone", "the tensor is undefined");
  Tensor y = empty_like(*this);
  y.copy_from(*this);
  if (Tape* tape = Tape::recording(*this))
    tape->record("clone", {this}, {&y}, {}, [](Gradients& g) { g.add(0, g.dy()); });
  return y;
}

Tensor Tensor::to(DType target) const {
  check(defined(), "to", "the tensor is undefined");
  if (target == dtype_) return *this;
  Tensor y = empty(shape_, {target, device()});
  Context ctx = context(device());
  kernels_for(device()).cast(ctx, elements(), dtype_, raw(), target, 1, 0, ops::out(y));
  const auto differentiable = [](DType dtype) { return dtype == float32 || dtype == float64; };
  if (Tape* tape = differentiable(target) && differentiable(dtype_) ? Tape::recording(*this) : nullptr)
    tape->record("to", {this}, {&y}, {}, [from = dtype_](Gradients& g) { g.add(0, g.dy().to(from)); });
  return y;
}

}  // namespace mica
