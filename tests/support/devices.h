// for_each_device: one test body, every device that there is.
#pragma once

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "mica/core/device.h"

namespace mica::kernels {
void register_emulated();  // cuda/table.h, in the library mica_emulated
}

namespace mica::test {

/// The emulation of CUDA threads, which the tests link in.
inline Device emulated_device() {
  kernels::register_emulated();
  return Device::cuda_emulated();
}

/// What kernels of CUDA can be tried on: the emulation, and the first GPU where there is one.
inline std::vector<Device> cuda_devices() {
  std::vector<Device> devices{emulated_device()};
  if (Device::cuda_count() > 0) devices.push_back(Device::cuda());
  return devices;
}

/// Whether tensors are made elsewhere than on the CPU (MICA_TEST_DEVICE).
inline bool elsewhere() { return default_device() != Device::cpu(); }

/// Whether they are made on the emulated one, where what is large takes minutes.
inline bool emulated() { return default_device().type == Device::Type::cuda_emulated; }

/// Not the default device; and what an op says of operands on the default device and on this one.
inline Device another_device() { return elsewhere() ? Device::cpu() : emulated_device(); }
inline std::string two_devices() {
  return "devices must match: " + to_string(default_device()) + " and " + to_string(another_device());
}

/// The numbers of threads that a test tries; elsewhere than on the CPU they change nothing, and one does.
inline std::vector<int> thread_counts(std::vector<int> counts) {
  if (elsewhere()) counts.resize(1);
  return counts;
}

/// Runs body(device) on the CPU and on cuda_devices(). Tensors are made on the CPU and moved, since a backend need not
/// have more kernels than the one under test.
template <class Body>
void for_each_device(const Body& body) {
  const auto run = [&](Device device) {
    CAPTURE(device);
    body(device);
  };
  run(Device::cpu());
  for (const Device device : cuda_devices()) run(device);
}

}  // namespace mica::test
