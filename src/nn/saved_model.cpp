// Saved models: one .safetensors file, the graph as JSON under "mica.graph" in its metadata.
#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>

#include "mica/autograd/tape.h"
#include "mica/io/safetensors.h"
#include "mica/nn/activation.h"
#include "mica/nn/augment.h"
#include "mica/nn/conv1d.h"
#include "mica/nn/conv2d.h"
#include "mica/nn/conv2d_transpose.h"
#include "mica/nn/dense.h"
#include "mica/nn/depthwise_conv2d.h"
#include "mica/nn/dropout.h"
#include "mica/nn/embedding.h"
#include "mica/nn/functional.h"
#include "mica/nn/merge.h"
#include "mica/nn/norm.h"
#include "mica/nn/pool.h"
#include "mica/nn/reshape.h"
#include "mica/nn/sequential.h"
#include "nn/model_state.h"
#include "nn/names.h"
#include "nn/preprocess.h"
#include "nn/visitors.h"

namespace MICA_EXPORT mica {
namespace nn {

namespace {

using Json = nlohmann::ordered_json;  // written in order
using Parsed = nlohmann::json;        // read with keys that are found fast, however many a file claims

constexpr const char* kGraphKey = "mica.graph";
constexpr const char* kPaddings[] = {"valid", "same", "causal"};  // in the order of Padding
constexpr int kFormatVersion = 1;
constexpr size_t kMaxInputs = 1000;
constexpr int kMaxDepth = 64;            // of models in models
constexpr size_t kMaxGraph = 16 << 20;   // bytes of JSON
constexpr int64_t kMaxValues = 100'000;  // in the JSON: some 7,000 layers. Parsed, each takes up to 100 bytes

struct Type {
  std::string name;
  const std::type_info* type;
  Layer (*make)();
};

std::mutex types_mutex;

template <class... Ts>
std::vector<Type> built_ins() {
  return {{Ts::kType, &typeid(Ts), +[]() -> Layer { return Ts{}; }}...};
}

std::vector<Type>& types() {
  static std::vector<Type> all =
      built_ins<Activation, Add, Average, AveragePool1D, AveragePool2D, BatchNorm, Chain, Concatenate, Conv1D, Conv2D,
                Conv2DTranspose, Dense, DepthwiseConv2D, Dropout, Embedding, Flatten, GlobalAveragePool1D,
                GlobalAveragePool2D, GlobalMaxPool1D, GlobalMaxPool2D, Graph, LayerNorm, MaxPool1D, MaxPool2D, Maximum,
                Minimum, Multiply, RandomFlip, RandomTranslation, Rescaling, Reshape, Subtract, UpSampling2D,
                ZeroPadding2D>();
  return all;
}

Layer (*find_type(const std::string& name))() {
  const std::lock_guard lock(types_mutex);
  for (const Type& type : types())
    if (type.name == name) return type.make;
  return nullptr;
}

// The name under which a layer's type is registered: its kType may be inherited from another. Empty: it is not.
std::string registered_name(const Layer& layer) {
  const std::lock_guard lock(types_mutex);
  for (const Type& type : types())
    if (*type.type == layer.type_info()) return type.name;
  return {};
}

Json to_json(const Shape& shape) {
  Json sizes = Json::array();
  for (const int64_t size : shape) sizes.push_back(size);
  return sizes;
}

// The layers that are written already, by their paths: one that stands in several places is written once.
using Seen = std::vector<std::pair<Layer, std::string>>;

Json layer_to_json(Layer layer, const std::string& name, const std::string& folder, Seen& seen);

std::string joined(const std::string& folder, const std::string& name) {
  return folder.empty() ? name : folder + "." + name;
}

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

template <class... Parts>
[[noreturn]] void malformed(const std::string& path, const Parts&... parts) {
  fail<FileError>("load", path, ": ", mica::detail::concat(parts...));
}

// What a JSON value must be to stand for a T.
template <class T>
bool holds(const Parsed& value) {
  if constexpr (std::is_same_v<T, bool>)
    return value.is_boolean();
  else if constexpr (std::is_same_v<T, int64_t>)
    return value.is_number_integer();
  else if constexpr (std::is_same_v<T, double>)
    return value.is_number();
  else
    return value.is_string();
}

// object[key], or null.
const Parsed& member(const Parsed& object, const char* key) {
  static const Parsed kNull;
  const auto found = object.find(key);
  return found == object.end() ? kNull : *found;
}

class Reader {
 public:
  Reader(const std::string& path) : path_(path) {}

