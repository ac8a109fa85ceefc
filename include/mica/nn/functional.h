// Functional: a model of layers that are not in a row. Branches, sums of branches, layers that stand in several places.
#pragma once

#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "mica/nn/model.h"

namespace MICA_EXPORT mica {
namespace nn {

/// A value in a model that is being described: its Input, or what a layer will make of other values.
///   const nn::Symbol x = nn::Input({28, 28, 1});
///   const nn::Symbol a = nn::Conv2D(8, {3, 3})(x), b = nn::Conv2D(8, {5, 5}, {.padding = Padding::same})(x);
///   nn::Functional model(x, nn::Dense(10)(nn::Flatten()(nn::Concatenate(1)({a, b}))));
class Symbol {
 public:
  /// Each Symbol made of an Input is another one; copies are the same.
  Symbol(const Input& input);
  /// The i-th result of the layer, where it has several.
  Symbol output(int i) const;
  /// What it is made of; throws Error unless it is an Input.
  const Input& input() const;

 private:
  struct Node;
  friend class Graph;
  friend Symbol detail::symbolic(Layer layer, std::span<const Symbol> xs);

  std::shared_ptr<Node> node_;
  int output_ = 0;
};

/// Layers and who takes whose results: what a Functional model holds.
class Graph {
 public:
  static constexpr const char* kType = "Functional";
  static constexpr int kMaxOutputs = 16;  ///< of one layer
  /// Input number `output` (node -1), or the result `output` of a node.
  struct Value {
    int node = -1, output = 0;
    friend bool operator==(const Value&, const Value&) = default;
  };
  struct Node {
    std::string name;
    Layer layer;
    std::vector<Value> inputs;
    int outputs = 1;             // of which some are used
    int first_slot = 0;          // where its results are kept during a call
    std::vector<int> done = {};  // slots that nothing needs after it
  };

  Graph() : Graph({"input"}) {}
  /// Of inputs that are called so, and no nodes yet.
  explicit Graph(std::vector<std::string> inputs);
  /// What `output` depends on. Throws Error unless it depends on each of `inputs` and on no other Input.
  Graph(std::span<const Symbol> inputs, const Symbol& output);
  /// Puts a layer behind those that are there, and says which value is the result.
  void add(Layer layer, std::vector<Value> inputs);
  void finish(Value output);

  Tensor forward(std::span<const Tensor> xs, Call& call) const;
  void visit(Visitor& v);
  /// forward(), showing each node's first result to seen(node, result).
  template <class Seen>
  void run(std::span<const Tensor> xs, Call& call, const Seen& seen) const {
    run(
        xs, call, [](const void* f, const Node& node, const Tensor& y) { (*static_cast<const Seen*>(f))(node, y); },
        &seen);
  }

  const std::vector<std::string>& inputs() const { return inputs_; }
  const std::vector<Node>& nodes() const { return nodes_; }
  Value output() const { return output_; }

 private:
  Tensor run(std::span<const Tensor> xs, Call& call, void (*seen)(const void* f, const Node& node, const Tensor& y),
             const void* f) const;
  int slot(Value value) const {
    return value.node < 0 ? value.output : nodes_[static_cast<size_t>(value.node)].first_slot + value.output;
  }

  std::vector<std::string> inputs_;
  std::vector<Node> nodes_;
  std::vector<std::string> names_;                      // of both
  std::vector<std::pair<std::string, int64_t>> types_;  // how many of each
  std::vector<const mica::detail::Leaf*> leaves_;       // the first parameter of each node's layer
  Value output_;
  int slots_ = 0;
};

/// A model from an Input, or several, to what is made of them. It is built at once. Calls of one layer, as of a copy of
/// it, share its parameters.
///   const nn::Symbol amounts = nn::Input({8}), purpose = nn::Input({}, int64);
///   const nn::Symbol all = nn::Concatenate()({amounts, nn::Embedding(10, 4)(purpose)});
///   nn::Functional model({amounts, purpose}, nn::Dense(1)(all));
///   model.fit({a, p}, y);
class Functional : public Model {
 public:
  static constexpr const char* kType = "Functional";

  /// Throws Error where `output` does not depend on each input, or depends on another Input.
  Functional(const Symbol& input, const Symbol& output);
  Functional(std::initializer_list<Symbol> inputs, const Symbol& output)
      : Functional(std::span(inputs.begin(), inputs.size()), output) {}
  Functional(std::span<const Symbol> inputs, const Symbol& output);
};

}  // namespace nn
}  // namespace mica
