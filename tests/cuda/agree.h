// CUDA's kernels against the CPU's, on the same tensors and called through the table.
#pragma once

#include <doctest/doctest.h>

#include <vector>

#define MICA_EMULATED
#include "cuda/core/launch.h"
#include "kernels/kernels.h"
#include "support/devices.h"
#include "support/tensors.h"

namespace mica::test {

/// x on `device`, first element `offset` elements after an aligned address; owns its memory.
class Operand {
 public:
  Operand(Device device, const Tensor& x, int64_t offset = 0)
      : all_(zeros({x.elements() + offset}, {x.dtype(), Device::cpu()})), offset_(offset), shape_(x.shape()) {
    const Tensor host = on_cpu(x);
    std::memcpy(static_cast<char*>(all_.mutable_raw()) + offset * step(), host.raw(), host.bytes());
    all_ = all_.to(device);
  }
  const void* in() const { return static_cast<const char*>(all_.raw()) + offset_ * step(); }
  void* out() { return static_cast<char*>(all_.mutable_raw()) + offset_ * step(); }
  Tensor read() const { return on_cpu(all_).slice(offset_, all_.elements()).reshape(shape_); }

 private:
  int64_t step() const { return static_cast<int64_t>(size_of(all_.dtype())); }
  Tensor all_;
  int64_t offset_;
  Shape shape_;
};

/// Whether compute(device), a vector of tensors, is on cuda_devices() what it is on the CPU, and in the emulation the
/// same bits under each schedule of its threads.
template <class Compute>
void check_agrees(Tolerance tolerance, const Compute& compute) {
  using namespace kernels::emulated;
  const std::vector<Tensor> expected = compute(Device::cpu());
  std::vector<Tensor> first;
  const auto check_on = [&](Device device) {
    CAPTURE(device);
    const std::vector<Tensor> actual = compute(device);
    REQUIRE(actual.size() == expected.size());
    for (size_t i = 0; i < actual.size(); ++i) {
      CAPTURE(i);
      CHECK(close(actual[i], expected[i], tolerance));
      if (!first.empty()) CHECK(same_bits(actual[i], first[i]));
    }
    if (first.empty()) first = actual;
  };
  const Schedule before = schedule();
  for (const Device device : cuda_devices()) {
    first.clear();
    for (const Schedule each : kSchedules) {
      set_schedule(each, 1);
      check_on(device);
      if (device != emulated_device()) break;
    }
  }
  set_schedule(before);
}

}  // namespace mica::test
