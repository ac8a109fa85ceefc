// Saved models: what comes back is what was saved, to the bit; and what is said of files that break the rules.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "mica/mica.h"
#include "nn/helpers.h"
#include "support/error_text.h"
#include "support/temp_dir.h"

using namespace mica;
using namespace mica::test;
using Json = nlohmann::ordered_json;

namespace {

Tensor wave(const Tensor& x) { return x * tanh(x); }
Tensor nameless(const Tensor& x) { return x + 1; }

// Configuration, a buffer, and a child of each kind.
struct Gate {
  static constexpr const char* kType = "test::Gate";
  int64_t units = 1;
  double factor = 1;
  bool squared = false;
  std::string note;
  Shape shape;
  nn::Dense gate{1};
  nn::Layer inner = nn::Dense(1);
  nn::Buffer offset{zeros({1})};

  Gate() = default;
  explicit Gate(int64_t n)
      : units(n), factor(0.5), squared(true), note("né"), shape{2, 3}, gate(n, {.activation = sigmoid}),
        inner(nn::Sequential{nn::Dense(n), nn::Activation(tanh)}), offset(full({1}, 0.25)) {}
  Tensor operator()(const Tensor& x) const {
    const Tensor y = inner(x) * gate(x) * factor + offset.value();
    return squared ? square(y) : y;
  }
  void visit(nn::Visitor& v) {
    v("units", units);
    v("factor", factor);
    v("squared", squared);
    v("note", note);
    v("shape", shape);
    v("gate", gate);
    v("inner", inner);
    v("offset", offset);
  }
};

// Makes its parameter in its constructor.
struct Scale {
  static constexpr const char* kType = "test::Scale";
  Parameter scale;
  explicit Scale(int64_t n = 1) : scale(ones({n})) {}
  Tensor operator()(const Tensor& x) const { return x * scale; }
  void visit(nn::Visitor& v) { v("scale", scale); }
};

struct Unregistered {
  Tensor operator()(const Tensor& x) const { return x; }
  void visit(nn::Visitor&) {}
};

const bool registered = [] {
  nn::register_layer<Gate>();
  nn::register_layer<Scale>();
  nn::register_layer<Residual>("test::Residual");
  nn::register_activation("wave", wave);
  return true;
}();

// Saves and loads; the predictions must be the same to the bit, and a second save the same file.
nn::Model saved_and_loaded(const nn::Model& model, const Tensor& x) {
  const TempDir folder;
  const std::string path = folder.file("model.safetensors"), again = folder.file("again.safetensors");
  model.save(path);
  nn::Model loaded = nn::Model::load(path);
  CHECK(loaded.built());
  CHECK(loaded.input().shape == model.input().shape);
  CHECK(loaded.input().dtype == model.input().dtype);
  CHECK(same_bits(loaded.predict(x), model.predict(x)));
  CHECK(loaded.parameters().size() == model.parameters().size());
  loaded.save(again);
  CHECK(read_file(path) == read_file(again));
  return loaded;
}

nn::Sequential small() { return nn::Sequential{nn::Input({3}), nn::Dense(4, {.activation = relu}), nn::Dense(2)}; }

// What a saved small() holds, to be spoiled.
struct Parts {
  io::NamedTensors tensors;
  Json graph;
};

Parts parts_of(const nn::Model& model) {
  const TempDir folder;
  model.save(folder.file("model.safetensors"));
  const auto file = io::load_safetensors(folder.file("model.safetensors"));
  return {file.tensors, Json::parse(*file.find_metadata("mica.graph"))};
}

std::string rejection(const io::NamedTensors& tensors, const io::Metadata& metadata) {
  const TempDir folder;
  const std::string path = folder.file("model.safetensors"), start = "[load] " + path + ": ";
  io::save_safetensors(path, tensors, metadata);
  const auto before = memory_statistics();
  const std::string text = error_text<FileError>([&] { nn::Model::load(path); });
  CHECK(memory_statistics().in_use == before.in_use);
  CHECK(memory_statistics().peak - before.peak < (1 << 20));  // nothing large for what a file only claims
  CHECK(text.compare(0, start.size(), start) == 0);
  return text.substr(std::min(start.size(), text.size()));
}

std::string rejection(const Parts& parts) { return rejection(parts.tensors, {{"mica.graph", parts.graph.dump()}}); }

// The error of loading small() after `spoil` had its way with it.
template <class F>
std::string rejection_after(const F& spoil) {
  Parts parts = parts_of(small());
  spoil(parts);
  return rejection(parts);
}

template <class F>
std::string graph_rejection(const F& spoil) {
  return rejection_after([&](Parts& p) { spoil(p.graph); });
}

}  // namespace

