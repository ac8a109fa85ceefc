// Losses.
#include "mica/nn/losses.h"

#include "core/tensor_access.h"
#include "mica/autograd/tape.h"
#include "mica/ops/elementwise.h"
#include "mica/ops/loss.h"
#include "mica/ops/reduce.h"
#include "ops/common.h"

namespace MICA_EXPORT mica {
namespace losses {

namespace {

void check_same_shape(const char* op, const Tensor& prediction, const Tensor& target) {
  check(prediction.defined() && target.defined(), op, "prediction and target must be defined");
  check(prediction.shape() == target.shape(), op, "prediction and target must have one shape: prediction ",
        prediction.shape(), ", target ", target.shape());
}

// The targets in the prediction's dtype: labels may come as integers.
Tensor like(const Tensor& target, const Tensor& prediction) { return target.to(prediction.dtype()); }

// The logits from which `activation` made `prediction` on the current tape, known to the tape as they were; undefined
// if it was something else.
Tensor logits_of(const Tensor& prediction, const char* activation) {
  Tape* tape = Tape::current();
  const mica::detail::Record* r = tape ? tape->producer(prediction) : nullptr;
  if (!r || r->op != activation) return {};
  Tensor logits = r->saved[1].tensor;
  const mica::detail::Edge& edge = r->inputs[0];
  TensorAccess::set_provenance(logits, edge.slot ? tape->provenance(edge.slot) : mica::detail::Provenance(edge.leaf));
  return logits;
}

Tensor clamp(const Tensor& p, double low, double high) { return minimum(maximum(p, low), high); }

}  // namespace

Tensor MeanSquaredError::operator()(const Tensor& prediction, const Tensor& target) const {
  check_same_shape(kName, prediction, target);
  return mean(square(prediction - like(target, prediction)));
}

Tensor BinaryCrossentropy::operator()(const Tensor& prediction, const Tensor& target) const {
  check_same_shape(kName, prediction, target);
  const Tensor t = like(target, prediction);
  const Tensor logits = from_logits ? prediction : logits_of(prediction, ops::kSigmoid);
  if (logits.defined()) return mean(softplus(logits) - logits * t);
  const Tensor p = clamp(prediction, 1e-7, 1 - 1e-7);
  return -mean(t * log(p) + (1 - t) * log(1 - p));
}

Tensor CategoricalCrossentropy::operator()(const Tensor& prediction, const Tensor& target) const {
  check_same_shape(kName, prediction, target);
  check(prediction.rank() >= 1, kName, "predictions must have a class axis, shape ", prediction.shape());
  const Tensor t = like(target, prediction);
  const Tensor logits = from_logits ? prediction : logits_of(prediction, ops::kSoftmax);
  if (logits.defined()) return mean(cross_entropy(logits, t));
  return -mean(sum(t * log(maximum(prediction, 1.17549435e-38)), -1));
}

Tensor SparseCategoricalCrossentropy::operator()(const Tensor& prediction, const Tensor& target) const {
  check(prediction.defined() && target.defined(), kName, "prediction and target must be defined");
  check(prediction.rank() >= 1, kName, "predictions must have a class axis, shape ", prediction.shape());
  const Tensor logits = from_logits ? prediction : logits_of(prediction, ops::kSoftmax);
  // Of probabilities, their logarithms are logits: they sum to 1 already.
  return mean(sparse_cross_entropy(logits.defined() ? logits : log(maximum(prediction, 1.17549435e-38)), target));
}

}  // namespace losses
}  // namespace mica
