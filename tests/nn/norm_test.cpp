// BatchNorm and LayerNorm.
#include "mica/nn/norm.h"

#include <doctest/doctest.h>

#include "mica/autograd/tape.h"
#include "mica/nn/sequential.h"
#include "mica/ops/reduce.h"
#include "mica/optim/adam.h"
#include "nn/helpers.h"
#include "support/error_text.h"
#include "support/temp_dir.h"

using namespace mica;
using namespace mica::test;

TEST_CASE("batch norm: trains by the batch's statistics, and keeps running ones by its momentum") {
  nn::BatchNorm layer({.momentum = 0.75});
  nn::build(layer, {2});
  CHECK(floats(layer.moving_mean()) == std::vector<float>{0, 0});
  CHECK(floats(layer.moving_variance()) == std::vector<float>{1, 1});
  const Tensor x = tensor({{1, 10}, {3, 30}});
  {
    Tape tape;
    const Tensor y = layer(x);
    CHECK(close(y, batch_norm(x, ones({2}), zeros({2})).y, kExact));
  }
  CHECK(floats(layer.moving_mean()) == std::vector<float>{0.5, 5});
  CHECK(floats(layer.moving_variance()) == std::vector<float>{1, 25.75});
  // Inference goes by those, and changes nothing.
  CHECK(close(layer(x), batch_norm_inference(x, tensor({0.5, 5}), tensor({1, 25.75}), ones({2}), zeros({2})),
              kPointwise));
  CHECK(floats(layer.moving_mean()) == std::vector<float>{0.5, 5});
}

TEST_CASE("batch norm: frozen, it goes by the running statistics and leaves them") {
  nn::BatchNorm layer;
  nn::build(layer, {2});
  for (const Parameter& p : nn::parameters(layer)) p.set_trainable(false);
  const Tensor x = sample({5, 2}, float32);
  const Tensor inferred = layer(x);
  Tape tape;
  CHECK(same_bits(layer(x), inferred));
  CHECK(floats(layer.moving_mean()) == std::vector<float>{0, 0});
}

TEST_CASE("batch norm: no examples teach it nothing") {
  nn::BatchNorm layer;
  nn::build(layer, {3, 2});
  Tape tape;
  CHECK(layer(zeros({0, 3, 2})).shape() == Shape{0, 3, 2});
  CHECK(floats(layer.moving_mean()) == std::vector<float>{0, 0});
}

TEST_CASE("batch norm: without center and scale it has no parameters, but still its statistics") {
  nn::BatchNorm layer({.center = false, .scale = false});
  nn::build(layer, {2});
  CHECK(nn::parameters(layer).empty());
  CHECK(layer.moving_mean().shape() == Shape{2});
}

TEST_CASE("batch norm: a model that is saved and loaded predicts the same, by the same statistics") {
  const Task task = spiral(200, 3);
  nn::Sequential model{nn::Input({2}),       nn::Dense(16),   nn::BatchNorm(),
                       nn::Activation(relu), nn::LayerNorm(), nn::Dense(3)};
  model.compile({.optimizer = optim::Adam(), .loss = losses::SparseCategoricalCrossentropy{.from_logits = true}});
  model.fit(task.x, task.y, {.epochs = 3, .batch_size = 32});
  const TempDir dir;
  model.save(dir.file("norm.safetensors"));
  const nn::Model loaded = nn::Model::load(dir.file("norm.safetensors"));
  CHECK(same_bits(loaded.predict(task.x), model.predict(task.x)));
  CHECK(same_bits(model.clone().predict(task.x), model.predict(task.x)));
}

TEST_CASE("layer norm: each row by itself, in training as in inference") {
  nn::LayerNorm layer;
  nn::build(layer, {4});
  const Tensor x = sample({3, 4}, float32), y = layer(x);
  CHECK(close(mean(y, 1), {0, 0, 0}, {0, 1e-6}));
  Tape tape;
  CHECK(same_bits(layer(x), y));
  CHECK(nn::parameters(layer).size() == 2);
}

TEST_CASE("normalizing layers: wrong use") {
  CHECK(error_text([] { nn::BatchNorm({.momentum = 1.5}); }) == "[batch_norm] the momentum must be in [0, 1], got 1.5");
  CHECK(error_text([] { nn::BatchNorm({.epsilon = -1}); }) ==
        "[batch_norm] epsilon must be finite and not negative, got -1");
  CHECK(error_text([] { nn::LayerNorm({.epsilon = -1}); }) ==
        "[layer_norm] epsilon must be finite and not negative, got -1");
  nn::BatchNorm layer;
  CHECK(error_text([&] { layer(zeros({2})); }) == "[batch_norm] the input must be [N, ..., C], got [2]");
  nn::build(layer, {2});
  CHECK(error_text([&] { layer(zeros({2, 3})); }) == "[layer] gamma has shape [2], but this input needs [3]");
}