TEST_CASE("saved model: every kind of layer comes back") {
  nn::Sequential model{
      nn::Input({12, 12, 2}),
      nn::Rescaling(0.5, -1),
      nn::Conv2D(4, {3, 2}, {.strides = {2, 1}, .padding = Padding::same, .activation = relu}),
      nn::MaxPool2D({2, 2}, {.strides = 1}),
      nn::Conv2D(3, {2, 2}, {.use_bias = false, .kernel_initializer = nn::init::he_normal}),
      nn::Activation(gelu),
      nn::AveragePool2D({2, 2}, {.padding = Padding::same}),
      nn::Flatten(),
      nn::Dropout(0.25),
      nn::Dense(7, {.activation = wave, .bias_initializer = nn::init::ones}),
      nn::Dense(5, {.activation = softmax}),
  };
  const Tensor x = random_uniform({9, 12, 12, 2}, -1, 1, {.stream = 1});
  const nn::Model loaded = saved_and_loaded(model, x);
  CHECK(loaded.summary() == model.summary());
  for (const Parameter& p : model.parameters()) CHECK(same_bits(loaded.parameter(p.name()).value(), p.value()));
}

TEST_CASE("saved model: a model of integers, and one without parameters") {
  const nn::Sequential bytes{nn::Input({4}, uint8), nn::Rescaling(1.0 / 255), nn::Dense(2)};
  saved_and_loaded(bytes, tensor({{0, 1, 2, 255}}, {uint8}));
  const nn::Sequential none{nn::Input({2, 2}), nn::Flatten()};
  saved_and_loaded(none, ones({3, 2, 2}));
  nn::Sequential nothing;
  nothing.build({{2}});
  saved_and_loaded(nothing, ones({3, 2}));
}

TEST_CASE("saved model: what training made of it is what is saved, and training goes on after loading") {
  nn::Sequential model = small();
  const Tensor x = random_normal({32, 3}, 0, 1, {.stream = 2}), y = x.reshape({3, 32}).slice(0, 2).reshape({32, 2});
  model.compile({.optimizer = optim::Adam(), .loss = losses::mean_squared_error});
  model.fit(x, y, {.epochs = 2});
  nn::Model loaded = saved_and_loaded(model, x);
  loaded.compile({.optimizer = optim::Adam({.learning_rate = 0.01}), .loss = losses::mean_squared_error});
  const auto history = loaded.fit(x, y, {.epochs = 20});
  CHECK(history["loss"].back() < history["loss"].front());
}

TEST_CASE("saved model: models in models, and layers that stand in several places, also in several models") {
  const nn::Layer shared = nn::Dense(3, {.activation = tanh});
  nn::Sequential inner{nn::Dense(3), shared};
  nn::Sequential model;
  for (const nn::Layer& layer : {nn::Layer(nn::Dense(3)), shared, nn::Layer(inner), shared, nn::Layer(nn::Dense(2))})
    model.add(layer);
  model.build({{3}});
  const nn::Model loaded = saved_and_loaded(model, random_normal({4, 3}, 0, 1, {.stream = 3}));
  // The shared layer is one layer again: a change is seen in all of its places.
  CHECK(loaded.parameters().size() == 8);
  loaded.parameter("dense_1.kernel").value().fill(0);
  loaded.parameter("dense_1.bias").value().fill(0);
  model.parameter("dense_1.kernel").value().fill(0);
  model.parameter("dense_1.bias").value().fill(0);
  const Tensor x = random_normal({4, 3}, 0, 1, {.stream = 4});
  CHECK(same_bits(loaded.predict(x), model.predict(x)));
}

TEST_CASE("saved model: layers of one's own, with configuration, buffers and children of every kind") {
  const nn::Sequential model{nn::Input({3}), Gate(4), Gate(2), nn::Dense(2)};
  const Tensor x = random_normal({4, 3}, 0, 1, {.stream = 5});
  const nn::Model loaded = saved_and_loaded(model, x);
  CHECK(loaded.parameter("gate_1.inner.dense.kernel").shape() == Shape{4, 2});
}