  template <class T>
  T get(const Parsed& object, const char* key, const std::string& where) const {
    const auto found = object.find(key);
    if (found == object.end()) malformed(path_, where, " has no \"", key, "\"");
    if (!holds<T>(*found)) malformed(path_, where, ": \"", key, "\" is of the wrong kind");
    return found->get<T>();
  }

  Shape shape(const Parsed& sizes, const std::string& where) const {
    if (!sizes.is_array() || sizes.size() > Shape::kMaxRank - 1) malformed(path_, where, " is no shape");
    std::vector<int64_t> values;
    for (const Parsed& size : sizes) {
      if (!size.is_number_integer()) malformed(path_, where, " is no shape");
      values.push_back(size.get<int64_t>());
    }
    return Shape(values);
  }

  /// The layer of a node in the layer at path `folder`.
  Layer layer(const Parsed& node, const std::string& folder, int depth);
  Chain chain(const Parsed& nodes, const std::string& path, int depth);
  /// `takes`: the names of its inputs; `output`: that of the value that is the result.
  Graph graph(std::vector<std::string> takes, const Parsed& nodes, const std::string& output, const std::string& path,
              int depth);
  /// What the model takes.
  std::vector<Input> inputs(const Parsed& list) const;
  /// A list of inputs' names.
  std::vector<std::string> names(const Parsed& list, const std::string& where) const;
  const std::string& path() const { return path_; }

 private:
  void check_input_names(const std::vector<std::string>& names, const std::string& where) const;

  std::string path_;
  std::map<std::string, Layer> made_;  // by their paths in the model
};

// Sets a layer's configuration from JSON; what is not there keeps its default.
class ConfigReader final : public Visitor {
 public:
  ConfigReader(Reader& reader, const Parsed& config, std::string where, const std::string& path, int depth)
      : reader_(reader), here_{&config}, where_(std::move(where)), paths_{path}, depth_(depth) {}

