// for_each_device: one test body, every device that there is.
#pragma once

#include <doctest/doctest.h>

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

/// Runs body(device) on the CPU, on the emulation of CUDA threads, and on the first GPU where there is one. Tensors are
/// made on the CPU and moved, since a backend need not have more kernels than the one under test.
template <class Body>
void for_each_device(const Body& body) {
  const auto run = [&](Device device) {
    CAPTURE(device);
    body(device);
  };
  run(Device::cpu());
  run(emulated_device());
  if (Device::cuda_count() > 0) run(Device::cuda());
}

}  // namespace mica::test
