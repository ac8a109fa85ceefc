// Devices: their names, and where tensors and models are made.
#include <doctest/doctest.h>

#include "mica/core/tensor.h"
#include "support/devices.h"
#include "support/error_text.h"
#include "support/tensors.h"

using namespace mica;
using namespace mica::test;

TEST_CASE("a device is named as it is printed") {
  CHECK(Device::named("cpu") == Device::cpu());
  CHECK(Device::named("cuda-emulated") == emulated_device());
  for (const Device device : {Device::cpu(), emulated_device()}) CHECK(Device::named(to_string(device)) == device);
  if (Device::cuda_count() > 0) {
    CHECK(Device::named("cuda") == Device::cuda());
    CHECK(Device::named(to_string(Device::cuda())) == Device::cuda());
  }
}

TEST_CASE("a name that is none is refused") {
  for (const char* name : {"", "gpu", "CPU", "cuda:", "cuda:x", "cuda:1x", "cuda:-1", "cuda:99999999999", "cuda 0"}) {
    CAPTURE(name);
    CHECK(error_text([&] { Device::named(name); }) ==
          std::string("[device] there is no device \"") + name + "\": the names are cpu, cuda and cuda:<number>");
  }
}

TEST_CASE("a GPU that this machine does not have is refused") {
  const std::string text = error_text([] { Device::cuda(Device::cuda_count()); });
  CHECK(contains(text, "[device] "));
  CHECK(text != "no error");
  CHECK(!text.ends_with(": "));  // it says why there is none
  CHECK(!contains(text, "no error"));
}

TEST_CASE("the default device is where tensors are made that are not told where") {
  struct Restore {
    Device before = default_device();
    ~Restore() { set_default_device(before); }
  } restore;
  for_each_device([](Device device) {
    set_default_device(device);
    CHECK(default_device() == device);
    for (const Tensor& x : {empty({2}), zeros({2}), ones({2}), full({2}, 3), arange(0, 2), linspace(0, 1, 2), eye(2),
                            tri(2), tensor({1, 2}), tensor({{1, 2}, {3, 4}}), tensor(std::vector<float>{1, 2}, {2}),
                            random_uniform({2}, 0, 1, {1, 0}), random_bernoulli({2}, 0.5, {1, 0})})
      CHECK(x.device() == device);
    CHECK(random_permutation(3, {1, 0}).device() == Device::cpu());
    CHECK(empty({2}, {float32, Device::cpu()}).device() == Device::cpu());
    CHECK(close(tensor({1, 2, 3}), std::vector<double>{1, 2, 3}));
  });
}

TEST_CASE("a tensor that there is stays where it is") {
  const Device before = default_device();
  const Tensor x = ones({2}, {float32, Device::cpu()});
  set_default_device(emulated_device());
  CHECK(x.device() == Device::cpu());
  CHECK(empty_like(x).device() == Device::cpu());
  CHECK(x.clone().device() == Device::cpu());
  set_default_device(before);
}

TEST_CASE("single elements are read from any device") {
  for_each_device([](Device device) {
    const Tensor x = tensor(std::vector<float>{1, 2, 3, 4, 5, 6}, {2, 3}).to(device);
    CHECK(x.at({1, -1}) == 6);
    CHECK(x.at({0, 1}) == 2);
    CHECK(x.slice(1, 2).at({0, 0}) == 4);
    CHECK(tensor(std::vector<int64_t>{7}, {1}).to(device).item() == 7);
  });
}
