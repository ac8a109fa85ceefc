// Devices by name.
#include "mica/core/device.h"

#include <ostream>

#include "core/device_runtime.h"
#include "kernels/kernels.h"
#include "mica/core/error.h"

namespace MICA_EXPORT mica {

Device Device::cuda(int index) {
  kernels::table({Type::cuda, 0});  // says "not built" where it is not
  const int count = cuda_count();
  check(count > 0, "device", "no CUDA GPU can be used on this machine (no GPU, or no driver)");
  check(index >= 0 && index < count, "device", "cuda:", index, " does not exist: this machine has ", count,
        " CUDA GPUs");
  return {Type::cuda, static_cast<int8_t>(index)};
}

Device Device::cuda_emulated() {
  kernels::table({Type::cuda_emulated, 0});
  return {Type::cuda_emulated, 0};
}

int Device::cuda_count() { return detail::cuda_device_count(); }

std::string to_string(Device device) {
  switch (device.type) {
    case Device::Type::cpu: return "cpu";
    case Device::Type::cuda: return "cuda:" + std::to_string(device.index);
    case Device::Type::cuda_emulated: return "cuda-emulated";
  }
  return "?";
}

std::ostream& operator<<(std::ostream& out, Device device) { return out << to_string(device); }

void append_text(std::string& text, Device device) { append_text(text, to_string(device)); }

}  // namespace mica
