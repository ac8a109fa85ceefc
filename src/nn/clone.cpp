// Clones: models with parameters and buffers of their own.
#include <utility>
#include <vector>

#include "mica/nn/functional.h"
#include "nn/model_state.h"

namespace MICA_EXPORT mica {
namespace nn {

namespace {

// Gives copied layers parameters of their own; what was shared stays shared among the copies.
class Cloner final : public Visitor {
 public:
  bool clones() const override { return true; }

 private:
  void parameter(const char*, Parameter& p) override {
    for (const auto& [from, to] : parameters_)
      if (from == p) {
        p = to;
        return;
      }
    Parameter copy;
    if (p.defined()) copy.value() = p.value().clone();
    copy.set_name(p.name());
    copy.set_trainable(p.trainable());
    parameters_.emplace_back(p, copy);
    p = copy;
  }
  void stream(const char*, RandomStream& s) override {
    RandomStream copy;
    copy.set(s.key(0).stream);
    s = copy;
  }
  void carry(const char*, Carry& c) override {
    Carry copy;
    for (const Tensor& kept : c.value()) copy.value().push_back(kept.clone());
    c = copy;
  }
  void buffer(const char*, Buffer& b) override {
    for (const auto& [from, to] : buffers_)
      if (from == &b.value()) {
        b = to;
        return;
      }
    const Buffer copy(b.value().defined() ? b.value().clone() : Tensor());
    buffers_.emplace_back(&b.value(), copy);
    kept_.push_back(b);
    b = copy;
  }
  void layer(const char*, Layer& layer) override {
    for (const auto& [from, to] : layers_)
      if (from == layer) {
        layer = to;
        return;
      }
    Layer copy = layer.copy();
    copy.visit(*this);
    layers_.emplace_back(layer, copy);
    layer = copy;
  }

  std::vector<std::pair<Parameter, Parameter>> parameters_;
  std::vector<std::pair<const Tensor*, Buffer>> buffers_;
  std::vector<Buffer> kept_;  // so that no address is used twice
  std::vector<std::pair<Layer, Layer>> layers_;
};

}  // namespace

Model Model::clone() const {
  Layer copy = state_->layer.copy();
  Cloner cloner;
  copy.visit(cloner);
  Model model(std::move(copy));
  model.state_->inputs = state_->inputs;
  model.state_->built = state_->built;
  model.state_->device = state_->device;
  model.state_->preprocess = state_->preprocess;
  if (model.built()) pack(model.parameters());
  return model;
}

}  // namespace nn
}  // namespace mica
