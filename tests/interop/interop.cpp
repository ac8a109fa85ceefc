// Mica's half of interop.py, which runs it:
//   mica_interop write FOLDER       writes model.safetensors, images.npy, predictions.npy and arrays.npz
//   mica_interop read FOLDER NAME   gives the model the weights of NAME.safetensors, and prints by how much what it
//                                   predicts for images.npy differs from NAME.npy
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "mica/mica.h"

using namespace mica;

namespace {

nn::Sequential model() {
  return nn::Sequential{nn::Input({12, 10, 3}),
                        nn::Conv2D(4, {3, 3}, {.activation = relu}),
                        nn::MaxPool2D({2, 2}),
                        nn::Conv2D(6, {3, 2}, {.activation = tanh}),
                        nn::Flatten(),
                        nn::Dense(7, {.activation = relu}),
                        nn::Dense(5, {.activation = softmax})};
}

void write(const std::string& folder) {
  const nn::Sequential m = model();
  const Tensor images = random_uniform({8, 12, 10, 3}, -1, 1, {.stream = 1});
  m.save(folder + "/model.safetensors");
  io::save_npy(folder + "/images.npy", images);
  io::save_npy(folder + "/predictions.npy", m.predict(images));
  const io::NamedTensors arrays = {{"images", images}, {"a/b", arange(0, 5, 1, {.dtype = int64})}, {"é", Tensor(0.5)}};
  io::save_npz(folder + "/arrays.npz", arrays, {.compress = true});
}

double difference(const std::string& folder, const std::string& name) {
  nn::Sequential m = model();
  m.load_weights(folder + "/" + name + ".safetensors");
  const Tensor y = m.predict(io::load_npy(folder + "/images.npy")),
               expected = io::load_npy(folder + "/" + name + ".npy");
  check(y.shape() == expected.shape(), "interop", "the shapes differ: ", y.shape(), " and ", expected.shape());
  double most = 0;
  for (size_t i = 0; i < static_cast<size_t>(y.elements()); ++i)
    most = std::max(most, std::abs(static_cast<double>(y.values<float>()[i]) - expected.values<float>()[i]));
  return most;
}

}  // namespace

int main(int count, char** arguments) {
  try {
    if (count == 3 && std::strcmp(arguments[1], "write") == 0) return write(arguments[2]), 0;
    if (count == 4 && std::strcmp(arguments[1], "read") == 0)
      return std::printf("%.3g\n", difference(arguments[2], arguments[3])), 0;
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  std::fputs("mica_interop write FOLDER | read FOLDER NAME\n", stderr);
  return 2;
}
