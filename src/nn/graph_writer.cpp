// Writing the graph of a saved model.
#include <cmath>

#include "mica/nn/activation.h"
#include "mica/nn/functional.h"
#include "mica/nn/sequential.h"
#include "nn/layer_types.h"
#include "nn/saved_graph.h"

namespace mica::nn {

using namespace saved;

namespace {

using Json = nlohmann::ordered_json;  // written in order

Json to_json(const Shape& shape) {
  Json sizes = Json::array();
  for (const int64_t size : shape) sizes.push_back(size);
  return sizes;
}

// The layers that are written already, by their paths: one that stands in several places is written once.
using Seen = std::vector<std::pair<Layer, std::string>>;

Json layer_to_json(Layer layer, const std::string& name, const std::string& folder, Seen& seen);

// Writes a layer's configuration; children become objects of their own.
class ConfigWriter final : public Visitor {
 public:
  ConfigWriter(std::string folder, Seen& seen) : folder_(std::move(folder)), seen_(seen) {}
  Json result = Json::object();

 private:
  Json& at(const char* name) {
    Json* here = &result;
    for (const std::string& step : path_) here = &(*here)[step];
    return (*here)[name];
  }
  void config(const char* name, int64_t& v) override { at(name) = v; }
  void config(const char* name, double& v) override {
    check(std::isfinite(v), "save", name, " is ", v, ", which JSON cannot hold");
    at(name) = v;
  }
  void config(const char* name, bool& v) override { at(name) = v; }
  void config(const char* name, std::string& v) override { at(name) = v; }
  void config(const char* name, Shape& v) override { at(name) = to_json(v); }
  void config(const char* name, Size2& v) override { at(name) = Json::array({v.h, v.w}); }
  void config(const char* name, Padding& v) override { at(name) = kPaddings[static_cast<int>(v)]; }
  void config(const char* name, Activation& v) override { at(name) = v.name(); }
  void config(const char* name, Initializer& v) override { at(name) = v.name(); }
  void config(const char* name, Regularizer& v) override {
    check(std::isfinite(v.l1) && std::isfinite(v.l2), "save", name, " has factors that JSON cannot hold");
    if (v.defined()) at(name) = Json::array({v.l1, v.l2});
  }
  void layer(const char* name, Layer& v) override {
    std::string folder = folder_;
    for (const std::string& step : path_) folder = joined(folder, step);
    at(name) = layer_to_json(v, name, folder, seen_);
  }
  void enter(const char* name) override { path_.push_back(name); }
  void leave() override { path_.pop_back(); }

  std::string folder_;
  Seen& seen_;
  std::vector<std::string> path_;
};

Json chain_to_json(const Chain& chain, const std::string& path, Seen& seen) {
  Json nodes = Json::array();
  for (size_t i = 0; i < chain.layers().size(); ++i)
    nodes.push_back(layer_to_json(chain.layers()[i], chain.names()[i], path, seen));
  return nodes;
}

// A node's result by name: "dense", or "split:1" where it has several.
std::string value_name(const Graph& graph, Graph::Value value) {
  if (value.node < 0) return graph.inputs()[static_cast<size_t>(value.output)];
  const std::string& name = graph.nodes()[static_cast<size_t>(value.node)].name;
  return value.output == 0 ? name : name + ":" + std::to_string(value.output);
}

Json graph_to_json(const Graph& graph, const std::string& path, Seen& seen) {
  Json nodes = Json::array();
  for (const Graph::Node& node : graph.nodes()) {
    Json written = layer_to_json(node.layer, node.name, path, seen);
    written["inputs"] = Json::array();
    for (const Graph::Value& value : node.inputs) written["inputs"].push_back(value_name(graph, value));
    nodes.push_back(std::move(written));
  }
  return nodes;
}

Json layer_to_json(Layer layer, const std::string& name, const std::string& folder, Seen& seen) {
  check(layer.defined(), "save", "layer \"", name, "\" is empty");
  if (Sequential* model = layer.as<Sequential>()) layer = model->layer();  // saved as the chain that it is
  if (Functional* model = layer.as<Functional>()) layer = model->layer();
  for (const auto& [written, path] : seen)
    if (written == layer) return {{"name", name}, {"shares", path}};
  const std::string path = joined(folder, name);
  seen.emplace_back(layer, path);
  const std::string type = registered_name(layer);
  check(!type.empty(), "save", "layer \"", name, "\": its type ", layer.type(), " is not registered; register_layer<",
        layer.type(), ">(...) makes it known");
  Json node{{"name", name}, {"type", type}};
  if (const Chain* chain = layer.as<Chain>()) {
    node["layers"] = chain_to_json(*chain, path, seen);
    return node;
  }
  if (const Graph* graph = layer.as<Graph>()) {
    if (graph->inputs() != std::vector<std::string>{"input"}) node["takes"] = graph->inputs();
    node["nodes"] = graph_to_json(*graph, path, seen);
    node["output"] = value_name(*graph, graph->output());
    return node;
  }
  ConfigWriter writer(path, seen);
  try {
    layer.visit(writer);
  } catch (Error& e) {
    e.add_layer(name);
    throw;
  }
  node["config"] = writer.result;
  return node;
}

}  // namespace

std::string write_graph(const SavedGraph& saved) {
  const Layer& layer = saved.layer;
  Json graph{{"format", kFormatVersion}, {"inputs", Json::array()}};
  Json from = Json::array();
  for (const Input& input : saved.inputs) {
    graph["inputs"].push_back(
        {{"name", input.name}, {"shape", to_json(input.shape)}, {"dtype", to_string(input.dtype)}});
    from.push_back(input.name);
  }
  Seen seen;
  const Chain* chain = layer.as<Chain>();
  const Graph* functional = layer.as<Graph>();
  Json nodes = chain        ? chain_to_json(*chain, "", seen)
               : functional ? graph_to_json(*functional, "", seen)
                            : Json::array({layer_to_json(layer, "model", "", seen)});
  for (Json& node : nodes) {
    if (functional) break;  // they say what they take
    node["inputs"] = from;
    from = Json::array({node["name"]});
  }
  graph["nodes"] = std::move(nodes);
  graph["outputs"] = functional ? Json::array({value_name(*functional, functional->output())}) : from;
  graph["frozen"] = saved.frozen;
  graph["root"] = chain ? "chain" : functional ? "functional" : "layer";
  return graph.dump();
}

}  // namespace mica::nn
