// Saved models: one .safetensors file, the graph as JSON under "mica.graph" in its metadata; and clones.
#include <algorithm>
#include <mutex>
#include <nlohmann/json.hpp>

#include "mica/autograd/tape.h"
#include "mica/io/safetensors.h"
#include "mica/nn/activation.h"
#include "mica/nn/conv2d.h"
#include "mica/nn/dense.h"
#include "mica/nn/dropout.h"
#include "mica/nn/pool.h"
#include "mica/nn/sequential.h"
#include "nn/model_state.h"
#include "nn/visitors.h"

namespace MICA_EXPORT mica {
namespace nn {

namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kGraphKey = "mica.graph";
constexpr int kFormatVersion = 1;
constexpr int kMaxDepth = 64;  // of models in models

struct Type {
  std::string name;
  Layer (*make)();
};

std::mutex types_mutex;

template <class T>
Type built_in() {
  return {T::kType, +[]() -> Layer { return T{}; }};
}

std::vector<Type>& types() {
  static std::vector<Type> all{built_in<Dense>(),   built_in<Conv2D>(),  built_in<MaxPool2D>(), built_in<AveragePool2D>(),
                               built_in<Dropout>(), built_in<Flatten>(), built_in<Rescaling>(), built_in<Activation>()};
  return all;
}

Layer (*find_type(const std::string& name))() {
  const std::lock_guard lock(types_mutex);
  for (const Type& type : types())
    if (type.name == name) return type.make;
  return nullptr;
}

Json to_json(const Shape& shape) {
  Json sizes = Json::array();
  for (const int64_t size : shape) sizes.push_back(size);
  return sizes;
}

Json layer_to_json(Layer& layer, const std::string& name);

// Writes a layer's configuration; children become objects of their own.
class ConfigWriter final : public Visitor {
 public:
  Json result = Json::object();

 private:
  Json& at(const char* name) {
    Json* here = &result;
    for (const std::string& step : path_) here = &(*here)[step];
    return (*here)[name];
  }
  void config(const char* name, int64_t& v) override { at(name) = v; }
  void config(const char* name, double& v) override { at(name) = v; }
  void config(const char* name, bool& v) override { at(name) = v; }
  void config(const char* name, std::string& v) override { at(name) = v; }
  void config(const char* name, Shape& v) override { at(name) = to_json(v); }
  void config(const char* name, Size2& v) override { at(name) = Json::array({v.h, v.w}); }
  void config(const char* name, Padding& v) override { at(name) = v == Padding::same ? "same" : "valid"; }
  void config(const char* name, Activation& v) override { at(name) = v.name(); }
  void config(const char* name, Initializer& v) override { at(name) = v.name(); }
  void layer(const char* name, Layer& v) override { at(name) = layer_to_json(v, name); }
  void enter(const char* name) override { path_.push_back(name); }
  void leave() override { path_.pop_back(); }

