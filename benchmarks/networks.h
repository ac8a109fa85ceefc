// The networks whose training is measured, each with a batch to train on.
#pragma once

#include <mica/mica.h>

#include <string>

namespace mica::bench {

/// A model, a batch, and what one step of training on it takes.
struct Training {
  nn::Sequential model;
  Tensor x, y;
  losses::Loss loss;
  const char* unit;  // of what is counted: images, tokens or rows
  double units;      // in a batch
  double flops;      // of the products of one unit, forward and both gradients, each multiply-add two

  /// Returns the loss before the update.
  Tensor step(optim::Optimizer& optimizer) const {
    Tape tape;
    const Tensor value = loss(model(x), y);
    tape.backward(value);
    optimizer.step();
    optimizer.zero_grad();
    return value;
  }
};

inline Tensor random_tokens(const Shape& shape, int64_t count, uint64_t stream) {
  return random_uniform(shape, 0, static_cast<double>(count), {stream, 0}).to(int64);
}

/// Of the MNIST network's products for one image, forward: each multiply-add two.
constexpr double kMnistForward = 2.0 * (26 * 26 * 9 * 32 + 11 * 11 * 288 * 64 + 1600 * 128 + 128 * 10);

/// That of the README.
inline Training mnist(int64_t n = 128) {
  return {.model = nn::Sequential{nn::Input({28, 28, 1}), nn::Conv2D(32, {3, 3}, {.activation = relu}),
                                  nn::MaxPool2D({2, 2}), nn::Conv2D(64, {3, 3}, {.activation = relu}),
                                  nn::MaxPool2D({2, 2}), nn::Flatten(), nn::Dense(128, {.activation = relu}),
                                  nn::Dense(10, {.activation = softmax})},
          .x = random_uniform({n, 28, 28, 1}, 0, 1, {1, 0}),
          .y = one_hot(random_tokens({n}, 10, 2), 10),
          .loss = losses::categorical_crossentropy,
          .unit = "images",
          .units = static_cast<double>(n),
          // The images need no gradient.
          .flops = 3 * kMnistForward - 2.0 * 26 * 26 * 9 * 32};
}

/// Which character comes next, at each of 64 places of 32 texts: `layer` has 256 units and `gates` kernels.
inline Training characters(nn::Layer layer, int gates) {
  return {.model = nn::Sequential{nn::Input({64}, int64), nn::Embedding(96, 128), std::move(layer),
                                  nn::Dense(96, {.activation = softmax})},
          .x = random_tokens({32, 64}, 96, 1),
          .y = random_tokens({32, 64}, 96, 2),
          .loss = losses::sparse_categorical_crossentropy,
          .unit = "tokens",
          .units = 32 * 64,
          .flops = 3 * 2.0 * (gates * (128 + 256) * 256 + 256 * 96)};
}
inline Training char_lstm() { return characters(nn::LSTM(256, {.return_sequences = true}), 4); }
inline Training char_rnn() { return characters(nn::RNN(256, {.return_sequences = true}), 1); }

/// What a text is about: two pre-norm blocks over 128 tokens.
inline Training attention_classifier() {
  const nn::TransformerOptions pre_norm{.norm_first = true};
  return {.model = nn::Sequential{nn::Input({128}, int64), nn::Embedding(5000, 128), nn::PositionEmbedding(128),
                                  nn::TransformerEncoderLayer(4, 512, pre_norm),
                                  nn::TransformerEncoderLayer(4, 512, pre_norm), nn::LayerNorm(),
                                  nn::GlobalAveragePool1D(), nn::Dense(4, {.activation = softmax})},
          .x = random_tokens({32, 128}, 5000, 1),
          .y = random_tokens({32}, 4, 2),
          .loss = losses::sparse_categorical_crossentropy,
          .unit = "tokens",
          .units = 32 * 128,
          .flops = 3 * 2.0 * 2 * (128 * 4 * 128 + 2 * 128 * 512 + 2 * 128 * 128)};
}

/// Yes or no, of 64 features: layers so small that what goes on around the products tells.
inline Training mlp() {
  return {.model = nn::Sequential{nn::Input({64}), nn::Dense(256, {.activation = relu}),
                                  nn::Dense(256, {.activation = relu}), nn::Dense(1, {.activation = sigmoid})},
          .x = random_uniform({256, 64}, -1, 1, {1, 0}),
          .y = random_bernoulli({256, 1}, 0.5, {2, 0}),
          .loss = losses::binary_crossentropy,
          .unit = "rows",
          .units = 256,
          // The rows need no gradient.
          .flops = 3 * 2.0 * (64 * 256 + 256 * 256 + 256) - 2.0 * 64 * 256};
}

/// Throws Error for another name.
inline Training training(const std::string& network) {
  if (network == "mnist") return mnist();
  if (network == "char_lstm") return char_lstm();
  if (network == "char_rnn") return char_rnn();
  if (network == "attention") return attention_classifier();
  if (network == "mlp") return mlp();
  fail("benchmark", "there is no network \"", network, "\"");
}

}  // namespace mica::bench
