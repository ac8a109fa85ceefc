// PyTorch's own samples of losses, as functions and as modules, replayed.
#include "mica/nn/losses.h"

#include "mica/ops/reduce.h"
#include "replay/samples.h"

using namespace mica;
using namespace mica::test;
using namespace mica::test::samples;

namespace {

// PyTorch's reductions: the mean is the loss itself.
template <class Loss>
Tensor reduced(const Sample& s, const Loss& loss) {
  const std::string how = s.c.text("reduction");
  const Tensor prediction = s.at("prediction"), target = s.at("target"), weights = s.at("weights");
  if (how == "mean") return loss(prediction, target, weights);
  const Tensor values = loss.unreduced(prediction, target);
  const Tensor weighed = weights.defined() ? values * weights : values;
  return how == "sum" ? sum(weighed) : weighed;
}

Table losses_of_samples() {
  return {
      {"mean_squared_error", {[](const Sample& s) { return reduced(s, losses::mean_squared_error); }}},
      {"mean_absolute_error", {[](const Sample& s) { return reduced(s, losses::mean_absolute_error); }}},
      {"huber",
       {[](const Sample& s) { return reduced(s, losses::Huber{.delta = s.c.number("delta")}) * s.c.number("scale"); }}},
      {"binary_crossentropy", {[](const Sample& s) {
         return reduced(s, losses::BinaryCrossentropy{.from_logits = s.c.flag("from_logits")});
       }}},
      {"categorical_crossentropy", {[](const Sample& s) {
         return reduced(
             s, losses::CategoricalCrossentropy{.from_logits = true, .label_smoothing = s.c.number("label_smoothing")});
       }}},
      {"sparse_categorical_crossentropy", {[](const Sample& s) {
         return reduced(s, losses::SparseCategoricalCrossentropy{.from_logits = true,
                                                                 .label_smoothing = s.c.number("label_smoothing")});
       }}},
  };
}

}  // namespace

TEST_CASE("PyTorch's samples of losses") {
  replay_samples("loss", 60, 88, losses_of_samples());
  replay_samples("loss_modules", 83, 100, losses_of_samples());
}