  std::vector<std::string> path_;
};

// The layers of a chain in order; one that stands there again is named by its first place.
Json chain_to_json(const Chain& chain) {
  Json nodes = Json::array();
  for (size_t i = 0; i < chain.layers().size(); ++i) {
    Layer layer = chain.layers()[i];
    const auto first = std::find(chain.layers().begin(), chain.layers().end(), layer) - chain.layers().begin();
    if (static_cast<size_t>(first) < i)
      nodes.push_back({{"name", chain.names()[i]}, {"shares", chain.names()[static_cast<size_t>(first)]}});
    else
      nodes.push_back(layer_to_json(layer, chain.names()[i]));
  }
  return nodes;
}

Json layer_to_json(Layer& layer, const std::string& name) {
  Json node{{"name", name}, {"type", layer.type()}};
  if (const Chain* chain = layer.as<Chain>()) {
    node["layers"] = chain_to_json(*chain);
    return node;
  }
  check(find_type(layer.type()) != nullptr, "save", "layer \"", name, "\": its type ", layer.type(),
        " is not registered; register_layer<", layer.type(), ">(...) makes it known");
  ConfigWriter writer;
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
bool holds(const Json& value) {
  if constexpr (std::is_same_v<T, bool>)
    return value.is_boolean();
  else if constexpr (std::is_same_v<T, int64_t>)
    return value.is_number_integer();
  else if constexpr (std::is_same_v<T, double>)
    return value.is_number();
  else
    return value.is_string();
}

class Reader {
 public:
  Reader(const std::string& path) : path_(path) {}

  template <class T>
  T get(const Json& object, const char* key, const std::string& where) const {
    const auto found = object.find(key);
    if (found == object.end()) malformed(path_, where, " has no \"", key, "\"");
    if (!holds<T>(*found)) malformed(path_, where, ": \"", key, "\" is of the wrong kind");
    return found->get<T>();
  }

  Shape shape(const Json& sizes, const std::string& where) const {
    if (!sizes.is_array() || sizes.size() > Shape::kMaxRank - 1) malformed(path_, where, " is no shape");
    std::vector<int64_t> values;
    for (const Json& size : sizes) {
      if (!size.is_number_integer()) malformed(path_, where, " is no shape");
      values.push_back(size.get<int64_t>());
    }
    return Shape(values);
  }

  Layer layer(const Json& node, int depth) const;
  Chain chain(const Json& nodes, int depth) const;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// Sets a layer's configuration from JSON; what is not there keeps its default.
class ConfigReader final : public Visitor {
 public:
  ConfigReader(const Reader& reader, const Json& config, std::string where, int depth)
      : reader_(reader), here_{&config}, where_(std::move(where)), depth_(depth) {}

 private:
  const Json* find(const char* name) const {
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
    if (const Json* value = find(name)) v = reader_.shape(*value, at(name));
  }
  void config(const char* name, Size2& v) override {
    const Json* value = find(name);
    if (!value) return;
    const Shape sizes = reader_.shape(*value, at(name));
    if (sizes.rank() != 2) malformed(reader_.path(), at(name), " must hold two sizes");
    v = {sizes[0], sizes[1]};
  }
  void config(const char* name, Padding& v) override {
    std::string text = v == Padding::same ? "same" : "valid";
    read(name, text);
    if (text != "same" && text != "valid") malformed(reader_.path(), at(name), " must be valid or same, got ", text);
    v = text == "same" ? Padding::same : Padding::valid;
  }
  void config(const char* name, Activation& v) override {
    if (std::string text; find(name)) read(name, text), v = Activation::named(text);
  }
  void config(const char* name, Initializer& v) override {
    if (std::string text; find(name)) read(name, text), v = Initializer::named(text);
  }
  void layer(const char* name, Layer& v) override {
    if (const Json* value = find(name)) v = reader_.layer(*value, depth_ + 1);
  }
  void enter(const char* name) override {
    static const Json kNothing = Json::object();
    const Json* value = find(name);
    if (value && !value->is_object()) malformed(reader_.path(), at(name), " must be an object");
    here_.push_back(value ? value : &kNothing);
  }
  void leave() override { here_.pop_back(); }

  const Reader& reader_;
  std::vector<const Json*> here_;
  std::string where_;
  int depth_;
};

Layer Reader::layer(const Json& node, int depth) const {
  if (!node.is_object() || depth > kMaxDepth) malformed(path_, "the graph's nodes must be objects, nested less than ", kMaxDepth);
  const auto name = get<std::string>(node, "name", "a node");
  const std::string where = "node \"" + name + "\"";
  const auto type = get<std::string>(node, "type", where);
  if (type == Chain::kType) {
    const auto layers = node.find("layers");
    if (layers == node.end()) malformed(path_, where, " has no \"layers\"");
    return chain(*layers, depth + 1);
  }
  const auto make = find_type(type);
  if (!make) malformed(path_, where, ": its type \"", type, "\" is not registered; register_layer makes it known");
  const auto config = node.find("config");
  if (config == node.end() || !config->is_object()) malformed(path_, where, " has no \"config\"");
  Layer layer = make();
  ConfigReader reader(*this, *config, where, depth);
  try {
    layer.visit(reader);
  } catch (const FileError&) {
    throw;
  } catch (const Error& e) {
    malformed(path_, where, ": ", e.what());
  }
  return layer;
}

Chain Reader::chain(const Json& nodes, int depth) const {
  if (!nodes.is_array()) malformed(path_, "the graph's layers must be a list");
  Chain chain;
  for (const Json& node : nodes) {
    if (!node.is_object()) malformed(path_, "the graph's nodes must be objects");
    const auto name = get<std::string>(node, "name", "a node");
    if (node.contains("shares")) {
      const auto shared = get<std::string>(node, "shares", "node \"" + name + "\"");
      const auto& names = chain.names();
      const auto found = std::find(names.begin(), names.end(), shared);
      if (found == names.end()) malformed(path_, "node \"", name, "\" shares \"", shared, "\", which is not before it");
      chain.add(chain.layers()[static_cast<size_t>(found - names.begin())]);
    } else {
      chain.add(layer(node, depth));
    }
    if (chain.names().back() != name)
      malformed(path_, "node \"", name, "\" stands where \"", chain.names().back(), "\" should");
  }
  return chain;
}

// Calls f(name, tensor) for each parameter (once) and buffer, with its name in the file.
template <class F>
class TensorVisitor final : public PathVisitor {
 public:
  explicit TensorVisitor(F f) : f_(std::move(f)) {}

 private:
  void parameter(const char*, Parameter& p) override {
    if (std::find(seen_.begin(), seen_.end(), p.leaf()) != seen_.end()) return;
    seen_.push_back(p.leaf());
    f_(p.name(), p.value());
  }
  void buffer_(const char* name, Tensor& t) override { f_(path(name), t); }

  F f_;
  std::vector<mica::detail::Leaf*> seen_;
};

template <class F>
void for_tensors(Layer& layer, F f) {
  TensorVisitor<F> visitor(std::move(f));
  layer.visit(visitor);
}

// Gives copied layers parameters of their own; what was shared stays shared among the copies.
class Cloner final : public Visitor {
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
  void buffer_(const char*, Tensor& t) override {
    if (t.defined()) t = t.clone();
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
  std::vector<std::pair<Layer, Layer>> layers_;
};

DType dtype_named(const std::string& path, const std::string& name) {
  for (const DType dtype : {float32, float64, bfloat16, int32, int64, uint8})
    if (to_string(dtype) == name) return dtype;
  malformed(path, "the input's dtype \"", name, "\" is unknown");
}

void set_tensors(Layer& layer, const io::SafetensorsFile& file) {
  size_t used = 0;
  for_tensors(layer, [&](const std::string& name, Tensor& value) {
    const Tensor& stored = file.at(name);
    if (value.defined()) {
      check<FileError>(stored.shape() == value.shape() && stored.dtype() == value.dtype(), "load", file.path, ": tensor \"",
                       name, "\" is ", stored.shape(), " ", stored.dtype(), ", but the model has ", value.shape(), " ",
                       value.dtype());
      value.copy_from(stored);
    } else {
      value = stored;
    }
    ++used;
  });
  check<FileError>(used == file.tensors.size(), "load", file.path, ": the model has ", static_cast<uint64_t>(used),
                   " tensors, the file ", static_cast<uint64_t>(file.tensors.size()));
}

}  // namespace

void register_layer(const std::string& name, Layer (*make)()) {
  check(name != Chain::kType, "register_layer", "\"", name, "\" is one of Mica's own layers");
  const std::lock_guard lock(types_mutex);
  for (Type& type : types())
    if (type.name == name) {
      type.make = make;
      return;
    }
  types().push_back({name, make});
}

void Model::save(const std::string& path) const {
  const State& s = *state_;
  check(s.built, "save", "the model is not built: give it an Input, or fit it");
  Layer layer = s.layer;
  name_parameters(layer, mica::seed());
  Json graph{{"format", kFormatVersion},
             {"inputs", {{{"name", "input"}, {"shape", to_json(s.input->shape)}, {"dtype", to_string(s.input->dtype)}}}}};
  Json nodes = layer.as<Chain>() ? chain_to_json(*layer.as<Chain>()) : Json::array({layer_to_json(layer, "model")});
  std::string from = "input";
  for (Json& node : nodes) {
    node["inputs"] = Json::array({from});
    from = node["name"].get<std::string>();
  }
  graph["nodes"] = std::move(nodes);
  graph["outputs"] = Json::array({from});
  graph["root"] = layer.as<Chain>() ? "chain" : "layer";

  io::NamedTensors tensors;
  for_tensors(layer, [&](const std::string& name, Tensor& value) { tensors.emplace_back(name, value); });
  io::save_safetensors(path, tensors, {{"format", "mica"}, {kGraphKey, graph.dump()}});
}

Model Model::load(const std::string& path) {
  const io::SafetensorsFile file = io::load_safetensors(path);
  const std::string* text = file.find_metadata(kGraphKey);
  if (!text) malformed(path, "the file holds tensors but no Mica model (no \"", kGraphKey, "\" in its metadata)");
  const Json graph = Json::parse(*text, nullptr, false);
  if (!graph.is_object()) malformed(path, "the model's graph is no JSON object");
  const Reader reader(path);
  const auto format = reader.get<int64_t>(graph, "format", "the graph");
  if (format != kFormatVersion)
    malformed(path, "the graph's format is ", format, "; this version of Mica reads format ", kFormatVersion);
  const Json inputs = graph.value("inputs", Json()), nodes = graph.value("nodes", Json());
  if (!inputs.is_array() || inputs.size() != 1 || !inputs[0].is_object()) malformed(path, "the graph must have one input");
  const Input input{reader.shape(inputs[0].value("shape", Json()), "the input's shape"),
                    dtype_named(path, reader.get<std::string>(inputs[0], "dtype", "the input"))};
  for (const int64_t size : input.shape)
    if (size < 0) malformed(path, "the input's shape has a negative size");

  Layer layer;
  if (reader.get<std::string>(graph, "root", "the graph") == "chain") {
    layer = reader.chain(nodes, 0);
  } else {
    if (!nodes.is_array() || nodes.size() != 1) malformed(path, "the graph must have one node");
    layer = reader.layer(nodes[0], 0);
  }
  Model model{Layer(layer)};
  try {
    name_parameters(layer, mica::seed());
    set_tensors(layer, file);
    // A call on no examples: it costs no memory whatever the file claims, and shows that all the shapes fit.
    Tape::Pause pause;
    CallScope scope(false, 0);
    layer.forward(empty(input.shape.with_first(0), {input.dtype}), scope.call());
  } catch (const FileError&) {
    throw;
  } catch (const Error& e) {
    malformed(path, "the graph does not fit its tensors: ", e.what());
  }
  pack(model.parameters());
  model.state_->input = input;
  model.state_->built = true;
  return model;
}

void Model::load_weights(const std::string& path) {
  check(built(), "load_weights", "the model is not built: give it an Input, or build it");
  name_parameters(state_->layer, mica::seed());
  set_tensors(state_->layer, io::load_safetensors(path));
}

Model Model::clone() const {
  Layer copy = state_->layer.copy();
  Cloner cloner;
  copy.visit(cloner);
  Model model(std::move(copy));
  model.state_->input = state_->input;
  model.state_->built = state_->built;
  if (model.built()) pack(model.parameters());
  return model;
}

}  // namespace nn
}  // namespace mica