 private:
  const Parsed* find(const char* name) const {
    const auto found = here_.back()->find(name);
    return found == here_.back()->end() ? nullptr : &*found;
  }
  std::string at(const char* name) const { return where_ + " \"" + name + "\""; }
  template <class T>
  void read(const char* name, T& v) const {
    if (find(name)) v = reader_.get<T>(*here_.back(), name, where_);
  }
  void config(const char* name, int64_t& v) override { read(name, v); }
  void config(const char* name, double& v) override { read(name, v); }
  void config(const char* name, bool& v) override { read(name, v); }
  void config(const char* name, std::string& v) override { read(name, v); }
  void config(const char* name, Shape& v) override {
    if (const Parsed* value = find(name)) v = reader_.shape(*value, at(name));
  }
  void config(const char* name, Size2& v) override {
    const Parsed* value = find(name);
    if (!value) return;
    const Shape sizes = reader_.shape(*value, at(name));
    if (sizes.rank() != 2) malformed(reader_.path(), at(name), " must hold two sizes");
    v = {sizes[0], sizes[1]};
  }
  void config(const char* name, Padding& v) override {
    std::string text = kPaddings[static_cast<int>(v)];
    read(name, text);
    const auto found = std::find(std::begin(kPaddings), std::end(kPaddings), text);
    if (found == std::end(kPaddings)) malformed(reader_.path(), at(name), " must be valid, same or causal, got ", text);
    v = static_cast<Padding>(found - std::begin(kPaddings));
  }
  void config(const char* name, Activation& v) override {
    if (std::string text; find(name)) read(name, text), v = Activation::named(text);
  }
  void config(const char* name, Initializer& v) override {
    if (std::string text; find(name)) read(name, text), v = Initializer::named(text);
  }
  void config(const char* name, Regularizer& v) override {
    const Parsed* value = find(name);
    if (!value) return;
    if (!value->is_array() || value->size() != 2 || !(*value)[0].is_number() || !(*value)[1].is_number())
      malformed(reader_.path(), at(name), " must hold two factors");
    v = regularizers::l1_l2((*value)[0].get<double>(), (*value)[1].get<double>());
  }
  void layer(const char* name, Layer& v) override {
    if (const Parsed* value = find(name)) v = reader_.layer(*value, paths_.back(), depth_ + 1);
  }
  void enter(const char* name) override {
    static const Parsed kNothing = Parsed::object();
    const Parsed* value = find(name);
    if (value && !value->is_object()) malformed(reader_.path(), at(name), " must be an object");
    here_.push_back(value ? value : &kNothing);
    paths_.push_back(joined(paths_.back(), name));
  }
  void leave() override {
    here_.pop_back();
    paths_.pop_back();
  }

