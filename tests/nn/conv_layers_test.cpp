// Conv1D, DepthwiseConv2D, Conv2DTranspose, and Conv2D with dilation and groups: shapes, values, and what is refused.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "mica/mica.h"
#include "nn/helpers.h"
#include "support/error_text.h"
#include "support/temp_dir.h"

using namespace mica;
using namespace mica::test;

namespace {

Tensor images(const Shape& shape) { return random_uniform(shape, -1, 1, {.stream = 3}); }

}  // namespace

TEST_CASE("conv2d layer: dilation and groups are conv2d's, and a group's kernel has its share of the channels") {
  nn::Conv2D layer(6, {3, 2}, {.padding = Padding::same, .dilation = {2, 3}, .groups = 2});
  CHECK(nn::build(layer, {7, 8, 4}) == Shape{7, 8, 6});
  CHECK(layer.kernel().shape() == Shape{3, 2, 2, 6});
  const Tensor x = images({2, 7, 8, 4});
  CHECK(same_bits(layer(x), conv2d(x, layer.kernel().value(), layer.bias().value(),
                                   {.padding = Padding::same, .dilation = {2, 3}, .groups = 2})));
  nn::Conv2D valid(6, {3, 2}, {.dilation = {2, 3}});
  CHECK(nn::build(valid, {7, 8, 4}) == Shape{3, 5, 6});

  CHECK(error_text([] {
          nn::Conv2D(4, 3, {.dilation = {1, 0}});
        }) == "[conv2d] the dilation must be at least 1, got 0");
  CHECK(error_text([] { nn::Conv2D(4, 3, {.groups = 0}); }) == "[conv2d] groups must be at least 1, got 0");
  CHECK(error_text([] { nn::Conv2D(4, 3, {.groups = 3}); }) ==
        "[conv2d] groups must divide the filters: 3 groups, 4 filters");
  nn::Conv2D odd(4, 3, {.groups = 2});
  CHECK(error_text([&] {
          nn::build(odd, {5, 5, 3});
        }) == "[conv2d] groups must divide the channels: 2 groups, input [1,5,5,3]");
}

TEST_CASE("conv1d layer: windows of [N, T, C]") {
  nn::Conv1D layer(1, 2, {.activation = relu, .bias_initializer = nn::init::ones});
  CHECK(nn::build(layer, {4, 1}) == Shape{3, 1});
  CHECK(layer.kernel().shape() == Shape{2, 1, 1});
  layer.kernel().value().copy_from(tensor({1, -2}).reshape({2, 1, 1}));
  // 1 - 2 * 3 + 1, 3 - 2 * 0 + 1, 0 - 2 * -4 + 1.
  CHECK(floats(layer(tensor({1, 3, 0, -4}).reshape({1, 4, 1}))) == std::vector<float>{0, 4, 9});

  struct {
    nn::Conv1DOptions options;
    Shape output, kernel;
  } const cases[] = {
      {{}, {7, 6}, {3, 4, 6}},
      {{.strides = 2}, {4, 6}, {3, 4, 6}},
      {{.strides = 2, .padding = Padding::same}, {5, 6}, {3, 4, 6}},
      {{.padding = Padding::causal, .dilation = 4}, {9, 6}, {3, 4, 6}},
      {{.dilation = 2, .groups = 2}, {5, 6}, {3, 2, 6}},
  };
  for (const auto& c : cases) {
    nn::Conv1D sized(6, 3, c.options);
    CHECK(nn::build(sized, {9, 4}) == c.output);
    CHECK(sized.kernel().shape() == c.kernel);
    CHECK(sized(zeros({0, 9, 4})).shape() == c.output.with_first(0));
  }
}

TEST_CASE("conv1d layer: with causal padding no step sees the future, and every step its past") {
  nn::Conv1D layer(2, 3, {.padding = Padding::causal, .dilation = 2});
  nn::build(layer, {8, 3});
  const Tensor x = images({1, 8, 3});
  const std::vector<double> y = doubles(layer(x));
  for (const int64_t t : {0, 3, 7}) {
    Tensor changed = x.clone();
    put(changed, t * 3, x.at({0, t, 0}) + 1);
    const std::vector<double> z = doubles(layer(changed));
    for (int64_t i = 0; i < 8; ++i) {
      const bool sees = i == t || i == t + 2 || i == t + 4;
      const auto at = static_cast<size_t>(2 * i);
      CHECK((z[at] != y[at]) == sees);
    }
  }
}