TEST_CASE("saved model: a network that is one struct, and one that has a registered name for its type") {
  saved_and_loaded(nn::Model(Gate(3), nn::Input({2})), random_normal({4, 2}, 0, 1, {.stream = 6}));
  saved_and_loaded(nn::Sequential{nn::Input({4}), Residual(), nn::Dense(1)},
                   random_normal({4, 4}, 0, 1, {.stream = 6}));
}

TEST_CASE("saved model: the graph is JSON that a person can read") {
  const Parts parts = parts_of(small());
  CHECK(parts.graph["format"] == 1);
  CHECK(parts.graph["inputs"] == Json::parse(R"([{"name":"input","shape":[3],"dtype":"float32"}])"));
  CHECK(parts.graph["nodes"].size() == 2);
  CHECK(parts.graph["nodes"][0] == Json::parse(R"({"name":"dense","type":"Dense","config":{"units":4,
      "activation":"relu","use_bias":true,"kernel_initializer":"glorot_uniform","bias_initializer":"zeros"},
      "inputs":["input"]})"));
  CHECK(parts.graph["nodes"][1]["inputs"] == Json::parse(R"(["dense"])"));
  CHECK(parts.graph["outputs"] == Json::parse(R"(["dense_1"])"));
  REQUIRE(parts.tensors.size() == 4);
  CHECK(parts.tensors[0].first == "dense.kernel");
}

TEST_CASE("saved model: configuration that is not there keeps its default") {
  Parts parts = parts_of(small());
  parts.graph["nodes"][1]["config"] = Json{{"units", 2}};
  const TempDir folder;
  const std::string path = folder.file("model.safetensors");
  io::save_safetensors(path, parts.tensors, {{"mica.graph", parts.graph.dump()}});
  const Tensor x = ones({1, 3});
  CHECK(nn::Model::load(path).predict(x).shape() == Shape{1, 2});
}

TEST_CASE("save: what cannot be saved is named, and no file is made") {
  const TempDir folder;
  const std::string path = folder.file("model.safetensors");
  const auto refusal = [&](const nn::Model& model) { return error_text([&] { model.save(path); }); };
  const std::string text = refusal(nn::Sequential{nn::Input({3}), nn::Dense(1), Unregistered()});
  CHECK(contains(text, "[save] layer \"unregistered\": its type "));
  CHECK(contains(text, "Unregistered is not registered; register_layer<"));
  CHECK(contains(refusal(nn::Sequential{nn::Input({3}), nn::Sequential{nn::Dense(1), Unregistered()}, nn::Dense(1)}),
                 "[save] layer \"unregistered\""));
  CHECK(refusal(nn::Sequential{nn::Input({3}), nn::Dense(2), nn::Dense(1, {.activation = nameless})}) ==
        "dense_1: [activation] the function has no name: give it one with register_activation");
  CHECK(contains(refusal(nn::Sequential{nn::Input({3}), nn::Rescaling(INFINITY)}), "rescaling: [save] scale is inf"));
  CHECK(contains(refusal(nn::Sequential{nn::Dense(1)}), "[save] the model is not built"));
  CHECK(folder.size() == 0);
  const std::string nowhere = folder.file("nowhere/model.safetensors");
  CHECK(contains(error_text<FileError>([&] { small().save(nowhere); }), nowhere + ": cannot create the file"));
}

TEST_CASE("register_layer: one name for one type, and registering again what is known changes nothing") {
  nn::register_layer<Gate>();
  struct Other {
    Tensor operator()(const Tensor& x) const { return x; }
    void visit(nn::Visitor&) {}
  };
  CHECK(error_text([] { nn::register_layer<Other>("test::Gate"); }) ==
        "[register_layer] the name \"test::Gate\" is that of another type");
  CHECK(error_text([] { nn::register_layer<Other>("Dense"); }) ==
        "[register_layer] the name \"Dense\" is that of another type");
  CHECK(error_text([] { nn::register_layer<Other>("Sequential"); }) ==
        "[register_layer] the name \"Sequential\" is that of another type");
  CHECK(error_text([] { nn::register_layer<Gate>("test::Door"); }) ==
        "[register_layer] the type has the name \"test::Gate\" already");
}

