// The runtimes that made themselves known, and copies between any two memories.
#include "core/device_runtime.h"

#include <atomic>
#include <cstring>
#include <memory>

#include "mica/core/error.h"

#if defined(MICA_HAS_CUDA)
namespace mica::kernels {
void register_cuda();
}
#endif

namespace mica::detail {

namespace {

std::atomic<const DeviceRuntime*> registered[3];

const DeviceRuntime* find(Device::Type type) {
#if defined(MICA_HAS_CUDA)
  static const bool once = (kernels::register_cuda(), true);
  (void)once;
#endif
  return registered[static_cast<int>(type)].load(std::memory_order_acquire);
}

}  // namespace

void register_runtime(Device::Type type, const DeviceRuntime& runtime) {
  registered[static_cast<int>(type)].store(&runtime, std::memory_order_release);
}

const DeviceRuntime& device_runtime(Device device) {
  const DeviceRuntime* runtime = find(device.type);
  check(runtime != nullptr, "device", device, " has no device memory: its runtime is not built or not linked in");
  return *runtime;
}

int cuda_device_count() {
  const DeviceRuntime* runtime = find(Device::Type::cuda);
  return runtime ? runtime->count() : 0;
}

void copy_between(Device to_device, void* to, Device from_device, const void* from, size_t bytes) {
  if (bytes == 0) return;
  const bool to_host = to_device.type == Device::Type::cpu, from_host = from_device.type == Device::Type::cpu;
  if (to_host && from_host) {
    std::memcpy(to, from, bytes);
  } else if (to_host) {
    device_runtime(from_device).copy(from_device.index, to, from, bytes, CopyKind::to_host, nullptr);
  } else if (from_host) {
    device_runtime(to_device).copy(to_device.index, to, from, bytes, CopyKind::to_device, nullptr);
  } else if (to_device.type == from_device.type) {
    // The source's device runs the copy, so that it comes after what writes the source.
    device_runtime(from_device).copy(from_device.index, to, from, bytes, CopyKind::on_device, nullptr);
    if (to_device != from_device) device_runtime(from_device).synchronize(from_device.index, nullptr);
  } else {
    const auto staging = std::make_unique_for_overwrite<char[]>(bytes);
    copy_between(Device::cpu(), staging.get(), from_device, from, bytes);
    copy_between(to_device, to, Device::cpu(), staging.get(), bytes);
  }
}

}  // namespace mica::detail