TEST_CASE("conv1d layer: wrong use") {
  CHECK(error_text([] { nn::Conv1D(0, 3); }) == "[conv1d] there must be at least 1 filter, got 0");
  CHECK(error_text([] { nn::Conv1D(1, 0); }) == "[conv1d] the window must be at least 1, got 0");
  CHECK(error_text([] { nn::Conv1D(1, 3, {.strides = 0}); }) == "[conv1d] the stride must be at least 1, got 0");
  CHECK(error_text([] { nn::Conv1D(1, 3, {.dilation = 0}); }) == "[conv1d] the dilation must be at least 1, got 0");
  CHECK(error_text([] { nn::Conv1D(5, 3, {.groups = 2}); }) ==
        "[conv1d] groups must divide the filters: 2 groups, 5 filters");
  nn::Conv1D layer(4, 3, {.dilation = 2, .groups = 2});
  CHECK(error_text([&] {
          nn::build(layer, {5, 5, 2});
        }) == "[conv1d] the input must be sequences [N,T,C], got [1,5,5,2]");
  CHECK(error_text([&] {
          nn::build(layer, {5, 3});
        }) == "[conv1d] groups must divide the channels: 2 groups, input [1,5,3]");
  CHECK(error_text([&] {
          nn::build(layer, {4, 2});
        }) == "[conv1d] the dilated window (5) must not be larger than the input (4) without padding");
  CHECK_FALSE(layer.kernel().defined());
}

TEST_CASE("depthwise_conv2d layer: each channel by filters of its own, side by side in the result") {
  nn::DepthwiseConv2D layer({1, 2}, {.depth_multiplier = 2});
  CHECK(nn::build(layer, {1, 2, 2}) == Shape{1, 1, 4});
  CHECK(layer.kernel().shape() == Shape{1, 2, 2, 2});
  CHECK(layer.bias().shape() == Shape{4});
  // At each of the two pixels: channel 0's two filters, channel 1's two.
  layer.kernel().value().copy_from(tensor({1, 2, 3, 4, 10, 20, 30, 40}).reshape({1, 2, 2, 2}));
  const Tensor x = tensor({1, -1, 5, 7}).reshape({1, 1, 2, 2});
  CHECK(floats(layer(x)) == std::vector<float>{51, 102, 207, 276});

  nn::DepthwiseConv2D single(3, {.strides = 2, .padding = Padding::same, .activation = relu, .use_bias = false});
  CHECK(nn::build(single, {5, 6, 7}) == Shape{3, 3, 7});
  CHECK(nn::parameters(single).size() == 1);
  CHECK(single(zeros({0, 5, 6, 7})).shape() == Shape{0, 3, 3, 7});
  nn::DepthwiseConv2D dilated(3, {.dilation = 2});
  CHECK(nn::build(dilated, {7, 6, 1}) == Shape{3, 2, 1});
}

TEST_CASE("depthwise_conv2d layer: wrong use") {
  CHECK(error_text([] { nn::DepthwiseConv2D(0); }) == "[depthwise_conv2d] the window must be at least 1, got 0");
  CHECK(error_text([] { nn::DepthwiseConv2D(3, {.strides = 0}); }) ==
        "[depthwise_conv2d] the stride must be at least 1, got 0");
  CHECK(error_text([] { nn::DepthwiseConv2D(3, {.depth_multiplier = 0}); }) ==
        "[depthwise_conv2d] depth_multiplier must be at least 1, got 0");
  nn::DepthwiseConv2D layer(3);
  CHECK(error_text([&] {
          nn::build(layer, {5, 5});
        }) == "[depthwise_conv2d] the input must be images [N,H,W,C], got [1,5,5]");
  CHECK(error_text([&] {
          nn::build(layer, {2, 5, 1});
        }) == "[depthwise_conv2d] the window (3) must not be larger than the input (2) without padding");
  CHECK(error_text([&] {
          nn::build(layer, {5, 5, 0});
        }) == "[depthwise_conv2d] the images have no channels: [1,5,5,0]");
  CHECK_FALSE(layer.kernel().defined());
}

TEST_CASE("conv2d_transpose layer: each pixel adds its filters to a window, at Keras's size") {
  nn::Conv2DTranspose layer(1, {1, 3}, {.strides = {1, 2}, .bias_initializer = nn::init::ones});
  CHECK(nn::build(layer, {1, 2, 1}) == Shape{1, 5, 1});
  CHECK(layer.kernel().shape() == Shape{1, 3, 1, 1});
  layer.kernel().value().copy_from(tensor({1, 2, 3}).reshape({1, 3, 1, 1}));
  CHECK(floats(layer(tensor({1, 10}).reshape({1, 1, 2, 1}))) == std::vector<float>{2, 3, 14, 21, 31});

  struct {
    Size2 kernel;
    nn::Conv2DTransposeOptions options;
    Shape output;
  } const cases[] = {
      {3, {}, {6, 7, 8}},
      {2, {.strides = 2}, {8, 10, 8}},
      {3, {.strides = 2}, {9, 11, 8}},
      {3, {.strides = 2, .padding = Padding::same}, {8, 10, 8}},
      {{2, 1}, {.strides = {3, 2}}, {12, 10, 8}},
      {3, {.dilation = 2}, {8, 9, 8}},
  };
  for (const auto& c : cases) {
    nn::Conv2DTranspose sized(8, c.kernel, c.options);
    CHECK(nn::build(sized, {4, 5, 3}) == c.output);
    CHECK(sized.kernel().shape() == Shape{c.kernel.h, c.kernel.w, 8, 3});
    CHECK(sized(zeros({0, 4, 5, 3})).shape() == c.output.with_first(0));
  }
}

