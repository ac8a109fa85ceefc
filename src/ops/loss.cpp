// Cross-entropy of logits: checks, forward and gradient.
#include "mica/ops/loss.h"

#include "ops/common.h"

namespace MICA_EXPORT mica {

namespace {

Shape without_last(const Shape& shape) {
  return Shape(std::span<const int64_t>(shape.begin(), static_cast<size_t>(shape.rank() - 1)));
}

}  // namespace

Tensor cross_entropy(const Tensor& logits, const Tensor& targets) {
  ops::check_float("cross_entropy", "the logits", logits);
  ops::check_like("cross_entropy", "the targets", targets, logits);
  check(logits.rank() >= 1 && logits.shape() == targets.shape(), "cross_entropy",
        "targets must have the predictions' shape: predictions ", logits.shape(), ", targets ", targets.shape());
  const int64_t n = logits.dim(-1), rows = without_last(logits.shape()).elements();
  check(n > 0, "cross_entropy", "there must be at least one class, shape ", logits.shape());
  Tensor loss = empty(without_last(logits.shape()), {logits.dtype(), logits.device()});
  Context ctx = context(logits.device());
  kernels_for(logits.device()).cross_entropy(ctx, logits.dtype(), rows, n, logits.raw(), targets.raw(), ops::out(loss));
  if (Tape* tape = Tape::recording(logits))
    tape->record("cross_entropy", {&logits}, {&loss}, {&logits, &targets}, [=](Gradients& g) {
      Gradients::Out dz = g.out(0);
      Context c = context(g.dy().device());
      kernels_for(g.dy().device())
          .cross_entropy_gradient(c, g.dy().dtype(), rows, n, g.saved(0).raw(), g.saved(1).raw(), g.dy().raw(),
                                  ops::out(dz.tensor), ops::write(dz));
    });
  return loss;
}

Tensor sparse_cross_entropy(const Tensor& logits, const Tensor& labels, double label_smoothing) {
  const char* op = "sparse_cross_entropy";
  ops::check_float(op, "the logits", logits);
  check(labels.defined() && labels.device() == logits.device(), op, "the labels must be on ", logits.device());
  check(logits.rank() >= 1 && without_last(logits.shape()) == labels.shape(), op,
        "labels must have the predictions' shape without its last axis: predictions ", logits.shape(), ", labels ",
        labels.shape());
  check(label_smoothing >= 0 && label_smoothing <= 1, op, "label_smoothing must be in [0, 1], got ", label_smoothing);
  const int64_t n = logits.dim(-1), rows = labels.elements();
  const Tensor wide = ops::checked_labels(op, labels, n);
  Tensor loss = empty(labels.shape(), {logits.dtype(), logits.device()});
  Context ctx = context(logits.device());
  kernels_for(logits.device())
      .sparse_cross_entropy(ctx, logits.dtype(), rows, n, label_smoothing, logits.raw(), wide.data<int64_t>(),
                            ops::out(loss));
  if (Tape* tape = Tape::recording(logits))
    tape->record(op, {&logits}, {&loss}, {&logits, &wide}, [=](Gradients& g) {
      Gradients::Out dz = g.out(0);
      Context c = context(g.dy().device());
      kernels_for(g.dy().device())
          .sparse_cross_entropy_gradient(c, g.dy().dtype(), rows, n, label_smoothing, g.saved(0).raw(),
                                         g.saved(1).data<int64_t>(), g.dy().raw(), ops::out(dz.tensor), ops::write(dz));
    });
  return loss;
}

}  // namespace mica
