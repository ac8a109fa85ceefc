// Sequential: a model of layers one after another.
#pragma once

#include <concepts>
#include <string>
#include <utility>
#include <vector>

#include "mica/nn/model.h"

namespace MICA_EXPORT mica {
namespace nn {

/// Layers in a row, each with its name in it ("conv2d", "conv2d_1", ...). The same Layer may stand in several places
/// and shares its parameters then.
class Chain {
 public:
  static constexpr const char* kType = "Sequential";

  void add(Layer layer);
  Tensor forward(const Tensor& x, Call& call) const;
  void visit(Visitor& v);

  const std::vector<Layer>& layers() const { return layers_; }
  const std::vector<std::string>& names() const { return names_; }

 private:
  std::vector<Layer> layers_;
  std::vector<std::string> names_;
  std::vector<std::pair<std::string, int64_t>> types_;  // how many of each
  std::vector<const mica::detail::Leaf*> leaves_;       // the first parameter of each layer
};

/// nn::Sequential model{nn::Input({28, 28, 1}), nn::Conv2D(32, {3, 3}), ...}: with an Input first, it is built at once.
class Sequential : public Model {
 public:
  static constexpr const char* kType = "Sequential";

  template <class... Layers>
    requires(sizeof...(Layers) != 1 || !(std::derived_from<std::remove_cvref_t<Layers>, Model> && ...))
  explicit Sequential(Layers&&... layers) : Model(Layer(Chain())) {
    (place(std::forward<Layers>(layers)), ...);
    finish();
  }

  /// Puts a layer, or a whole model, at the end. Throws Error once the model is compiled.
  void add(Layer layer);

 private:
  void place(Input input);
  void place(Layer layer);
  void finish();
};

}  // namespace nn
}  // namespace mica