TEST_CASE("conv2d_transpose layer: wrong use") {
  CHECK(error_text([] { nn::Conv2DTranspose(0, 3); }) == "[conv2d_transpose] there must be at least 1 filter, got 0");
  CHECK(error_text([] { nn::Conv2DTranspose(1, 0); }) == "[conv2d_transpose] the window must be at least 1, got 0");
  CHECK(error_text([] { nn::Conv2DTranspose(1, 3, {.padding = Padding::causal}); }) ==
        "[conv2d_transpose] the padding must be valid or same");
  nn::Conv2DTranspose layer(1, 3);
  CHECK(error_text([&] {
          nn::build(layer, {5, 5});
        }) == "[conv2d_transpose] the input must be images [N,H,W,C], got [1,5,5]");
  CHECK_FALSE(layer.kernel().defined());
}

TEST_CASE("save and load: convolutions come back to the bit, with all of their options") {
  const nn::Sequential model{
      nn::Input({8, 6, 4}),
      nn::Conv2D(6, 3, {.padding = Padding::same, .dilation = {2, 1}, .groups = 2}),
      nn::DepthwiseConv2D(3, {.depth_multiplier = 2, .padding = Padding::same, .activation = relu, .dilation = 2}),
      nn::Conv2DTranspose(3, {2, 4}, {.strides = 2, .padding = Padding::same, .use_bias = false}),
      nn::Reshape({16 * 12, 3}),
      nn::Conv1D(3, 2, {.strides = 2, .padding = Padding::causal, .dilation = 3, .groups = 3}),
  };
  const TempDir folder;
  const std::string path = folder.file("model.safetensors"), again = folder.file("again.safetensors");
  model.save(path);
  nn::Model loaded = nn::Model::load(path);
  const Tensor x = images({2, 8, 6, 4});
  CHECK(same_bits(loaded.predict(x), model.predict(x)));
  loaded.save(again);
  CHECK(read_file(path) == read_file(again));
}

TEST_CASE("load: a convolution saved before it had dilation and groups has neither") {
  const nn::Sequential model{nn::Input({6, 5, 2}), nn::Conv2D(3, 3, {.padding = Padding::same})};
  const TempDir folder;
  const std::string path = folder.file("model.safetensors");
  model.save(path);
  const auto file = io::load_safetensors(path);
  auto graph = nlohmann::ordered_json::parse(*file.find_metadata("mica.graph"));
  auto& config = graph["nodes"][0]["config"];
  CHECK(config.erase("dilation") == 1);
  CHECK(config.erase("groups") == 1);
  io::save_safetensors(path, file.tensors, {{"mica.graph", graph.dump()}});
  const Tensor x = images({2, 6, 5, 2});
  CHECK(same_bits(nn::Model::load(path).predict(x), model.predict(x)));
}

TEST_CASE("fit: a network of depthwise, grouped, dilated and transposed convolutions learns") {
  // Whether the upper or the lower half of an image is the brighter one.
  const int64_t n = 128;
  const Tensor x = random_uniform({n, 4, 4, 1}, 0, 1, {.stream = 4});
  const Tensor upper = sum(x.reshape({n, 2, 8}), -1);
  const Tensor y = greater(slice(upper, {{}, {0, 1}}), slice(upper, {{}, {1, 2}})).to(float32);
  nn::Sequential model{
      nn::Conv2D(4, 3, {.padding = Padding::same, .activation = relu, .dilation = 2}),
      nn::DepthwiseConv2D(3, {.padding = Padding::same}),
      nn::Conv2DTranspose(4, 2, {.strides = 2, .activation = relu}),
      nn::Conv2D(4, 3, {.strides = 2, .groups = 2}),
      nn::Flatten(),
      nn::Dense(1, {.activation = sigmoid}),
  };
  model.build(nn::Input({4, 4, 1}), 3);
  model.compile({.optimizer = optim::Adam({.learning_rate = 0.01}), .loss = losses::binary_crossentropy});
  const auto loss = model.fit(x, y, {.epochs = 30, .batch_size = 16, .seed = 1})["loss"];
  CHECK(loss.back() < 0.3 * loss.front());
}