TEST_CASE("saved model: a layer that makes its parameters in its constructor gets them from the file, of any size") {
  const nn::Sequential model{nn::Input({5}), Scale(5)};
  model.parameter("scale.scale").value().copy_from(arange(0, 5));
  saved_and_loaded(model, ones({2, 5}));
}

TEST_CASE("saved model: what is frozen is frozen again") {
  nn::Sequential model = small();
  model.parameter("dense.bias").set_trainable(false);
  const nn::Model loaded = saved_and_loaded(model, ones({2, 3}));
  for (const Parameter& p : loaded.parameters()) CHECK(p.trainable() == (p.name() != "dense.bias"));
}

TEST_CASE("load: files that are no models") {
  const TempDir folder;
  const std::string path = folder.write("model.safetensors", "no safetensors");
  CHECK(contains(error_text<FileError>([&] { nn::Model::load(path); }), "[load_safetensors] " + path + ": "));
  CHECK(contains(error_text<FileError>([&] { nn::Model::load(folder.file("missing")); }), "cannot open the file"));
  CHECK(rejection({{"a", ones({1})}}, {}) ==
        "the file holds tensors but no Mica model (no \"mica.graph\" in its metadata)");
  for (const char* text : {"", "{", "[]", "1", "null", "\"graph\"", "{\"format\":1}x", "{\"format\":1e999}"})
    CHECK(rejection({}, {{"mica.graph", text}}) == "the model's graph is no JSON object");
}

TEST_CASE("load: graphs of another format") {
  CHECK(graph_rejection([](Json& g) { g["format"] = 2; }) ==
        "the graph's format is 2, of a newer version of Mica; this one reads format 1");
  CHECK(graph_rejection([](Json& g) { g["format"] = 0; }) == "the graph's format is 0; formats begin at 1");
  CHECK(graph_rejection([](Json& g) { g["format"] = "1"; }) == "the graph: \"format\" is of the wrong kind");
  CHECK(graph_rejection([](Json& g) { g.erase("format"); }) == "the graph has no \"format\"");
  CHECK(graph_rejection([](Json& g) { g.erase("root"); }) == "the graph has no \"root\"");
}

TEST_CASE("load: inputs that are missing, several, or no inputs") {
  CHECK(graph_rejection([](Json& g) { g.erase("inputs"); }) == "the graph must have a list of inputs");
  CHECK(graph_rejection([](Json& g) { g["inputs"] = Json::array(); }) == "the graph must have a list of inputs");
  CHECK(graph_rejection([](Json& g) { g["inputs"].push_back(g["inputs"][0]); }) ==
        "the graph's inputs: [model] two inputs are called \"input\"");
  CHECK(graph_rejection([](Json& g) {
          g["inputs"].push_back(g["inputs"][0]);
          g["inputs"][1]["name"] = "other";
          g["nodes"][0]["inputs"] = {"input", "other"};
        }) == "the graph does not fit its tensors: [layer] the layer takes one input, got 2");
  CHECK(graph_rejection([](Json& g) { g["inputs"][0]["name"] = ""; }) == "the graph's inputs: an input has no name");
  CHECK(graph_rejection([](Json& g) { g["inputs"][0]["name"] = "a:1"; }) ==
        "the graph's inputs: [model] an input's name must be printable ASCII without a colon: a:1");
  CHECK(graph_rejection([](Json& g) {
          for (int i = 0; i < 1000; ++i) {
            g["inputs"].push_back(g["inputs"][0]);
            g["inputs"].back()["name"] = "x" + std::to_string(i);
          }
        }) == "the graph's inputs: [model] there may be at most 1,000 inputs, got 1001");
  CHECK(graph_rejection([](Json& g) { g["inputs"][0] = 3; }) == "the graph's inputs must be objects");
  CHECK(graph_rejection([](Json& g) { g["inputs"][0].erase("shape"); }) == "the input's shape is no shape");
  CHECK(graph_rejection([](Json& g) { g["inputs"][0]["shape"] = {1, 2, 3, 4, 5, 6, 7, 8}; }) ==
        "the input's shape is no shape");
  CHECK(graph_rejection([](Json& g) { g["inputs"][0]["shape"] = {1.5}; }) == "the input's shape is no shape");
  CHECK(graph_rejection([](Json& g) { g["inputs"][0]["shape"] = {-3}; }) == "the input's shape has a negative size");
  CHECK(graph_rejection([](Json& g) { g["inputs"][0]["shape"] = {18446744073709551615u}; }) ==
        "the input's shape has a negative size");
  CHECK(contains(graph_rejection([](Json& g) {
                   g["inputs"][0]["shape"] = {int64_t{1} << 62, 4};
                 }),
                 "too many elements: [0,4611686018427387904,4]"));
  CHECK(graph_rejection([](Json& g) { g["inputs"][0]["dtype"] = "float16"; }) ==
        "the input's dtype \"float16\" is unknown");
  CHECK(graph_rejection([](Json& g) { g["inputs"][0]["dtype"] = 32; }) == "the input: \"dtype\" is of the wrong kind");
  CHECK(
      contains(graph_rejection([](Json& g) { g["inputs"][0]["shape"] = {5}; }),
               "the graph does not fit its tensors: dense: [layer] dense.kernel has shape [3,4], but this input needs "
               "[5,4]"));
  CHECK(contains(graph_rejection([](Json& g) { g["inputs"][0]["dtype"] = "uint8"; }),
                 "the graph does not fit its tensors: dense: [dense] the input must be float32 or float64, got uint8"));
}

