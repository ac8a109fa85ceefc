// A person's program: fits y = 2 x - 1, saves the model and an array, and loads them again.
#include <mica/mica.h>

#include <cstdio>
#include <string>

using namespace mica;

int main(int, char** argv) {
  Tensor x = random_uniform({64, 1}, -1, 1, {.stream = 7});
  Tensor y = 2 * x - 1;
  nn::Sequential model{nn::Input({1}), nn::Dense(1)};

  optim::SGD optimizer(model.parameters(), {.learning_rate = 0.1});
  double first = 0, last = 0;
  for (int step = 0; step < 100; ++step) {
    Tape tape;
    Tensor loss = losses::mean_squared_error(model(x), y);
    last = loss.item();
    if (step == 0) first = last;
    tape.backward(loss);
    optimizer.step();
    optimizer.zero_grad();
  }
  std::printf("loss %.6f, then %.6f\n", first, last);
  if (!(first > 0) || !(last < 0.01 * first)) return 1;

  const std::string file = std::string(argv[0]) + ".safetensors";
  model.save(file);
  nn::Model loaded = nn::Model::load(file);
  std::remove(file.c_str());
  if (loaded.predict(x).at({3, 0}) != model.predict(x).at({3, 0})) return 2;

  const std::string arrays = std::string(argv[0]) + ".npz";
  try {
    io::save_npz(arrays, {{"x", x}}, {.compress = true});
    const double back = io::load_npz(arrays)[0].second.at({3, 0});
    std::remove(arrays.c_str());
    if (back != x.at({3, 0})) return 4;
  } catch (const FileError&) {
    return 5;
  } catch (const Error& error) {  // without libzip
    std::puts(error.what());
  }

  try {  // an error of the library is caught across its boundary
    matmul(x, x);
  } catch (const Error& error) {
    std::puts(error.what());
    return 0;
  }
  return 3;
}
