// Targets beside predictions.
#include "nn/targets.h"

#include <algorithm>

#include "mica/autograd/tape.h"
#include "mica/ops/elementwise.h"
#include "mica/ops/index.h"
#include "mica/ops/reduce.h"
#include "ops/common.h"

namespace mica::nn {

namespace {

// [N] as [N,1], [N,1,1], ...
Tensor with_rank(const Tensor& x, int rank) {
  int64_t sizes[Shape::kMaxRank];
  for (int i = 0; i < rank; ++i) sizes[i] = i < x.rank() ? x.dim(i) : 1;
  return x.reshape(Shape(std::span<const int64_t>(sizes, static_cast<size_t>(rank))));
}

}  // namespace

Targets kind_of_targets(const Tensor& prediction, const Tensor& target) {
  const bool same = prediction.shape() == target.shape();
  if (same && (prediction.rank() < 2 || prediction.dim(-1) <= 1)) return Targets::binary;
  if (same) return Targets::one_hot;
  bool labels = prediction.rank() == target.rank() + 1;  // of one shape but for the last axis
  for (int i = 0; labels && i < target.rank(); ++i) labels = prediction.dim(i) == target.dim(i);
  if (!labels) return Targets::unknown;
  return prediction.dim(-1) == 1 ? Targets::binary : Targets::labels;
}

Targets checked_targets(const char* op, const Tensor& prediction, const Tensor& target) {
  check(prediction.defined() && target.defined(), op, "prediction and target must be defined");
  const Targets kind = kind_of_targets(prediction, target);
  check(kind != Targets::unknown, op, "targets must be one-hot or labels of the predictions: prediction ",
        prediction.shape(), ", target ", target.shape());
  return kind;
}

Tensor classes_of(Targets kind, const Tensor& target) {
  const Tensor t = target.detach().to(Device::cpu());
  if (kind == Targets::labels) return t.to(int64);
  const Tensor values = t.to(t.dtype() == float64 ? float64 : float32);
  if (kind == Targets::one_hot) return argmax(values);
  Tensor classes = empty(target.shape(), {int64, Device::cpu()});
  int64_t* out = classes.mutable_data<int64_t>();
  for (int64_t i = 0; i < values.elements(); ++i)
    out[i] = values.dtype() == float64 ? values.data<double>()[i] > 0.5 : values.data<float>()[i] > 0.5f;
  return classes;
}

Tensor weights_by_class(const Tensor& prediction, const Tensor& target, const Tensor& sample_weights,
                        const std::vector<double>& class_weights) {
  const Tape::Pause pause;
  const Targets kind = checked_targets("class_weights", prediction, target);
  const auto given = static_cast<int64_t>(class_weights.size());
  const int64_t classes = kind == Targets::binary ? 2 : prediction.dim(-1);
  check(given == classes, "class_weights", "there must be one weight for each of the ", classes, " classes, got ",
        given);
  const Tensor labels = ops::checked_labels("class_weights", classes_of(kind, target), classes);
  Tensor weights = empty(labels.shape(), {float32, Device::cpu()});
  float* out = weights.mutable_data<float>();
  for (int64_t i = 0; i < labels.elements(); ++i)
    out[i] = static_cast<float>(class_weights[static_cast<size_t>(labels.data<int64_t>()[i])]);
  if (!sample_weights.defined()) return weights;
  const int rank = std::max(weights.rank(), sample_weights.rank());
  return with_rank(weights, rank) * with_rank(sample_weights.to(Device::cpu()), rank);
}

}  // namespace mica::nn