  Reader& reader_;
  std::vector<const Parsed*> here_;
  std::string where_;
  std::vector<std::string> paths_;
  int depth_;
};

Layer Reader::layer(const Parsed& node, const std::string& folder, int depth) {
  if (!node.is_object() || depth > kMaxDepth)
    malformed(path_, "the graph's nodes must be objects, nested less than ", kMaxDepth);
  const auto name = get<std::string>(node, "name", "a node");
  const std::string where = "node \"" + name + "\"", path = joined(folder, name);
  if (node.contains("shares")) {
    const auto shared = get<std::string>(node, "shares", where);
    const auto found = made_.find(shared);
    if (found == made_.end()) malformed(path_, where, " shares \"", shared, "\", which is not before it");
    return found->second;
  }
  const auto type = get<std::string>(node, "type", where);
  if (type == Chain::kType) {
    if (!node.contains("layers")) malformed(path_, where, " has no \"layers\"");
    return made_[path] = chain(member(node, "layers"), path, depth + 1);
  }
  if (type == Graph::kType) {
    std::vector<std::string> inputs{"input"};
    if (node.contains("takes")) inputs = names(member(node, "takes"), where + " \"takes\"");
    return made_[path] = graph(std::move(inputs), member(node, "nodes"), get<std::string>(node, "output", where), path,
                               depth + 1);
  }
  const auto make = find_type(type);
  if (!make) malformed(path_, where, ": its type \"", type, "\" is not registered; register_layer makes it known");
  const auto config = node.find("config");
  if (config == node.end() || !config->is_object()) malformed(path_, where, " has no \"config\"");
  Layer layer = make();
  ConfigReader reader(*this, *config, where, path, depth);
  try {
    layer.visit(reader);
  } catch (const FileError&) {
    throw;
  } catch (const Error& e) {
    malformed(path_, where, ": ", e.what());
  }
  return made_[path] = layer;
}

Chain Reader::chain(const Parsed& nodes, const std::string& path, int depth) {
  if (!nodes.is_array()) malformed(path_, "the graph's layers must be a list");
  Chain chain;
  for (const Parsed& node : nodes) {
    chain.add(layer(node, path, depth));
    const auto name = get<std::string>(node, "name", "a node");
    if (chain.names().back() != name)
      malformed(path_, "node \"", name, "\" stands where \"", chain.names().back(), "\" should");
  }
  return chain;
}

std::vector<std::string> Reader::names(const Parsed& list, const std::string& where) const {
  std::vector<std::string> names;
  if (list.is_array())
    for (const Parsed& name : list)
      if (name.is_string()) names.push_back(name.get<std::string>());
  if (names.empty() || names.size() != list.size()) malformed(path_, where, " must be a list of names");
  check_input_names(names, where);
  return names;
}

std::vector<Input> Reader::inputs(const Parsed& list) const {
  if (!list.is_array() || list.empty()) malformed(path_, "the graph must have a list of inputs");
  std::vector<Input> inputs;
  std::vector<std::string> names;
  for (const Parsed& input : list) {
    if (!input.is_object()) malformed(path_, "the graph's inputs must be objects");
    const Shape example = shape(member(input, "shape"), "the input's shape");
    for (const int64_t size : example)
      if (size < 0) malformed(path_, "the input's shape has a negative size");
    const auto name = get<std::string>(input, "dtype", "the input");
    constexpr DType kTypes[] = {float32, float64, bfloat16, int32, int64, uint8};
    const auto dtype =
        std::find_if(std::begin(kTypes), std::end(kTypes), [&](DType d) { return to_string(d) == name; });
    if (dtype == std::end(kTypes)) malformed(path_, "the input's dtype \"", name, "\" is unknown");
    inputs.emplace_back(example, *dtype, get<std::string>(input, "name", "the input"));
    names.push_back(inputs.back().name);
  }
  check_input_names(names, "the graph's inputs");
  return inputs;
}

void Reader::check_input_names(const std::vector<std::string>& names, const std::string& where) const {
  if (names.size() > kMaxInputs) malformed(path_, where, ": there are more than ", uint64_t{kMaxInputs}, " inputs");
  std::vector<Input> inputs;
  for (const std::string& name : names) {
    if (name.empty()) malformed(path_, where, ": an input has no name");
    inputs.emplace_back(Shape(), float32, name);
  }
  try {
    named_inputs(inputs);
  } catch (const Error& e) {
    malformed(path_, where, ": ", e.what());
  }
}

Graph Reader::graph(std::vector<std::string> takes, const Parsed& nodes, const std::string& output,
                    const std::string& path, int depth) {
  if (!nodes.is_array()) malformed(path_, "the graph's nodes must be a list");
  Graph graph(std::move(takes));
  std::map<std::string, Graph::Value> places;  // of first results
  for (const std::string& name : graph.inputs())
    places.emplace(name, Graph::Value{-1, static_cast<int>(places.size())});
  const auto value = [&](const std::string& text, const std::string& where) {
    const size_t colon = std::min(text.find(':'), text.size());
    const auto found = places.find(text.substr(0, colon));
    int number = 0;
    for (size_t i = colon + 1; i < text.size() && number < Graph::kMaxOutputs; ++i)
      number = text[i] >= '0' && text[i] <= '9' ? number * 10 + (text[i] - '0') : Graph::kMaxOutputs;
    if (found == places.end() || number >= Graph::kMaxOutputs || colon + 1 == text.size() ||
        (found->second.node < 0 && number > 0))
      malformed(path_, where, " takes \"", text, "\", which nothing before it gives");
    return Graph::Value{found->second.node, found->second.output + number};
  };
  for (const Parsed& node : nodes) {
    Layer made = layer(node, path, depth);
    const auto name = get<std::string>(node, "name", "a node");
    const Parsed& inputs = member(node, "inputs");
    if (!inputs.is_array() || inputs.empty()) malformed(path_, "node \"", name, "\" has no \"inputs\"");
    std::vector<Graph::Value> values;
    for (const Parsed& input : inputs) {
      if (!input.is_string()) malformed(path_, "node \"", name, "\": its inputs must be names");
      values.push_back(value(input.get<std::string>(), "node \"" + name + "\""));
    }
    graph.add(std::move(made), std::move(values));
    if (graph.nodes().back().name != name)
      malformed(path_, "node \"", name, "\" stands where \"", graph.nodes().back().name, "\" should");
    places.emplace(name, Graph::Value{static_cast<int>(graph.nodes().size()) - 1, 0});
  }
  graph.finish(value(output, "the output"));
  return graph;
}

// Gives the layer's tensors the values in the file, in place, or (rebind) whatever they were; where one does not fit,
// nothing is changed.
void set_tensors(Layer& layer, const io::SafetensorsFile& file, bool rebind) {
  const io::StoredTensors& tensors = file.tensors;
  std::map<std::string_view, size_t> stored;
  for (size_t i = 0; i < tensors.size(); ++i) stored.emplace(tensors.name(i), i);
  std::vector<size_t> order;
  for_tensors(layer, [&](const std::string& name, Tensor& value) {
    const auto found = stored.find(name);
    if (found == stored.end()) malformed(file.path, "there is no tensor \"", name, "\"");
    const Shape shape = tensors.shape(found->second);
    const DType dtype = tensors.dtype(found->second);
    if (!rebind && (shape != value.shape() || dtype != value.dtype()))
      malformed(file.path, "tensor \"", name, "\" is ", shape, " ", dtype, ", but the model has ", value.shape(), " ",
                value.dtype());
    order.push_back(found->second);
  });
  if (order.size() != stored.size())
    malformed(file.path, "the model has ", static_cast<uint64_t>(order.size()), " tensors, the file ",
              static_cast<uint64_t>(stored.size()));
  Tensors values;
  for (const size_t i : order) values.push_back(tensors.read(i));
  size_t next = 0;
  for_tensors(layer, [&](const std::string&, Tensor& value) {
    if (rebind)
      value = std::move(values[next++]);
    else
      value.copy_from(values[next++]);
  });
}

}  // namespace

void register_layer(const std::string& name, const std::type_info& type, Layer (*make)()) {
  const std::lock_guard lock(types_mutex);
  for (const Type& known : types()) {
    if (known.name == name && *known.type == type) return;
    check(known.name != name, "register_layer", "the name \"", name, "\" is that of another type");
    check(*known.type != type, "register_layer", "the type has the name \"", known.name, "\" already");
  }
  types().push_back({name, &type, make});
}

void Model::save(const std::string& path) const {
  const State& s = *state_;
  check(s.built, "save", "the model is not built: give it an Input, or fit it");
  Layer layer = s.layer;
  name_parameters(layer);
  Json graph{{"format", kFormatVersion}, {"inputs", Json::array()}};
  for (const Input& input : s.inputs)
    graph["inputs"].push_back(
        {{"name", input.name}, {"shape", to_json(input.shape)}, {"dtype", to_string(input.dtype)}});
  Seen seen;
  const Chain* chain = layer.as<Chain>();
  const Graph* functional = layer.as<Graph>();
  Json nodes = chain        ? chain_to_json(*chain, "", seen)
               : functional ? graph_to_json(*functional, "", seen)
                            : Json::array({layer_to_json(layer, "model", "", seen)});
  Json from = Json::array();
  for (const Input& input : s.inputs) from.push_back(input.name);
  for (Json& node : nodes) {
    if (functional) break;  // they say what they take
    node["inputs"] = from;
    from = Json::array({node["name"]});
  }
  graph["nodes"] = std::move(nodes);
  graph["outputs"] = functional ? Json::array({value_name(*functional, functional->output())}) : from;
  graph["frozen"] = Json::array();
  for (const Parameter& p : parameters())
    if (!p.trainable()) graph["frozen"].push_back(p.name());
  graph["root"] = chain ? "chain" : functional ? "functional" : "layer";

  io::NamedTensors tensors;
  for_tensors(layer, [&](const std::string& name, Tensor& value) { tensors.emplace_back(name, value); });
  io::Metadata metadata{{"format", "mica"}, {kGraphKey, graph.dump()}};
  save_preprocess(*this, metadata);
  io::save_safetensors(path, tensors, metadata);
}

Model Model::load(const std::string& path) {
  const io::SafetensorsFile file = io::load_safetensors(path);
  const std::string* text = file.find_metadata(kGraphKey);
  if (!text) malformed(path, "the file holds tensors but no Mica model (no \"", kGraphKey, "\" in its metadata)");
  if (text->size() > kMaxGraph)
    malformed(path, "the model's graph is larger than ", static_cast<uint64_t>(kMaxGraph), " bytes");
  const int64_t values =
      std::count_if(text->begin(), text->end(), [](char c) { return c == ',' || c == '[' || c == '{'; });
  if (values > kMaxValues) malformed(path, "the model's graph has more than ", kMaxValues, " values");
  const Parsed graph = Parsed::parse(*text, nullptr, false);
  if (!graph.is_object()) malformed(path, "the model's graph is no JSON object");
  Reader reader(path);
  const auto format = reader.get<int64_t>(graph, "format", "the graph");
  if (format != kFormatVersion)
    malformed(path, "the graph's format is ", format, "; this version of Mica reads format ", kFormatVersion);
  const Parsed& nodes = member(graph, "nodes");
  const std::vector<Input> inputs = reader.inputs(member(graph, "inputs"));
  Parsed from = Parsed::array();
  for (const Input& input : inputs) from.push_back(input.name);

  Layer layer;
  const auto root = reader.get<std::string>(graph, "root", "the graph");
  const Parsed& outputs = member(graph, "outputs");
  if (root == "functional") {
    if (!outputs.is_array() || outputs.size() != 1 || !outputs[0].is_string())
      malformed(path, "the graph must have one output");
    layer = reader.graph(from.get<std::vector<std::string>>(), nodes, outputs[0].get<std::string>(), "", 0);
  } else if (root == "chain") {
    layer = reader.chain(nodes, "", 0);
  } else {
    if (!nodes.is_array() || nodes.size() != 1) malformed(path, "the graph must have one node");
    layer = reader.layer(nodes[0], "", 0);
  }
  for (const Parsed& node : nodes) {
    if (root == "functional") break;
    const auto name = node["name"].get<std::string>();
    if (member(node, "inputs") != from)
      malformed(path, "node \"", name, "\" must take ", from.dump(), ", which is before it");
    from = Parsed::array({name});
  }
  if (root != "functional" && outputs != from) malformed(path, "the graph's outputs must be ", from.dump());
  Model model{Layer(layer)};
  try {
    name_parameters(layer, mica::seed());
    set_tensors(layer, file, true);
    // A call on no examples: it costs no memory whatever the file claims, and shows that all the shapes fit.
    Tape::Pause pause;
    CallScope scope(CallScope::Inference{});
    Tensors none;
    for (const Input& input : inputs) none.push_back(empty(input.shape.with_first(0), {input.dtype}));
    layer.join(none, scope.call());
  } catch (const FileError&) {
    throw;
  } catch (const Error& e) {
    malformed(path, "the graph does not fit its tensors: ", e.what());
  }
  const Parsed& frozen = member(graph, "frozen");
  if (!frozen.is_array()) malformed(path, "the graph's list of frozen parameters is missing");
  std::set<std::string> names;
  for (const Parsed& name : frozen) {
    if (!name.is_string()) malformed(path, "the graph's frozen parameters must be names");
    names.insert(name.get<std::string>());
  }
  for (const Parameter& p : model.parameters())
    if (names.contains(p.name())) p.set_trainable(false);
  pack(model.parameters());
  model.state_->inputs = inputs;
  model.state_->built = true;
  load_preprocess(model, file);
  return model;
}

void Model::load_weights(const std::string& path) {
  check(built(), "load_weights", "the model is not built: give it an Input, or build it");
  name_parameters(state_->layer);
  set_tensors(state_->layer, io::load_safetensors(path), false);
}

}  // namespace nn
}  // namespace mica
