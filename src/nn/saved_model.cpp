// Saved models: one .safetensors file, the graph as JSON under "mica.graph" in its metadata.
#include <algorithm>
#include <map>

#include "mica/autograd/tape.h"
#include "mica/io/safetensors.h"
#include "nn/model_state.h"
#include "nn/preprocess.h"
#include "nn/saved_graph.h"
#include "nn/visitors.h"

namespace MICA_EXPORT mica {
namespace nn {

namespace {

constexpr const char* kGraphKey = "mica.graph";

// Gives the layer's tensors the values in the file, in place, or (rebind) whatever they were; where one does not fit,
// nothing is changed.
void set_tensors(Layer& layer, const io::SafetensorsFile& file, bool rebind) {
  const io::StoredTensors& tensors = file.tensors;
  std::map<std::string_view, size_t> stored;
  for (size_t i = 0; i < tensors.size(); ++i) stored.emplace(tensors.name(i), i);
  std::vector<size_t> order;
  for_tensors(layer, [&](const std::string& name, Tensor& value) {
    const auto found = stored.find(name);
    if (found == stored.end()) fail<FileError>("load", file.path, ": ", "there is no tensor \"", name, "\"");
    const Shape shape = tensors.shape(found->second);
    const DType dtype = tensors.dtype(found->second);
    if (!rebind && (shape != value.shape() || dtype != value.dtype()))
      fail<FileError>("load", file.path, ": ", "tensor \"", name, "\" is ", shape, " ", dtype, ", but the model has ",
                      value.shape(), " ", value.dtype());
    order.push_back(found->second);
  });
  if (order.size() != stored.size())
    fail<FileError>("load", file.path, ": ", "the model has ", static_cast<uint64_t>(order.size()),
                    " tensors, the file ", static_cast<uint64_t>(stored.size()));
  Tensors values;
  for (const size_t i : order) values.push_back(tensors.read(i));
  size_t next = 0;
  for_tensors(layer, [&](const std::string&, Tensor& value) {
    if (rebind)
      value = values[next++].to(default_device());
    else
      value.copy_from(values[next++]);
  });
}

}  // namespace

void Model::save(const std::string& path) const {
  const State& s = *state_;
  check(s.built, "save", "the model is not built: give it an Input, or fit it");
  SavedGraph graph{s.inputs, s.layer, {}};
  name_parameters(graph.layer);
  for (const Parameter& p : parameters())
    if (!p.trainable()) graph.frozen.push_back(p.name());
  io::NamedTensors tensors;
  for_tensors(graph.layer, [&](const std::string& name, Tensor& value) { tensors.emplace_back(name, value); });
  io::Metadata metadata{{"format", "mica"}, {kGraphKey, write_graph(graph)}};
  save_preprocess(*this, metadata);
  io::save_safetensors(path, tensors, metadata);
}

Model Model::load(const std::string& path) {
  const io::SafetensorsFile file = io::load_safetensors(path);
  const std::string* text = file.find_metadata(kGraphKey);
  if (!text)
    fail<FileError>("load", path, ": the file holds tensors but no Mica model (no \"", kGraphKey,
                    "\" in its metadata)");
  SavedGraph graph = read_graph(path, *text);
  Model model{graph.layer};
  try {
    name_parameters(graph.layer, mica::seed());
    set_tensors(graph.layer, file, true);
    // A call on no examples: it costs no memory whatever the file claims, and shows that all the shapes fit.
    Tape::Pause pause;
    const WithoutCarry anew(graph.layer);
    CallScope scope(CallScope::Inference{});
    Tensors none;
    for (const Input& input : graph.inputs) none.push_back(empty(input.shape.with_first(0), {input.dtype}));
    graph.layer.join(none, scope.call());
  } catch (const FileError&) {
    throw;
  } catch (const Error& e) {
    fail<FileError>("load", path, ": the graph does not fit its tensors: ", e.what());
  }
  std::sort(graph.frozen.begin(), graph.frozen.end());
  for (const Parameter& p : model.parameters())
    if (std::binary_search(graph.frozen.begin(), graph.frozen.end(), p.name())) p.set_trainable(false);
  pack(model.parameters());
  model.state_->inputs = std::move(graph.inputs);
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
