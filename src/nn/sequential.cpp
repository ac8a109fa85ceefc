// Sequential models: layers in a row.
#include "mica/nn/sequential.h"

#include <algorithm>

#include "nn/model_state.h"

namespace MICA_EXPORT mica {
namespace nn {

namespace {

// "MaxPool2D" is named max_pool2d, "LSTM" lstm, a type "app::Residual" residual.
std::string snake_case(const std::string& type) {
  const size_t colon = type.rfind(':');
  std::string name;
  char last = 0;
  for (const char c : colon == std::string::npos ? type : type.substr(colon + 1)) {
    const bool upper = c >= 'A' && c <= 'Z';
    if (upper && last >= 'a' && last <= 'z') name += '_';
    name += upper ? static_cast<char>(c - 'A' + 'a') : c;
    last = c;
  }
  return name;
}

}  // namespace

void Chain::add(Layer layer) {
  const std::string base = snake_case(layer.type());
  const auto before =
      std::count_if(types_.begin(), types_.end(), [&](const std::string& other) { return other == base; });
  std::string name = before == 0 ? base : base + "_" + std::to_string(before);
  while (std::find(names_.begin(), names_.end(), name) != names_.end()) name += "_";  // a type may be called so
  types_.push_back(base);
  layers_.push_back(std::move(layer));
  names_.push_back(std::move(name));
}

Tensor Chain::forward(const Tensor& x, Call& call) const {
  Tensor y = x;
  for (size_t i = 0; i < layers_.size(); ++i) {
    try {
      y = layers_[i].forward(y, call);
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
  check(!state_->input.has_value() && layer().as<Chain>()->layers().empty(), "sequential",
        "the Input must come first, and once");
  state_->input = input;
}

void Sequential::place(Layer layer) {
  check(layer.defined(), "sequential", "a layer is empty");
  // A model inside is its layers: nothing of its training is kept.
  if (Sequential* inner = layer.as<Sequential>())
    layer = inner->layer();
  else if (Model* model = layer.as<Model>())
    layer = model->layer();
  this->layer().as<Chain>()->add(std::move(layer));
}

void Sequential::finish() {
  if (state_->input && !layer().as<Chain>()->layers().empty()) build(*state_->input);
}

void Sequential::add(Layer layer) {
  check(!state_->optimizer.defined(), "sequential", "the model is compiled: layers can be added only before");
  place(std::move(layer));
  finish();
}

}  // namespace nn
}  // namespace mica
