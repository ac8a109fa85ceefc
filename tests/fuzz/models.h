// The models whose graphs are fuzzed: between them every kind of value that a graph may hold. And a training whose
// checkpoints are.
#pragma once

#include <string>
#include <vector>

#include "mica/mica.h"

namespace mica::fuzz {

inline std::vector<nn::Model> models() {
  const nn::Layer shared = nn::Dense(3, {.activation = tanh});
  const nn::Symbol a = nn::Input({3}), b = nn::Input({3}, float32, "b"), c = shared(a);
  const nn::Symbol c1 = nn::Input({2, 2}), c2 = nn::Input({1, 2}, float32, "context");
  return {
      nn::Sequential{nn::Input({3}), nn::Dense(2)},
      nn::Sequential{nn::Input({6, 6, 1}), nn::RandomFlip(), nn::RandomTranslation(1), nn::Rescaling(0.5, -1),
                     nn::Conv2D(2, {3, 2}, {.padding = Padding::same}), nn::MaxPool2D({2, 2}, {.strides = 1}),
                     nn::AveragePool2D({2, 2}), nn::Activation(gelu), nn::Flatten(), nn::Dropout(0.25),
                     nn::Dense(2, {.activation = softmax})},
      nn::Sequential{nn::Input({3}), shared, nn::Sequential{nn::Dense(3), shared}},
      nn::Sequential{nn::Input({2}, int64), nn::Embedding(3, 2, {.mask_zero = true}),
                     nn::Bidirectional(nn::LSTM(2, {.return_sequences = true})), nn::TimeDistributed(nn::Dense(2)),
                     nn::GRU(2, {.stateful = true, .recurrent_dropout = 0.5})},
      nn::Sequential{nn::Input({2}, int64), nn::Embedding(3, 4), nn::PositionEmbedding(2),
                     nn::SinusoidalPositionEncoding(),
                     nn::TransformerEncoderLayer(2, 3, {.norm_first = true, .dropout = 0.5, .rotary = true})},
      nn::Functional({c1, c2}, nn::TransformerDecoderLayer(1, 2)({c1, nn::MultiHeadCrossAttention(1)({c2, c1})})),
      nn::Functional({a, b}, nn::BatchNorm()(nn::Concatenate()({c, nn::Add()({shared(b), c})}))),
  };
}

/// Trains, or goes on from the checkpoint in `folder`.
inline void train(const std::string& folder, int64_t epochs) {
  nn::Sequential model{nn::Input({2}), nn::Dense(2), nn::BatchNorm(), nn::Dropout(0.5),
                       nn::Dense(1, {.activation = sigmoid})};
  model.compile({.optimizer = optim::Adam({.learning_rate = optim::cosine_decay(0.1, 10)}),
                 .loss = losses::binary_crossentropy,
                 .metrics = {metrics::auc, metrics::f1}});
  model.fit(ones({6, 2}), tensor({{0}, {1}, {0}, {1}, {0}, {1}}),
            {.epochs = epochs,
             .batch_size = 2,
             .callbacks = {callbacks::EarlyStopping({.monitor = "loss"})},
             .checkpoint = {.folder = folder, .batches = 1}});
}

}  // namespace mica::fuzz
