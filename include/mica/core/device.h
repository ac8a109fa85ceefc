// Device: where a tensor lives and its kernels run.
#pragma once

#include "mica/core/macros.h"

#include <cstdint>
#include <iosfwd>
#include <string>
#include <string_view>

namespace MICA_EXPORT mica {

/// The CPU, a CUDA GPU, or the emulation of CUDA threads on the CPU that the tests use.
struct Device {
  enum class Type : uint8_t { cpu, cuda, cuda_emulated };

  Type type = Type::cpu;
  int8_t index = 0;

  static constexpr Device cpu() { return {}; }
  /// Throws Error where this build has no CUDA or the machine no such GPU.
  static Device cuda(int index = 0);
  /// Throws Error unless the emulated kernels are linked in (the tests do).
  static Device cuda_emulated();
  /// "cpu", "cuda", "cuda:1", "cuda-emulated", as to_string writes them. Throws Error for others, and as the above.
  static Device named(std::string_view name);
  /// The number of CUDA GPUs that can be used: 0 without a GPU, a driver, or CUDA in this build.
  static int cuda_count();

  friend bool operator==(Device, Device) = default;
};

/// Where tensors are made, and models built, that are not told where: the CPU unless set_default_device says another.
Device default_device();
/// For all threads, from now on; tensors that there are stay where they are. Throws Error where the device cannot be
/// used.
void set_default_device(Device device);

std::string to_string(Device device);
std::ostream& operator<<(std::ostream& out, Device device);

void append_text(std::string& text, Device device);

}  // namespace mica