TEST_CASE("load: nodes that are missing or no nodes") {
  CHECK(graph_rejection([](Json& g) { g.erase("nodes"); }) == "the graph's layers must be a list");
  CHECK(graph_rejection([](Json& g) { g["nodes"] = "dense"; }) == "the graph's layers must be a list");
  CHECK(contains(graph_rejection([](Json& g) { g["nodes"][1] = 7; }), "the graph's nodes must be objects"));
  CHECK(graph_rejection([](Json& g) { g.erase("frozen"); }) == "the graph's list of frozen parameters is missing");
  CHECK(graph_rejection([](Json& g) { g["frozen"] = {1}; }) == "the graph's frozen parameters must be names");
  CHECK(graph_rejection([](Json& g) { g["nodes"][1].erase("name"); }) == "a node has no \"name\"");
  CHECK(graph_rejection([](Json& g) { g["nodes"][1]["name"] = 7; }) == "a node: \"name\" is of the wrong kind");
  CHECK(graph_rejection([](Json& g) { g["nodes"][1].erase("type"); }) == "node \"dense_1\" has no \"type\"");
  CHECK(graph_rejection([](Json& g) { g["nodes"][1].erase("config"); }) == "node \"dense_1\" has no \"config\"");
  CHECK(graph_rejection([](Json& g) { g["nodes"][1]["config"] = {1}; }) == "node \"dense_1\" has no \"config\"");
  CHECK(graph_rejection([](Json& g) { g["nodes"][1]["type"] = "app::Magic"; }) ==
        "node \"dense_1\": its type \"app::Magic\" is not registered; register_layer makes it known");
  CHECK(graph_rejection([](Json& g) { g["nodes"][1]["name"] = "output"; }) ==
        "node \"output\" stands where \"dense_1\" should");
  CHECK(graph_rejection([](Json& g) {
          g["nodes"][1] = Json{{"name", "dense_1"}, {"type", "Sequential"}};
        }) == "node \"dense_1\" has no \"layers\"");
  CHECK(graph_rejection([](Json& g) {
          g["nodes"][1] = Json{{"name", "dense_1"}, {"shares", "dense_7"}};
        }) == "node \"dense_1\" shares \"dense_7\", which is not before it");
  CHECK(graph_rejection([](Json& g) {
          g["nodes"][1] = Json{{"name", "dense_1"}, {"shares", 7}};
        }) == "node \"dense_1\": \"shares\" is of the wrong kind");
  CHECK(graph_rejection([](Json& g) { g["root"] = "layer"; }) == "the graph must have one node");
}

