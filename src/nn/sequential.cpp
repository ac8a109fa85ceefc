// Sequential models: layers in a row.
#include "mica/nn/sequential.h"

#include "mica/nn/functional.h"
#include "nn/convolve_and_pool.h"
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

Tensor Chain::forward(const Tensor& x, Call& call) const {
  Tensor y = x;
  for (size_t i = 0; i < layers_.size(); ++i) {
    try {
      const int rank = y.rank();
      Tensor pooled =
          i + 1 < layers_.size() ? detail::convolve_and_pool(layers_[i], layers_[i + 1], y, call) : Tensor();
      if (pooled.defined())
        y = std::move(pooled), ++i;
      else
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
