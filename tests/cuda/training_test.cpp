// Models on a device: one step from the same weights agrees with the CPU's, and the program is the same.
#include <doctest/doctest.h>

#include "mica/mica.h"
#include "support/devices.h"
#include "support/error_text.h"
#include "support/temp_dir.h"
#include "support/tensors.h"

using namespace mica;
using namespace mica::test;

namespace {

const Device kHost = Device::cpu();

Tensor host_sample(const Shape& shape, uint64_t seed) {
  return random_uniform(shape, -1, 1, {random_stream(seed, "training_test"), 0}, {float32, kHost});
}

nn::Sequential convolutional() {
  return nn::Sequential{nn::Input({12, 12, 1}),
                        nn::Conv2D(8, {3, 3}, {.activation = relu}),
                        nn::MaxPool2D({2, 2}),
                        nn::Conv2D(12, {3, 3}),
                        nn::BatchNorm(),
                        nn::Activation(relu),
                        nn::Flatten(),
                        nn::Dropout(0.25),
                        nn::Dense(16, {.activation = relu}),
                        nn::Dense(4, {.activation = softmax})};
}

nn::Sequential recurrent() {
  return nn::Sequential{nn::Input({5}, int64), nn::Embedding(11, 6), nn::LSTM(9, {.return_sequences = true}),
                        nn::GRU(7), nn::Dense(4, {.activation = softmax})};
}

nn::Sequential attentive() {
  return nn::Sequential{nn::Input({6}, int64), nn::Embedding(11, 8), nn::MultiHeadSelfAttention(2),
                        nn::LayerNorm(),       nn::Flatten(),        nn::Dense(4, {.activation = softmax})};
}

Tensor labels_of(int64_t n) {
  Tensor labels = empty({n}, {int64, kHost});
  for (int64_t i = 0; i < n; ++i) labels.mutable_data<int64_t>()[i] = (i * 7 + 1) % 4;
  return labels;
}

Tensor inputs_of(const nn::Input& input, int64_t n) {
  const Shape shape = input.shape.with_first(n);
  if (input.dtype == float32) return host_sample(shape, 5);
  Tensor tokens = empty(shape, {int64, kHost});
  for (int64_t i = 0; i < tokens.elements(); ++i) tokens.mutable_data<int64_t>()[i] = (i * 5 + i / 7) % 11;
  return tokens;
}

void compile(nn::Model& model, const optim::Optimizer& optimizer = optim::Adam({.learning_rate = 1e-2})) {
  model.compile(
      {.optimizer = optimizer, .loss = losses::sparse_categorical_crossentropy, .metrics = {metrics::accuracy}});
}

}  // namespace

TEST_CASE("training steps from the same weights agree with the CPU's") {
  for (const auto& make : {convolutional, recurrent, attentive}) {
    nn::Model on_cpu = make();
    on_cpu.to(kHost);
    on_cpu.build(on_cpu.inputs(), 3);
    const Tensor x = inputs_of(on_cpu.input(), 10), y = labels_of(10);
    nn::Model elsewhere = on_cpu.clone();
    elsewhere.to(emulated_device());
    CHECK(elsewhere.device() == emulated_device());
    // Not Adam, whose first steps are the signs of gradients: where one is nearly 0, rounding would decide.
    for (nn::Model* model : {&on_cpu, &elsewhere}) compile(*model, optim::SGD({.learning_rate = 0.1, .momentum = 0.9}));
    const nn::FitOptions options{.epochs = 2, .batch_size = 4};
    const nn::History a = on_cpu.fit(x, y, options), b = elsewhere.fit(x, y, options);
    for (size_t epoch = 0; epoch < 2; ++epoch) {
      CHECK(b["loss"][epoch] == doctest::Approx(a["loss"][epoch]).epsilon(1e-4));
      CHECK(b["accuracy"][epoch] == doctest::Approx(a["accuracy"][epoch]));
    }
    for (size_t i = 0; i < on_cpu.parameters().size(); ++i) {
      CAPTURE(on_cpu.parameters()[i].name());
      CHECK(elsewhere.parameters()[i].value().device() == emulated_device());
      CHECK(close(elsewhere.parameters()[i].value(), on_cpu.parameters()[i].value(), {1e-4, 1e-5}));
    }
    CHECK(elsewhere.evaluate(x, y)["loss"] == doctest::Approx(on_cpu.evaluate(x, y)["loss"]).epsilon(1e-4));
    const Tensor prediction = elsewhere.predict(x);
    CHECK(prediction.device() == kHost);  // where x is
    CHECK(close(prediction, on_cpu.predict(x), kSums));
    CHECK(elsewhere.predict(x.to(emulated_device())).device() == emulated_device());
  }
}