TEST_CASE("load: edges that are no chain") {
  CHECK(graph_rejection([](Json& g) { g["nodes"][1]["inputs"] = {"input"}; }) ==
        "node \"dense_1\" must take [\"dense\"], which is before it");
  CHECK(graph_rejection([](Json& g) {
          g["nodes"][1]["inputs"] = {"dense", "input"};
        }) == "node \"dense_1\" must take [\"dense\"], which is before it");
  CHECK(graph_rejection([](Json& g) { g["nodes"][0].erase("inputs"); }) ==
        "node \"dense\" must take [\"input\"], which is before it");
  CHECK(graph_rejection([](Json& g) { g["outputs"] = {"dense"}; }) == "the graph's outputs must be [\"dense_1\"]");
  CHECK(graph_rejection([](Json& g) { g.erase("outputs"); }) == "the graph's outputs must be [\"dense_1\"]");
}

TEST_CASE("load: configuration of the wrong kind or value") {
  const auto with = [](const char* key, const Json& value) {
    return graph_rejection([&](Json& g) { g["nodes"][1]["config"][key] = value; });
  };
  CHECK(with("units", "2") == "node \"dense_1\": \"units\" is of the wrong kind");
  CHECK(with("units", 2.5) == "node \"dense_1\": \"units\" is of the wrong kind");
  CHECK(with("use_bias", 1) == "node \"dense_1\": \"use_bias\" is of the wrong kind");
  CHECK(with("activation", 1) == "node \"dense_1\": \"activation\" is of the wrong kind");
  CHECK(with("activation", "relo") ==
        "node \"dense_1\": [activation] there is no activation \"relo\": "
        "register_activation names one's own");
  CHECK(with("kernel_initializer", "xavier") == "node \"dense_1\": [initializer] there is no initializer \"xavier\"");
  const std::string misfit =
      "the graph does not fit its tensors: dense_1: [layer] dense_1.kernel has shape [4,2], but ";
  CHECK(with("units", 3) == misfit + "this input needs [4,3]");
  CHECK(with("units", 0) == misfit + "this input needs [4,0]");
  CHECK(with("units", -1) == misfit + "this input needs [4,-1]");
  CHECK(with("units", int64_t{1} << 62) == misfit + "this input needs [4,4611686018427387904]");
  CHECK(with("units", 18446744073709551615u) == misfit + "this input needs [4,-1]");
  CHECK(contains(with("use_bias", false), "the model has 3 tensors, the file 4"));
}

TEST_CASE("load: configuration of convolution, pooling and children") {
  const nn::Sequential model{nn::Input({8, 8, 1}), nn::Conv2D(2, {3, 3}), nn::MaxPool2D({2, 2}), nn::Dropout(0.5)};
  const auto with = [&](int node, const char* key, const Json& value) {
    Parts parts = parts_of(model);
    parts.graph["nodes"][static_cast<size_t>(node)]["config"][key] = value;
    return rejection(parts);
  };
  CHECK(with(0, "strides", {1}) == "node \"conv2d\" \"strides\" must hold two sizes");
  CHECK(with(0, "strides", 1) == "node \"conv2d\" \"strides\" is no shape");
  CHECK(with(0, "padding", "full") == "node \"conv2d\" \"padding\" must be valid, same or causal, got full");
  CHECK(with(0, "padding", true) == "node \"conv2d\": \"padding\" is of the wrong kind");
  CHECK(contains(with(0, "strides", {0, 1}), "conv2d: [conv2d] the stride must be at least 1, got 0"));
  CHECK(contains(with(0, "strides", {-1, 1}), "conv2d: [conv2d] the stride must be at least 1, got -1"));
  CHECK(contains(with(0, "kernel_size", {0, 3}), "conv2d: [layer] conv2d.kernel has shape"));
  CHECK(contains(with(0, "kernel_size", {int64_t{1} << 60, 3}), "conv2d: [layer] conv2d.kernel has shape"));
  CHECK(contains(with(1, "pool_size", {0, 2}), "max_pool2d: [max_pool2d] the window must be at least 1, got 0"));
  CHECK(contains(with(1, "pool_size", {int64_t{1} << 60, 2}),
                 "max_pool2d: [max_pool2d] window and stride must be at most "));
  CHECK(contains(with(1, "strides", {-1, 2}), "max_pool2d: [max_pool2d] the stride must be at least 1, got -1"));
  CHECK(with(2, "rate", "half") == "node \"dropout\": \"rate\" is of the wrong kind");

  Parts parts = parts_of(nn::Sequential{nn::Input({3}), Gate(2)});
  REQUIRE(parts.graph["nodes"][0]["type"] == "test::Gate");
  Parts spoiled = parts;
  spoiled.graph["nodes"][0]["config"]["gate"] = 3;
  CHECK(rejection(spoiled) == "node \"gate\" \"gate\" must be an object");
  spoiled = parts;
  spoiled.graph["nodes"][0]["config"]["gate"]["units"] = "many";
  CHECK(rejection(spoiled) == "node \"gate\": \"units\" is of the wrong kind");
  spoiled = parts;
  spoiled.graph["nodes"][0]["config"]["inner"]["type"] = "Missing";
  CHECK(rejection(spoiled) == "node \"inner\": its type \"Missing\" is not registered; register_layer makes it known");
  spoiled = parts_of(nn::Sequential{nn::Input({3, 2}), nn::Bidirectional(nn::GRU(2))});
  spoiled.graph["nodes"][0]["config"].erase("backward");
  CHECK(rejection(spoiled) == "node \"bidirectional\" \"backward\" is missing");
}

