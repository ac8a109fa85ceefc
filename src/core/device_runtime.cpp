// The runtimes that made themselves known, the host's, and copies between any two memories.
#include "core/device_runtime.h"

#include <atomic>
#include <chrono>
#include <cstring>
#include <memory>
#include <new>

#include "core/device_memory.h"
#include "core/stream_state.h"
#include "kernels/kernels.h"
#include "mica/core/error.h"
#include "mica/core/stream.h"
#include "mica/core/tensor.h"

#if defined(MICA_HAS_CUDA)
namespace mica::kernels {
void register_cuda();
}
#endif

namespace mica::detail {

// ---- The host's ----

namespace {

constexpr std::align_val_t kAlignment{256};

struct HostEvent {
  std::chrono::steady_clock::time_point at = std::chrono::steady_clock::now();
};

}  // namespace

void* DeviceRuntime::allocate(int, size_t bytes) const { return ::operator new(bytes, kAlignment, std::nothrow); }

void DeviceRuntime::deallocate(int, void* block, size_t) const noexcept { ::operator delete(block, kAlignment); }

void DeviceRuntime::copy(int, void* to, const void* from, size_t bytes, CopyKind, void*) const {
  if (bytes > 0) std::memmove(to, from, bytes);
}

void* DeviceRuntime::create_stream(int) const {
  static std::atomic<uintptr_t> made{0};
  return reinterpret_cast<void*>(++made);  // a name, and nothing behind it
}

void* DeviceRuntime::create_event(int) const { return new HostEvent; }

void DeviceRuntime::destroy_event(int, void* event) const noexcept { delete static_cast<HostEvent*>(event); }

void DeviceRuntime::record_event(int, void* event, void*) const { *static_cast<HostEvent*>(event) = HostEvent(); }

double DeviceRuntime::elapsed_ms(int, void* start, void* end) const {
  const auto time = static_cast<HostEvent*>(end)->at - static_cast<HostEvent*>(start)->at;
  return std::chrono::duration<double, std::milli>(time).count();
}

// ---- All runtimes ----

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
  static const DeviceRuntime host;
  if (device.type == Device::Type::cpu) return host;
  const DeviceRuntime* runtime = find(device.type);
  check(runtime != nullptr, "device", device, " has no device memory: its runtime is not built or not linked in");
  return *runtime;
}

const DeviceRuntime* accelerator_runtime() {
  for (const Device::Type type : {Device::Type::cuda, Device::Type::cuda_emulated})
    if (const DeviceRuntime* runtime = find(type); runtime && runtime->count() > 0) return runtime;
  return nullptr;
}

int cuda_device_count() {
  const DeviceRuntime* runtime = find(Device::Type::cuda);
  return runtime ? runtime->count() : 0;
}

void check_usable(Device device) {
  kernels::table(device);
  current_state(device);  // says if there is no such device
  device_runtime(device).check_usable(device.index);
}

// ---- Copies ----

namespace {

// What is smaller goes through page-locked memory, and the caller goes on at once; what is larger is as fast without.
constexpr size_t kMostStaged = size_t{4} << 20;

void check_not_captured(const StreamState& stream) {
  check(!stream.runtime->capturing(stream.device.index, stream.handle), "copy",
        "a copy from or to ordinary host memory cannot be captured: make the tensor with empty_pinned");
}

void copy_to_device(const StreamState& stream, void* to, const void* from, size_t bytes, bool pinned) {
  const int device = stream.device.index;
  const auto copy_from = [&](const void* source) {
    stream.runtime->copy(device, to, source, bytes, CopyKind::to_device, stream.handle);
  };
  if (pinned) return copy_from(from);
  check_not_captured(stream);
  if (bytes <= kMostStaged) {
    const PinnedBlock staging(bytes, stream);
    std::memcpy(staging.data(), from, bytes);
    copy_from(staging.data());
  } else {
    copy_from(from);
    stream.runtime->synchronize(device, stream.handle);
  }
}

// The source's stream copies, when the target's stream has done what it had to do with that memory; and what is put
// into the target's stream from now on comes after the copy.
void copy_to_peer(Device to_device, void* to, Device from_device, const void* from, size_t bytes) {
  const StreamState& source = current_state(from_device);
  const Stream source_stream = current_stream(from_device), target_stream = current_stream(to_device);
  Event free, copied;
  free.record(target_stream);
  source_stream.wait(free);
  source.runtime->prepare_peers(from_device.index, to_device.index);
  source.runtime->copy(from_device.index, to, from, bytes, CopyKind::on_device, source.handle);
  copied.record(source_stream);
  target_stream.wait(copied);
}

}  // namespace

void copy_between(Device to_device, void* to, Device from_device, const void* from, size_t bytes, bool pinned) {
  if (bytes == 0) return;
  const bool to_host = to_device.type == Device::Type::cpu, from_host = from_device.type == Device::Type::cpu;
  if (to_host && from_host) {
    std::memcpy(to, from, bytes);
  } else if (to_host) {
    const StreamState& stream = current_state(from_device);
    if (!pinned) check_not_captured(stream);
    stream.runtime->copy(from_device.index, to, from, bytes, CopyKind::to_host, stream.handle);
    if (!pinned) stream.runtime->synchronize(from_device.index, stream.handle);
  } else if (from_host) {
    copy_to_device(current_state(to_device), to, from, bytes, pinned);
  } else if (to_device == from_device) {
    const StreamState& stream = current_state(to_device);
    Tensor apart;
    const auto a = reinterpret_cast<uintptr_t>(to), b = reinterpret_cast<uintptr_t>(from);
    if (a < b + bytes && b < a + bytes) {  // a device cannot copy memory over itself
      apart = empty({static_cast<int64_t>(bytes)}, {uint8, to_device});
      copy_between(to_device, apart.mutable_raw(), to_device, from, bytes);
      from = apart.raw();
    }
    stream.runtime->copy(to_device.index, to, from, bytes, CopyKind::on_device, stream.handle);
  } else if (to_device.type == from_device.type) {
    copy_to_peer(to_device, to, from_device, from, bytes);
  } else {
    const auto staging = std::make_unique_for_overwrite<char[]>(bytes);
    copy_between(Device::cpu(), staging.get(), from_device, from, bytes);
    copy_between(to_device, to, Device::cpu(), staging.get(), bytes);
  }
}

}  // namespace mica::detail
