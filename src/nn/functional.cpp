// Functional models: from symbols to a list of nodes, and running it.
#include "mica/nn/functional.h"

#include <algorithm>
#include <new>
#include <unordered_map>
#include <utility>

#include "mica/core/memory.h"
#include "nn/convolve_and_pool.h"
#include "nn/names.h"
#include "nn/visitors.h"
#include "ops/common.h"

namespace MICA_EXPORT mica {
namespace nn {

struct Symbol::Node {
  Layer layer;  // undefined: an input
  Input input;
  std::vector<Symbol> inputs;

  Node() = default;
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;
  // Long chains are taken apart in a loop: each by its successor's destructor would be a deep recursion.
  ~Node() {
    std::vector<Symbol> left = std::move(inputs);
    while (!left.empty()) {
      const Symbol last = std::move(left.back());
      left.pop_back();
      if (last.node_ && last.node_.use_count() == 1)
        for (Symbol& symbol : std::exchange(last.node_->inputs, {})) left.push_back(std::move(symbol));
    }
  }
};

Symbol::Symbol(const Input& input) : node_(std::make_shared<Node>()) { node_->input = input; }

Symbol Symbol::output(int i) const {
  check(node_->layer.defined() && i >= 0 && i < Graph::kMaxOutputs, "symbol", "there is no output ", i);
  Symbol other = *this;
  other.output_ = i;
  return other;
}

const Input& Symbol::input() const {
  check(!node_->layer.defined(), "functional", "the model must begin at an Input");
  return node_->input;
}

Symbol detail::symbolic(Layer layer, std::span<const Symbol> xs) {
  check(layer.defined(), "symbol", "the layer is empty");
  check(!xs.empty(), "symbol", "the layer must be called with at least one value");
  Symbol y{Input()};
  y.node_->layer = std::move(layer);
  y.node_->inputs.assign(xs.begin(), xs.end());
  return y;
}

Symbol Layer::operator()(const Symbol& x) const { return detail::symbolic(*this, {&x, 1}); }
Symbol Layer::operator()(std::initializer_list<Symbol> xs) const {
  return detail::symbolic(*this, {xs.begin(), xs.size()});
}

namespace {

std::vector<Input> inputs_of(std::span<const Symbol> symbols) {
  check(!symbols.empty(), "functional", "the model must have an Input");
  std::vector<Input> inputs;
  for (const Symbol& symbol : symbols) inputs.push_back(symbol.input());
  return inputs;
}

std::vector<std::string> input_names(std::span<const Input> inputs) {
  std::vector<std::string> names;
  for (const Input& input : named_inputs(inputs)) names.push_back(input.name);
  return names;
}

}  // namespace

Graph::Graph(std::vector<std::string> inputs)
    : inputs_(std::move(inputs)), names_(inputs_), slots_(static_cast<int>(inputs_.size())) {
  for (const std::string& name : inputs_) types_.emplace_back(name, 1);
}

Graph::Graph(std::span<const Symbol> inputs, const Symbol& output) : Graph(input_names(inputs_of(inputs))) {
  // Depth first, each node after those that it needs, without recursion.
  std::unordered_map<const Symbol::Node*, Value> places;  // of their first results
  for (const Symbol& input : inputs)
    check(places.emplace(input.node_.get(), Value{-1, static_cast<int>(places.size())}).second, "functional",
          "an Input is given twice");
  std::vector<bool> used(inputs.size());
  const auto value_of = [&](const Symbol& symbol) {
    const Value first = places.at(symbol.node_.get());
    if (first.node < 0) used[static_cast<size_t>(first.output)] = true;
    return Value{first.node, first.output + symbol.output_};
  };
  struct Visit {
    const Symbol::Node* node;
    size_t next = 0;  // of its inputs
  };
  std::vector<Visit> stack{{output.node_.get()}};
  while (!stack.empty()) {
    const Symbol::Node* node = stack.back().node;
    if (places.contains(node)) {
      stack.pop_back();
      continue;
    }
    check(node->layer.defined(), "functional", "the output depends on another Input, of shape ", node->input.shape);
    if (stack.back().next < node->inputs.size()) {
      const Symbol::Node* needed = node->inputs[stack.back().next++].node_.get();
      if (!places.contains(needed)) stack.push_back({needed});
      continue;
    }
    std::vector<Value> values;
    for (const Symbol& symbol : node->inputs) values.push_back(value_of(symbol));
    places.emplace(node, Value{static_cast<int>(nodes_.size()), 0});
    add(node->layer, std::move(values));
    stack.pop_back();
  }
  finish(value_of(output));
  for (size_t i = 0; i < used.size(); ++i)
    check(used[i], "functional", "the output does not depend on input \"", inputs_[i], "\"");
}

void Graph::add(Layer layer, std::vector<Value> inputs) {
  for (const Value& value : inputs)
    if (value.node >= 0) {
      Node& from = nodes_[static_cast<size_t>(value.node)];
      from.outputs = std::max(from.outputs, value.output + 1);
    }
  names_.push_back(name_for(layer.type(), types_, names_));
  layer = one_of(
      leaves_, [&](size_t i) { return nodes_[i].layer; }, std::move(layer));
  nodes_.push_back({.name = names_.back(), .layer = std::move(layer), .inputs = std::move(inputs)});
}

void Graph::finish(Value output) {
  output_ = output;
  if (output.node >= 0) {
    Node& last = nodes_[static_cast<size_t>(output.node)];
    last.outputs = std::max(last.outputs, output.output + 1);
  }
  for (Node& node : nodes_) {
    node.first_slot = slots_;
    slots_ += node.outputs;
  }
  // The last node that reads a value is done with it.
  std::vector<int> reader(static_cast<size_t>(slots_), -1);
  for (size_t i = 0; i < nodes_.size(); ++i)
    for (const Value& value : nodes_[i].inputs) reader[static_cast<size_t>(slot(value))] = static_cast<int>(i);
  for (int s = 0; s < slots_; ++s)
    if (reader[static_cast<size_t>(s)] >= 0 && s != slot(output_))
      nodes_[static_cast<size_t>(reader[static_cast<size_t>(s)])].done.push_back(s);
}

namespace {

// Whether the node is the last to read `slot`.
bool ends(const Graph::Node& node, int slot) {
  return std::find(node.done.begin(), node.done.end(), slot) != node.done.end();
}

// Tensors in memory of the caching allocator: a warm step takes none from the system.
class Slots {
 public:
  explicit Slots(int count)
      : count_(static_cast<size_t>(count)), data_(static_cast<Tensor*>(mica::detail::allocate(bytes()))) {
    for (size_t i = 0; i < count_; ++i) new (data_ + i) Tensor();
  }
  ~Slots() {
    for (size_t i = 0; i < count_; ++i) data_[i].~Tensor();
    mica::detail::deallocate(data_, bytes());
  }
  Slots(const Slots&) = delete;
  Slots& operator=(const Slots&) = delete;
  Tensor& operator[](int i) const { return data_[i]; }

