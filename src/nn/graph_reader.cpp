// Reading the graph of a saved model.
#include <algorithm>
#include <iterator>
#include <map>

#include "mica/nn/activation.h"
#include "mica/nn/functional.h"
#include "mica/nn/sequential.h"
#include "nn/layer_types.h"
#include "nn/names.h"
#include "nn/saved_graph.h"

namespace mica::nn {

using namespace saved;

namespace {

using Parsed = nlohmann::json;  // with keys that are found fast, however many a file claims

constexpr int kMaxDepth = 64;            // of models in models
constexpr size_t kMaxGraph = 16 << 20;   // bytes of JSON
constexpr int64_t kMaxValues = 100'000;  // in the JSON: some 7,000 layers. Parsed, each takes up to 100 bytes

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
    if (!v.defined()) malformed(reader_.path(), at(name), " is missing");
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
  const auto make = find_layer_type(type);
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

}  // namespace

SavedGraph read_graph(const std::string& path, const std::string& json) {
  if (json.size() > kMaxGraph)
    malformed(path, "the model's graph is larger than ", static_cast<uint64_t>(kMaxGraph), " bytes");
  const int64_t values =
      std::count_if(json.begin(), json.end(), [](char c) { return c == ',' || c == '[' || c == '{'; });
  if (values > kMaxValues) malformed(path, "the model's graph has more than ", kMaxValues, " values");
  const Parsed graph = Parsed::parse(json, nullptr, false);
  if (!graph.is_object()) malformed(path, "the model's graph is no JSON object");
  Reader reader(path);
  const auto format = reader.get<int64_t>(graph, "format", "the graph");
  if (format > kFormatVersion)
    malformed(path, "the graph's format is ", format, ", of a newer version of Mica; this one reads format ",
              kFormatVersion);
  if (format < kFormatVersion) malformed(path, "the graph's format is ", format, "; formats begin at 1");
  SavedGraph saved;
  saved.inputs = reader.inputs(member(graph, "inputs"));
  Parsed from = Parsed::array();
  for (const Input& input : saved.inputs) from.push_back(input.name);

  const auto root = reader.get<std::string>(graph, "root", "the graph");
  const Parsed &nodes = member(graph, "nodes"), &outputs = member(graph, "outputs"), &frozen = member(graph, "frozen");
  if (root == "functional") {
    if (!outputs.is_array() || outputs.size() != 1 || !outputs[0].is_string())
      malformed(path, "the graph must have one output");
    saved.layer = reader.graph(from.get<std::vector<std::string>>(), nodes, outputs[0].get<std::string>(), "", 0);
  } else {
    if (root == "chain") {
      saved.layer = reader.chain(nodes, "", 0);
    } else {
      if (!nodes.is_array() || nodes.size() != 1) malformed(path, "the graph must have one node");
      saved.layer = reader.layer(nodes[0], "", 0);
    }
    for (const Parsed& node : nodes) {
      const auto name = node["name"].get<std::string>();
      if (member(node, "inputs") != from)
        malformed(path, "node \"", name, "\" must take ", from.dump(), ", which is before it");
      from = Parsed::array({name});
    }
    if (outputs != from) malformed(path, "the graph's outputs must be ", from.dump());
  }
  if (!frozen.is_array()) malformed(path, "the graph's list of frozen parameters is missing");
  for (const Parsed& name : frozen) {
    if (!name.is_string()) malformed(path, "the graph's frozen parameters must be names");
    saved.frozen.push_back(name.get<std::string>());
  }
  return saved;
}

}  // namespace mica::nn
