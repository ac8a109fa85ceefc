// Visitors that know where in the model they are.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <utility>
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

// The visitor of for_tensors.
template <class F>
class TensorVisitor final : public PathVisitor {
 public:
  explicit TensorVisitor(F f) : f_(std::move(f)) {}

 private:
  void parameter(const char*, Parameter& p) override {
    if (seen_.insert(p.leaf()).second) f_(p.name(), p.value());
  }
  void buffer(const char* name, Buffer& b) override {
    if (seen_.insert(&b.value()).second) f_(path(name), b.value());
  }

  F f_;
  std::set<const void*> seen_;
};

/// Calls f(name, tensor) for each parameter and buffer of a built layer, once, with its name in a saved model.
template <class F>
void for_tensors(Layer& layer, F f) {
  TensorVisitor<F> visitor(std::move(f));
  layer.visit(visitor);
}

/// While in scope a layer carries nothing from one call to the next: what it carried comes back after it. For calls in
/// passing: evaluate, predict, a summary.
class WithoutCarry final : public Visitor {
 public:
  explicit WithoutCarry(Layer layer) { layer.visit(*this); }
  ~WithoutCarry() {
    for (size_t i = kept_.size(); i-- > 0;) kept_[i].first.value() = std::move(kept_[i].second);
  }
  WithoutCarry(const WithoutCarry&) = delete;
  WithoutCarry& operator=(const WithoutCarry&) = delete;

 private:
  void carry(const char*, Carry& c) override { kept_.emplace_back(c, std::exchange(c.value(), {})); }

  std::vector<std::pair<Carry, Tensors>> kept_;
};

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