TEST_CASE("load: tensors that are missing, too many, or of another shape or dtype") {
  CHECK(rejection_after([](Parts& p) { p.tensors.erase(p.tensors.begin()); }) == "there is no tensor \"dense.kernel\"");
  CHECK(rejection_after([](Parts& p) { p.tensors[1].first = "dense.offset"; }) == "there is no tensor \"dense.bias\"");
  CHECK(rejection_after([](Parts& p) { p.tensors.emplace_back("more", ones({1})); }) ==
        "the model has 4 tensors, the file 5");
  CHECK(rejection_after([](Parts& p) {
          p.tensors[0].second = ones({4, 3});
        }) ==
        "the graph does not fit its tensors: dense: [layer] dense.kernel has shape [4,3], but this input needs [3,4]");
  CHECK(rejection_after([](Parts& p) {
          p.tensors[1].second = ones({4, 1});
        }) ==
        "the graph does not fit its tensors: dense: [layer] dense.bias has shape [4,1], but this input needs [4]");
  CHECK(contains(rejection_after([](Parts& p) {
                   p.tensors[0].second = ones({3, 4}, {float64});
                 }),
                 "the graph does not fit its tensors: dense: [dense] dtypes must match: float32 and float64"));
  CHECK(contains(rejection_after([](Parts& p) { p.tensors[1].second = ones({4}, {int32}); }),
                 "the graph does not fit its tensors: dense: [dense] dtypes must match: float32 and int32"));
}

TEST_CASE("load: claims that no tensor backs cost nothing") {
  // Without channels a kernel has no bytes, whatever its number of filters.
  const int64_t huge = int64_t{1} << 50;
  const Json graph{{"format", 1},
                   {"inputs", {{{"name", "input"}, {"shape", {8, 8, 0}}, {"dtype", "float32"}}}},
                   {"nodes",
                    {{{"name", "conv2d"},
                      {"type", "Conv2D"},
                      {"config", {{"filters", huge}, {"kernel_size", {3, 3}}, {"use_bias", false}}},
                      {"inputs", {"input"}}},
                     {{"name", "flatten"}, {"type", "Flatten"}, {"config", Json::object()}, {"inputs", {"conv2d"}}}}},
                   {"outputs", {"flatten"}},
                   {"frozen", Json::array()},
                   {"root", "chain"}};
  CHECK(contains(rejection({{"conv2d.kernel", zeros({3, 3, 0, 8})}}, {{"mica.graph", graph.dump()}}),
                 "the graph does not fit its tensors: conv2d: "));
}

