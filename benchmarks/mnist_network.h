// The network that the MNIST benchmarks measure: that of the README.
#pragma once

#include <mica/mica.h>

namespace mica::bench {

inline nn::Sequential mnist_network() {
  return nn::Sequential{
      nn::Input({28, 28, 1}),
      nn::Conv2D(32, {3, 3}, {.activation = relu}),
      nn::MaxPool2D({2, 2}),
      nn::Conv2D(64, {3, 3}, {.activation = relu}),
      nn::MaxPool2D({2, 2}),
      nn::Flatten(),
      nn::Dense(128, {.activation = relu}),
      nn::Dense(10, {.activation = softmax}),
  };
}

}  // namespace mica::bench