 private:
  size_t bytes() const { return count_ * sizeof(Tensor); }

  size_t count_;
  Tensor* data_;
};

}  // namespace

Tensor Graph::forward(std::span<const Tensor> xs, Call& call) const { return run(xs, call, nullptr, nullptr); }

Tensor Graph::run(std::span<const Tensor> xs, Call& call,
                  void (*seen)(const void* f, const Node& node, const Tensor& y), const void* f) const {
  check(xs.size() == inputs_.size(), "functional", "the model takes ", uint64_t{inputs_.size()}, " inputs, got ",
        uint64_t{xs.size()});
  const Slots slots(slots_), masks(slots_);
  for (size_t i = 0; i < xs.size(); ++i) {
    slots[static_cast<int>(i)] = xs[i];
    masks[static_cast<int>(i)] = call.mask(i);
  }
  struct Restore {
    Call& call;
    std::span<const Tensor> others = call.other_masks_;
    ~Restore() { call.other_masks_ = others; }
  } restore{call};
  for (size_t n = 0; n < nodes_.size(); ++n) {
    const Node& node = nodes_[n];
    try {
      const int first = slot(node.inputs[0]), rank = slots[first].rank();
      call.mask_ = masks[first];
      if (node.inputs.size() == 1 && node.outputs == 1) {
        call.other_masks_ = {};
        // The next node, where it alone reads this one.
        const Node* next =
            !seen && n + 1 < nodes_.size() && ends(nodes_[n + 1], node.first_slot) ? &nodes_[n + 1] : nullptr;
        Tensor pooled = next ? detail::convolve_and_pool(node.layer, next->layer, slots[first], call) : Tensor();
        if (pooled.defined()) {
          call.keep_mask(rank, pooled);
          masks[next->first_slot] = call.mask_;
          slots[next->first_slot] = std::move(pooled);
          for (const int done : node.done) slots[done] = Tensor();
          ++n;
          continue;
        }
        slots[node.first_slot] = node.layer.forward(slots[first], call);
      } else {
        ops::Small<Tensor> inputs, others;
        for (const Value& value : node.inputs) {
          inputs.add(slots[slot(value)]);
          if (inputs.span().size() > 1) others.add(masks[slot(value)]);
        }
        call.other_masks_ = others.span();
        if (node.outputs == 1) {
          slots[node.first_slot] = node.layer.join(inputs.span(), call);
        } else {
          Tensors outputs = node.layer.forward(inputs.span(), call);
          check(static_cast<int>(outputs.size()) >= node.outputs, "functional", "the layer has ",
                static_cast<uint64_t>(outputs.size()), " outputs, of which number ", node.outputs - 1, " is used");
          for (int i = 0; i < node.outputs; ++i)
            slots[node.first_slot + i] = std::move(outputs[static_cast<size_t>(i)]);
        }
      }
      call.keep_mask(rank, slots[node.first_slot]);
      masks[node.first_slot] = call.mask_;
    } catch (Error& e) {
      e.add_layer(node.name);
      throw;
    }
    if (seen) seen(f, node, slots[node.first_slot]);
    for (const int done : node.done) slots[done] = Tensor();
  }
  call.mask_ = masks[slot(output_)];
  return slots[slot(output_)];
}

void Graph::visit(Visitor& v) {
  for (Node& node : nodes_) v(node.name.c_str(), node.layer);
}

Functional::Functional(const Symbol& input, const Symbol& output)
    : Functional(std::span<const Symbol>(&input, 1), output) {}

Functional::Functional(std::span<const Symbol> inputs, const Symbol& output) : Model(Layer(Graph(inputs, output))) {
  build(inputs_of(inputs));
}

}  // namespace nn
}  // namespace mica
