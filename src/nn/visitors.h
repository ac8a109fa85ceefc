// Visitors that know where in the model they are.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "mica/nn/layer.h"

namespace mica::nn {

/// Keeps the path of the layer that is visited: "block.dense".
class PathVisitor : public Visitor {
 protected:
  void enter(const char* name) override;
  void leave() override;
  /// The path of something that the visited layer owns.
  std::string path(const char* name) const;

 private:
  std::string path_;
  std::vector<size_t> lengths_;
};

/// Names the parameters by their paths, and with a seed keys the random streams by theirs.
void name_parameters(Layer& layer, std::optional<uint64_t> seed = {});

/// `layer`, or the earlier layer_of(i) of which it is a copy that shares its parameters: a layer that is written down
/// twice is one, and is saved once. `leaves` has the first parameter of each layer so far, and gets this one's.
template <class LayerOf>
Layer one_of(std::vector<const mica::detail::Leaf*>& leaves, const LayerOf& layer_of, Layer layer) {
  const std::vector<Parameter> own = parameters(layer);
  leaves.push_back(own.empty() ? nullptr : own[0].leaf());
  for (size_t i = 0; !own.empty() && i + 1 < leaves.size(); ++i) {
    if (leaves[i] != leaves.back()) continue;
    Layer other = layer_of(i);
    if (other.type_info() == layer.type_info() && parameters(other) == own) return other;
  }
  return layer;
}

}  // namespace mica::nn
