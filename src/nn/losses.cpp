// Losses.
#include "mica/nn/losses.h"

#include <algorithm>
#include <cmath>

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

// Targets moved toward `uniform` by the share `smoothing`.
Tensor smoothed(const char* op, const Tensor& target, double smoothing, double uniform) {
  check(smoothing >= 0 && smoothing <= 1, op, "label_smoothing must be in [0, 1], got ", smoothing);
  return smoothing == 0 ? target : target * (1 - smoothing) + smoothing * uniform;
}

// sum_i(w_i * l_i) / N, where l_i is the mean of what `values` has of example i.
Tensor weighted_mean(const char* op, const Tensor& values, const Tensor& weights) {
  if (!weights.defined()) return mean(values);
  const Shape &whole = values.shape(), &some = weights.shape();
  bool begins = some.rank() >= 1 && some.rank() <= whole.rank();
  for (int i = 0; begins && i < some.rank(); ++i) begins = some[i] == whole[i];
  check(begins, op, "weights must have the losses' shape or a beginning of it: weights ", some, ", losses ", whole);
  const Tensor w = weights.to(values.device()).to(values.dtype());
  if (some.rank() == whole.rank()) return mean(values * w);
  int64_t each = 1;
  for (int i = some.rank(); i < whole.rank(); ++i) each *= whole[i];
  return mean(mean(values.reshape({some.elements(), each}), -1) * w.reshape({some.elements()}));
}

}  // namespace

Tensor detail::reduced(const Tensor& values, const Tensor& weights) {
  check(values.defined(), "loss", "the loss returned an undefined tensor");
  if (values.rank() == 0) {
    check(!weights.defined(), "loss",
          "weights need a loss that returns a value for each example: this one returned one number for the batch");
    return values;
  }
  return weighted_mean("loss", values, weights);
}

#define MICA_LOSS(Type)                                                                                  \
  Tensor Type::operator()(const Tensor& prediction, const Tensor& target, const Tensor& weights) const { \
    return weighted_mean(kName, unreduced(prediction, target), weights);                                 \
  }
MICA_LOSS(MeanSquaredError)
MICA_LOSS(MeanAbsoluteError)
MICA_LOSS(Huber)
MICA_LOSS(BinaryCrossentropy)
MICA_LOSS(CategoricalCrossentropy)
MICA_LOSS(SparseCategoricalCrossentropy)
#undef MICA_LOSS

Tensor MeanSquaredError::unreduced(const Tensor& prediction, const Tensor& target) const {
  check_same_shape(kName, prediction, target);
  return squared_difference(prediction, like(target, prediction));
}

Tensor MeanAbsoluteError::unreduced(const Tensor& prediction, const Tensor& target) const {
  check_same_shape(kName, prediction, target);
  return absolute_difference(prediction, like(target, prediction));
}

Tensor Huber::unreduced(const Tensor& prediction, const Tensor& target) const {
  check(delta > 0 && std::isfinite(delta), kName, "delta must be finite and above 0, got ", delta);
  check_same_shape(kName, prediction, target);
  const Tensor r = absolute_difference(prediction, like(target, prediction));
  const Tensor q = minimum(r, delta);
  return q * (r - 0.5 * q);  // r^2 / 2 while q is r, and linear once q is delta
}

Tensor BinaryCrossentropy::unreduced(const Tensor& prediction, const Tensor& target) const {
  check_same_shape(kName, prediction, target);
  const Tensor t = smoothed(kName, like(target, prediction), label_smoothing, 0.5);
  const Tensor logits = from_logits ? prediction : logits_of(prediction, ops::kSigmoid);
  if (logits.defined()) return sigmoid_cross_entropy(logits, t);
  const Tensor p = clamp(prediction, 1e-7, 1 - 1e-7);
  return -(t * log(p) + (1 - t) * log(1 - p));
}

Tensor CategoricalCrossentropy::unreduced(const Tensor& prediction, const Tensor& target) const {
  check_same_shape(kName, prediction, target);
  check(prediction.rank() >= 1, kName, "predictions must have a class axis, shape ", prediction.shape());
  const double classes = static_cast<double>(std::max<int64_t>(prediction.dim(-1), 1));
  const Tensor t = smoothed(kName, like(target, prediction), label_smoothing, 1 / classes);
  const Tensor logits = from_logits ? prediction : logits_of(prediction, ops::kSoftmax);
  if (logits.defined()) return cross_entropy(logits, t);
  return -sum(t * log(maximum(prediction, 1.17549435e-38)), -1);
}

Tensor SparseCategoricalCrossentropy::unreduced(const Tensor& prediction, const Tensor& target) const {
  check(prediction.defined() && target.defined(), kName, "prediction and target must be defined");
  check(prediction.rank() >= 1, kName, "predictions must have a class axis, shape ", prediction.shape());
  const Tensor logits = from_logits ? prediction : logits_of(prediction, ops::kSoftmax);
  // Of probabilities, their logarithms are logits: they sum to 1 already.
  return sparse_cross_entropy(logits.defined() ? logits : log(maximum(prediction, 1.17549435e-38)), target,
                              label_smoothing);
}

}  // namespace losses
}  // namespace mica
