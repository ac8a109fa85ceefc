// The table of a model's layers.
#include <algorithm>

#include "mica/autograd/tape.h"
#include "mica/nn/functional.h"
#include "mica/nn/sequential.h"
#include "nn/format.h"
#include "nn/model_state.h"
#include "nn/visitors.h"

namespace MICA_EXPORT mica {
namespace nn {

namespace {

std::string bytes(double count) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB"};
  int unit = 0;
  for (; count >= 1024 && unit < 3; ++unit) count /= 1024;
  std::string text = std::to_string(count);
  return text.substr(0, text.find('.') + 2) + " " + kUnits[unit];
}

struct Row {
  std::string name, shape, parameters, inputs = {};
};

int64_t elements(const std::vector<Parameter>& parameters) {
  int64_t n = 0;
  for (const Parameter& p : parameters) n += p.shape().elements();
  return n;
}

std::string batch_shape(const Shape& example) {
  std::string text = to_string(example);
  return "[n" + (text.size() > 2 ? "," + text.substr(1) : std::string("]"));
}

}  // namespace

std::string Model::summary() const {
  const State& s = *state_;
  check(s.built, "summary", "the model is not built: give it an Input, or fit it");
  std::vector<Row> rows;
  Tape::Pause pause;
  const WithoutCarry anew(s.layer);
  CallScope scope(CallScope::Inference{});
  const Device device = parameters().empty() ? Device::cpu() : parameters()[0].value().device();
  Tensors xs;
  for (const Input& input : s.inputs) {
    rows.push_back({input.name + " (" + std::string(to_string(input.dtype)) + ")", batch_shape(input.shape), ""});
    xs.push_back(zeros(input.shape.with_first(1), {input.dtype, device}));
  }
  const auto row = [&](const std::string& name, Layer layer) {
    const Tensor x = layer.join(xs, scope.call());
    scope.call().keep_mask(xs[0].rank(), x);
    xs = {x};
    const int64_t n = elements(nn::parameters(layer));
    rows.push_back({name + " (" + layer.type() + ")", batch_shape(x.shape().tail()), n ? grouped(n) : ""});
  };
  Layer root = s.layer;
  if (const Graph* graph = root.as<Graph>())
    graph->run(xs, scope.call(), [&](const Graph::Node& node, const Tensor& y) {
      Layer layer = node.layer;
      std::string from;
      for (const Graph::Value& value : node.inputs)
        from += (from.empty() ? "" : ", ") + (value.node < 0 ? graph->inputs()[static_cast<size_t>(value.output)]
                                                             : graph->nodes()[static_cast<size_t>(value.node)].name);
      const int64_t n = elements(nn::parameters(layer));
      rows.push_back({node.name + " (" + layer.type() + ")", batch_shape(y.shape().tail()), n ? grouped(n) : "", from});
    });
  else if (const Chain* chain = root.as<Chain>())
    for (size_t i = 0; i < chain->layers().size(); ++i) row(chain->names()[i], chain->layers()[i]);
  else
    row("model", root);

  size_t name_width = 5, shape_width = 12, parameter_width = 10;
  for (const Row& r : rows) {
    name_width = std::max(name_width, r.name.size());
    shape_width = std::max(shape_width, r.shape.size());
    parameter_width = std::max(parameter_width, r.parameters.size());
  }
  std::string text;
  const auto line = [&](const Row& r) {
    text += " " + r.name + std::string(name_width - r.name.size() + 3, ' ') + r.shape;
    if (!r.parameters.empty())
      text += std::string(shape_width - r.shape.size() + 3 + parameter_width - r.parameters.size(), ' ') + r.parameters;
    if (!r.inputs.empty())
      text += std::string(r.parameters.empty() ? shape_width - r.shape.size() + 3 + parameter_width : 0, ' ') + "   " +
              r.inputs;
    text += "\n";
  };
  const auto rule = [&] {
    for (size_t i = 0; i < name_width + shape_width + parameter_width + 8; ++i) text += "─";
    text += "\n";
  };
  line({"Layer", "Output shape", "Parameters", root.as<Graph>() ? "Inputs" : ""});
  rule();
  for (const Row& r : rows) line(r);
  rule();
  int64_t total = 0, frozen = 0, size = 0;
  for (const Parameter& p : parameters()) {
    total += p.shape().elements();
    frozen += p.trainable() ? 0 : p.shape().elements();
    size += static_cast<int64_t>(p.value().bytes());
  }
  text += " " + grouped(total) + " parameters (" + bytes(static_cast<double>(size)) + ")";
  if (frozen > 0) text += ", " + grouped(frozen) + " of them frozen";
  return text + "\n";
}

}  // namespace nn
}  // namespace mica
