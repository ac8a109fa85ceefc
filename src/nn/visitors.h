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

/// `layer`, or the layer of one of `known` (layer_of(known[i])) of which it is a copy that shares its parameters: a
/// layer that is written down twice is one, and is saved once.
template <class Known, class LayerOf>
Layer one_of(const Known& known, const LayerOf& layer_of, Layer layer) {
  const std::vector<Parameter> own = parameters(layer);
  if (own.empty()) return layer;
  for (const auto& each : known) {
    Layer other = layer_of(each);
    if (other.type_info() == layer.type_info() && parameters(other) == own) return other;
  }
  return layer;
}

}  // namespace mica::nn
