// Devices by name.
#include "mica/core/device.h"

#include <atomic>
#include <bit>
#include <charconv>
#include <ostream>

#include "core/stream_state.h"
#include "kernels/kernels.h"
#include "mica/core/error.h"

namespace MICA_EXPORT mica {

Device Device::cuda(int index) {
  kernels::table({Type::cuda, 0});  // says "not built" where it is not
  const int count = cuda_count();
  const detail::DeviceRuntime& runtime = detail::device_runtime({Type::cuda, 0});
  if (count == 0) fail("device", "no CUDA GPU can be used on this machine: ", runtime.why_none());
  check(index >= 0 && index < count, "device", "cuda:", index, " does not exist: this machine has ", count,
        " CUDA GPUs");
  runtime.check_usable(index);
  return {Type::cuda, static_cast<int8_t>(index)};
}

Device Device::cuda_emulated() {
  kernels::table({Type::cuda_emulated, 0});
  return {Type::cuda_emulated, 0};
}

Device Device::named(std::string_view name) {
  if (name == "cpu") return cpu();
  if (name == "cuda-emulated") return cuda_emulated();
  if (name == "cuda") return cuda();
  constexpr std::string_view kNumbered = "cuda:";
  int index = -1;
  if (name.starts_with(kNumbered) && name.size() > kNumbered.size()) {
    const char* const end = name.data() + name.size();
    const auto [rest, error] = std::from_chars(name.data() + kNumbered.size(), end, index);
    if (error != std::errc() || rest != end) index = -1;
  }
  check(index >= 0, "device", "there is no device \"", name, "\": the names are cpu, cuda and cuda:<number>");
  return cuda(index);
}

int Device::cuda_count() { return detail::cuda_device_count(); }

namespace {
// As a number: clang calls libatomic for an atomic of two bytes that need no alignment.
static_assert(sizeof(Device) == sizeof(uint16_t));
std::atomic<uint16_t> made_on{std::bit_cast<uint16_t>(Device::cpu())};
}  // namespace

Device default_device() { return std::bit_cast<Device>(made_on.load(std::memory_order_relaxed)); }

void set_default_device(Device device) {
  detail::check_usable(device);
  made_on.store(std::bit_cast<uint16_t>(device), std::memory_order_relaxed);
}

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
