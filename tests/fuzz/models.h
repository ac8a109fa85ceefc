// The models whose graphs are fuzzed: between them every kind of layer, and every kind of value that a graph may hold.
#pragma once

#include <vector>

#include "mica/mica.h"

namespace mica::fuzz {

inline std::vector<nn::Model> models() {
  const nn::Layer shared = nn::Dense(3, {.activation = tanh});
  return {
      nn::Sequential{nn::Input({3}), nn::Dense(2)},
      nn::Sequential{nn::Input({6, 6, 1}), nn::RandomFlip(), nn::RandomTranslation(1), nn::Rescaling(0.5, -1),
                     nn::Conv2D(2, {3, 2}, {.padding = Padding::same}), nn::MaxPool2D({2, 2}, {.strides = 1}),
                     nn::AveragePool2D({2, 2}), nn::Activation(gelu), nn::Flatten(), nn::Dropout(0.25),
                     nn::Dense(2, {.activation = softmax})},
      nn::Sequential{nn::Input({3}), shared, nn::Sequential{nn::Dense(3), shared}},
  };
}

}  // namespace mica::fuzz