TEST_CASE("the same seed gives the same bits again") {
  Tensors first;
  for (int run = 0; run < 2; ++run) {
    nn::Model model = convolutional();
    model.to(emulated_device());
    model.build(model.inputs(), 3);
    compile(model);
    model.fit(inputs_of(model.input(), 10), labels_of(10), {.epochs = 1, .batch_size = 5});
    Tensors values;
    for (const Parameter& p : model.parameters()) values.push_back(p.value());
    if (run == 0) first = values;
    for (size_t i = 0; i < values.size(); ++i) CHECK(same_bits(values[i], first[i]));
  }
}

TEST_CASE("a model that is not built yet is built where it was sent") {
  nn::Model model{nn::Dense(3)};
  model.to(emulated_device());
  model.build(nn::Input({4}));
  CHECK(model.device() == emulated_device());
  for (const Parameter& p : model.parameters()) CHECK(p.value().device() == emulated_device());
}

TEST_CASE("a model with layers that were built elsewhere is built where they are") {
  nn::Sequential pretrained{nn::Dense(3), nn::BatchNorm()};
  nn::Model first{pretrained};
  first.to(emulated_device());
  first.build(nn::Input({4}));
  nn::Model model{nn::Sequential{pretrained, nn::Dense(2)}};
  model.to(emulated_device());
  model.build(nn::Input({4}));
  for (const Parameter& p : model.parameters()) CHECK(p.value().device() == emulated_device());
  CHECK(model.predict(inputs_of(model.input(), 5)).shape() == Shape{5, 2});
}

TEST_CASE("a clone is where its model is") {
  nn::Model model = convolutional();
  model.to(emulated_device());
  const nn::Model clone = model.clone();
  CHECK(clone.device() == emulated_device());
  const Tensor x = inputs_of(model.input(), 3);
  CHECK(same_bits(clone.predict(x), model.predict(x)));
}

TEST_CASE("a model that cannot be moved stays whole") {
  nn::Model model = convolutional();
  model.to(emulated_device());
  CHECK(contains(error_text([&] { model.to({Device::Type::cuda_emulated, 3}); }), "there is no cuda-emulated"));
  CHECK(model.device() == emulated_device());
  for (const Parameter& p : model.parameters()) CHECK(p.value().device() == emulated_device());
}

TEST_CASE("a saved model is loaded onto the default device, whichever it was on") {
  const TempDir folder;
  const std::string path = folder.file("model.safetensors");
  nn::Model model = convolutional();
  model.to(kHost);
  const Tensor x = inputs_of(model.input(), 3), expected = model.predict(x);
  model.to(emulated_device());
  model.save(path);
  const Device before = default_device();
  for (const Device device : {kHost, emulated_device()}) {
    set_default_device(device);
    const nn::Model loaded = nn::Model::load(path);
    CHECK(loaded.device() == device);
    CHECK(close(loaded.predict(x), expected, kPointwise));
  }
  set_default_device(before);
}

TEST_CASE("a training that was stopped goes on to the bit, on a device too") {
  const TempDir folder;
  const auto train = [&](int64_t epochs, const std::string& checkpoints) {
    nn::Model model = convolutional();
    model.to(emulated_device());
    model.build(model.inputs(), 3);
    compile(model);
    model.fit(inputs_of(model.input(), 8), labels_of(8),
              {.epochs = epochs, .batch_size = 4, .checkpoint = {.folder = checkpoints}});
    return model.parameters().back().value();
  };
  const Tensor whole = train(2, folder.file("whole"));
  train(1, folder.file("parts"));
  CHECK(same_bits(train(2, folder.file("parts")), whole));
}

TEST_CASE("a compiled model stays where it is") {
  nn::Model model = convolutional();
  compile(model);
  CHECK(contains(error_text([&] { model.to(emulated_device()); }), "[to] the model is compiled: move it before"));
}
