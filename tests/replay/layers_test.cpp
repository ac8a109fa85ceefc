// PyTorch's own samples of modules, replayed by Mica's layers, their parameters set from the file.
#include "mica/nn/activation.h"
#include "mica/nn/conv1d.h"
#include "mica/nn/conv2d.h"
#include "mica/nn/conv2d_transpose.h"
#include "mica/nn/dense.h"
#include "mica/nn/embedding.h"
#include "mica/nn/norm.h"
#include "mica/nn/pool.h"
#include "mica/nn/reshape.h"
#include "replay/samples.h"

using namespace mica;
using namespace mica::test;
using namespace mica::test::samples;

namespace {

using Maker = std::function<nn::Layer(const Sample&)>;

// Gives a built layer the parameters and buffers of a sample.
class Setter final : public nn::Visitor {
 public:
  explicit Setter(const GoldenCase& c) : c_(c) {}
  std::vector<std::pair<std::string, Parameter>> parameters;
  std::vector<std::pair<std::string, nn::Buffer>> buffers;

 private:
  void parameter(const char* name, Parameter& p) override {
    p.value().copy_from(c_.input(name, float32));
    parameters.emplace_back(name, p);
  }
  void buffer(const char* name, nn::Buffer& b) override {
    b.value() = c_.input(name, float32).clone();
    buffers.emplace_back(name, b);
  }

  const GoldenCase& c_;
};

bool biased(const Sample& s) { return s.at("bias").defined(); }

template <class Layer>
Maker pool_of_images() {
  return [](const Sample& s) { return Layer(s.size("window"), {s.size("strides"), padding_of(s)}); };
}
template <class Layer>
Maker pool_of_sequences() {
  return [](const Sample& s) { return Layer(s.size("window").w, {s.size("strides").w, padding_of(s)}); };
}

const std::map<std::string, Maker>& makers() {
  static const std::map<std::string, Maker> table = {
      {"Dense", [](const Sample& s) { return nn::Dense(s.count("units"), {.use_bias = biased(s)}); }},
      {"Conv1D",
       [](const Sample& s) {
         return nn::Conv1D(s.count("filters"), s.size("kernel").w,
                           {.strides = s.size("strides").w,
                            .padding = padding_of(s),
                            .use_bias = biased(s),
                            .dilation = s.size("dilation").w,
                            .groups = s.count("groups")});
       }},
      {"Conv2D",
       [](const Sample& s) {
         return nn::Conv2D(s.count("filters"), s.size("kernel"),
                           {.strides = s.size("strides"),
                            .padding = padding_of(s),
                            .use_bias = biased(s),
                            .dilation = s.size("dilation"),
                            .groups = s.count("groups")});
       }},
      {"Conv2DTranspose",
       [](const Sample& s) {
         return nn::Conv2DTranspose(
             s.count("filters"), s.size("kernel"),
             {.strides = s.size("strides"), .use_bias = biased(s), .dilation = s.size("dilation")});
       }},
      {"MaxPool1D", pool_of_sequences<nn::MaxPool1D>()},
      {"MaxPool2D", pool_of_images<nn::MaxPool2D>()},
      {"AveragePool1D", pool_of_sequences<nn::AveragePool1D>()},
      {"AveragePool2D", pool_of_images<nn::AveragePool2D>()},
      {"GlobalAveragePool1D", [](const Sample&) { return nn::GlobalAveragePool1D(); }},
      {"GlobalAveragePool2D", [](const Sample&) { return nn::GlobalAveragePool2D(); }},
      {"BatchNorm",
       [](const Sample& s) {
         return nn::BatchNorm({.momentum = s.c.number("momentum"),
                               .epsilon = s.c.number("epsilon"),
                               .center = s.at("beta").defined(),
                               .scale = s.at("gamma").defined()});
       }},
      {"LayerNorm",
       [](const Sample& s) {
         return nn::LayerNorm(
             {.epsilon = s.c.number("epsilon"), .center = s.at("beta").defined(), .scale = s.at("gamma").defined()});
       }},
      {"Embedding", [](const Sample& s) { return nn::Embedding(s.count("tokens"), s.count("size")); }},
      {"ZeroPadding2D",
       [](const Sample& s) {
         const auto [top, bottom] = s.c.pair("rows");
         const auto [left, right] = s.c.pair("columns");
         return nn::ZeroPadding2D({top, bottom}, {left, right});
       }},
      {"Activation", [](const Sample& s) { return nn::Activation::named(s.c.text("activation")); }},
  };
  return table;
}

// PyTorch's padding goes around the input, and of a transposed convolution's result off the result.
Tensor whole(const Sample& s, const nn::Layer& layer) {
  const Tensor y = layer(s.c.has("pads") ? bordered(s, s.c.op[0] == 'M' ? -INFINITY : 0) : s.x[0]);
  if (!s.c.has("crop")) return y;
  const std::vector<int64_t> crop = s.c.list("crop");
  return slice(y, {{}, {crop[0], crop[1]}, {crop[2], crop[3]}});
}

void replay_layer(const GoldenCase& c, const Maker& make) {
  Tensors all;
  for (const std::string& input : c.inputs) all.push_back(c.input(input, float32));
  Sample s{c, all};
  nn::Layer layer = make(s);
  Tensor& x = all[0];
  Setter setter(c);
  if (all.size() > 1) {
    nn::build(layer, {x.rank() > 1 ? x.shape().tail() : x.shape(), x.dtype()});
    setter("layer", layer);
  }
  REQUIRE(setter.parameters.size() + setter.buffers.size() + 1 == all.size());
  const bool normalizes = c.op == "BatchNorm" || c.op == "LayerNorm";
  const Tolerance tolerance = normalizes || c.op == "Dense" || c.op.starts_with("Conv") ? kSums : kPointwise;

  Tape tape;
  Tensors wanted;
  std::vector<std::string> names;
  const bool trains = c.has("training") && c.flag("training");
  const nn::ModeScope mode(trains ? nn::Mode::training : nn::Mode::inference);
  if (is_floating(x.dtype())) {
    tape.watch(x);
    wanted.push_back(x);
    names.push_back("dx");
  }
  for (const auto& [name, parameter] : setter.parameters) {
    wanted.push_back(parameter);
    names.push_back("d" + name);
  }
  const Tensor y = whole(s, layer);
  CHECK(close(y, c.expected("y"), tolerance));
  if (trains)
    for (const auto& [name, buffer] : setter.buffers)
      CHECK(close(buffer.value(), c.expected("new_" + name), kPointwise));
  const Tensors gradients = tape.gradient(sum(y * c.input("dy", float32)), wanted);
  for (size_t i = 0; i < wanted.size(); ++i) {
    CAPTURE(names[i]);
    CHECK(close(gradients[i], c.expected(names[i]), tolerance));
  }
}

}  // namespace

TEST_CASE("PyTorch's samples of layers, as they train and as they infer") {
  CHECK(golden("opinfo/layers").size() == 94);
  for (const GoldenCase& c : golden("opinfo/layers")) {
    CAPTURE(c.name);
    CAPTURE(c.op);
    CAPTURE(c.arguments());
    const auto make = makers().find(c.op);
    REQUIRE_MESSAGE(make != makers().end(), "no layer replays ", c.op);
    replay_layer(c, make->second);
  }
}