TEST_CASE("load: nesting without end is refused, and costs no stack") {
  const auto nested = [](int depth) {
    Parts parts = parts_of(nn::Sequential{nn::Input({3}), nn::Flatten()});
    Json node = parts.graph["nodes"][0];
    node.erase("inputs");
    for (int i = 0; i < depth; ++i)
      node = Json{{"name", "sequential"}, {"type", "Sequential"}, {"layers", Json::array({node})}};
    node["inputs"] = {"input"};
    parts.graph["nodes"] = Json::array({node});
    parts.graph["outputs"] = Json::array({node["name"]});
    return parts;
  };
  CHECK(contains(rejection(nested(200)), "the graph's nodes must be objects, nested less than 64"));
  const TempDir folder;
  const Parts some = nested(20);
  io::save_safetensors(folder.file("some"), some.tensors, {{"mica.graph", some.graph.dump()}});
  CHECK(nn::Model::load(folder.file("some")).predict(ones({2, 3})).shape() == Shape{2, 3});

  for (const char* start :
       {"{\"format\":1,\"inputs\":", "{\"nodes\":", "{\"format\":1,\"root\":\"chain\",\"nodes\":"}) {
    const std::string deep = start + std::string(90'000, '[') + std::string(90'000, ']') + "}";
    CHECK(rejection({}, {{"mica.graph", deep}}) != "no error");
  }
  std::string objects = "{\"format\":1,\"nodes\":";
  for (int i = 0; i < 90'000; ++i) objects += "{\"a\":";
  objects += "1" + std::string(90'001, '}');
  CHECK(rejection({}, {{"mica.graph", objects}}) == "the graph must have a list of inputs");
}

TEST_CASE("load: a graph that is larger than any model's is not parsed") {
  CHECK(rejection({}, {{"mica.graph", "{" + std::string(17 << 20, ' ') + "}"}}) ==
        "the model's graph is larger than 16777216 bytes");
  for (const char* value : {"[],", "{\"\":0},", "0,", "["}) {
    std::string many;
    for (int i = 0; i <= 100'000; ++i) many += value;
    CHECK(rejection({}, {{"mica.graph", many}}) == "the model's graph has more than 100000 values");
  }
}

TEST_CASE("load_weights: reads the values by name into a model that is there") {
  const TempDir folder;
  const std::string path = folder.file("model.safetensors");
  const nn::Sequential source = small();
  source.save(path);
  nn::Sequential model{nn::Dense(4, {.activation = relu}), nn::Dense(2)};
  model.build({{3}}, 99);
  const Tensor x = random_normal({4, 3}, 0, 1, {.stream = 7});
  CHECK_FALSE(same_bits(model.predict(x), source.predict(x)));
  const Parameter kernel = model.parameter("dense.kernel");
  model.load_weights(path);
  CHECK(same_bits(model.predict(x), source.predict(x)));
  CHECK(same_bits(kernel.value(), source.parameter("dense.kernel").value()));  // in place: handles stay valid
}

TEST_CASE("load_weights: a file that does not fit changes nothing") {
  const TempDir folder;
  const std::string path = folder.file("model.safetensors");
  nn::Sequential model = small();
  const Tensors before = snapshot(model.parameters());
  const auto refusal = [&](const io::NamedTensors& tensors) {
    io::save_safetensors(path, tensors);
    const std::string text = error_text<FileError>([&] { model.load_weights(path); });
    CHECK(same_bits(before, snapshot(model.parameters())));
    const std::string start = "[load] " + path + ": ";
    return text.compare(0, start.size(), start) == 0 ? text.substr(start.size()) : text;
  };
  io::NamedTensors tensors = {
      {"dense.kernel", zeros({3, 4})}, {"dense.bias", zeros({4})}, {"dense_1.kernel", zeros({4, 2})}};
  CHECK(refusal(tensors) == "there is no tensor \"dense_1.bias\"");
  tensors.emplace_back("dense_1.bias", zeros({3}));
  CHECK(refusal(tensors) == "tensor \"dense_1.bias\" is [3] float32, but the model has [2] float32");
  tensors.back().second = zeros({2}, {float64});
  CHECK(refusal(tensors) == "tensor \"dense_1.bias\" is [2] float64, but the model has [2] float32");
  tensors.back().second = zeros({2});
  tensors.emplace_back("more", zeros({2}));
  CHECK(refusal(tensors) == "the model has 4 tensors, the file 5");
  CHECK(contains(error_text<FileError>([&] { model.load_weights(folder.file("missing")); }), "cannot open the file"));
}

TEST_CASE("saved model: saving changes nothing, dropout's numbers included") {
  const auto trained = [](bool save) {
    nn::Sequential model{nn::Dense(8), nn::Dropout(0.5), nn::Dense(1)};
    model.build({{2}}, 123);
    const TempDir folder;
    if (save) model.save(folder.file("model.safetensors"));
    const nn::ModeScope training(nn::Mode::training);
    return model(ones({4, 2}));
  };
  CHECK(same_bits(trained(true), trained(false)));
}
