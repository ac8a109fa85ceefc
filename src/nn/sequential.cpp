// Sequential models: layers in a row.
#include "mica/nn/sequential.h"

#include "mica/autograd/tape.h"
#include "mica/nn/conv2d.h"
#include "mica/nn/functional.h"
#include "nn/model_state.h"
#include "nn/names.h"
#include "nn/visitors.h"

namespace MICA_EXPORT mica {
namespace nn {

void Chain::add(Layer layer) {
  names_.push_back(name_for(layer.type(), types_, names_));
  layers_.push_back(one_of(
      leaves_, [&](size_t i) { return layers_[i]; }, std::move(layer)));
}

// What layers i and i + 1, a convolution and its pooling, make of x in one op, which never holds what lies between.
// Undefined where they are not that, and where each has something to say for itself.
Tensor Chain::convolve_and_pool(size_t i, const Tensor& x, Call& call) const {
  if (i + 1 == layers_.size()) return {};
  const Conv2D* conv = layers_[i].as<Conv2D>();
  const MaxPool2D* pool = conv ? layers_[i + 1].as<MaxPool2D>() : nullptr;
  if (!pool || (Tape::current() && Tape::current()->looks_at_ops())) return {};
  try {
    return conv->forward_pooled(x, *pool, call);
  } catch (const Error&) {
    return {};  // the layers, one by one, fail too, and tell which it was
  }
}

Tensor Chain::forward(const Tensor& x, Call& call) const {
  Tensor y = x;
  for (size_t i = 0; i < layers_.size(); ++i) {
    try {
      const int rank = y.rank();
      if (Tensor pooled = convolve_and_pool(i, y, call); pooled.defined()) {
        y = std::move(pooled);
        call.keep_mask(rank, y);
        ++i;
        continue;
      }
      y = layers_[i].forward(y, call);
      call.keep_mask(rank, y);
    } catch (Error& e) {
      e.add_layer(names_[i]);
      throw;
    }
  }
  return y;
}

void Chain::visit(Visitor& v) {
  for (size_t i = 0; i < layers_.size(); ++i) v(names_[i].c_str(), layers_[i]);
}

void Sequential::place(Input input) {
  check(state_->inputs.empty() && layer().as<Chain>()->layers().empty(), "sequential",
        "the Input must come first, and once");
  state_->inputs = {std::move(input)};
}

void Sequential::place(Layer layer) {
  check(layer.defined(), "sequential", "a layer is empty");
  // A model inside is its layers: nothing of its training is kept.
  if (Sequential* inner = layer.as<Sequential>())
    layer = inner->layer();
  else if (Functional* graph = layer.as<Functional>())
    layer = graph->layer();
  else if (Model* model = layer.as<Model>())
    layer = model->layer();
  this->layer().as<Chain>()->add(std::move(layer));
}

void Sequential::finish() {
  if (!state_->inputs.empty() && !layer().as<Chain>()->layers().empty()) build(state_->inputs);
}

void Sequential::add(Layer layer) {
  check(!state_->optimizer.defined(), "sequential", "the model is compiled: layers can be added only before");
  place(std::move(layer));
  finish();
}

}  // namespace nn
}  // namespace mica
