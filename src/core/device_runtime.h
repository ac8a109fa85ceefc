// The seam to the memory of devices other than the CPU: a few functions a kind of device registers.
#pragma once

#include <cstddef>
#include <cstdint>

#include "mica/core/device.h"
#include "mica/core/macros.h"

namespace mica::detail {

/// Which way a copy goes, as the device sees it.
enum class CopyKind : uint8_t { to_device, to_host, on_device };

/// What storage needs of a kind of device. `device` is the index, `stream` a stream of that device (null: the default
/// one). Everything but count and deallocate throws Error where the device reports one.
struct DeviceRuntime {
  /// How many devices can be used now: 0 without hardware or driver. Never throws.
  int (*count)();
  /// Makes `device` the one that this thread's launches and default stream mean.
  void (*select)(int device);
  /// Uninitialised memory, aligned to 64 bytes at least; throws std::bad_alloc where there is no more.
  void* (*allocate)(int device, size_t bytes);
  void (*deallocate)(int device, void* block, size_t bytes) noexcept;
  /// In the order of the stream. When it returns, host memory may be read or reused.
  void (*copy)(int device, void* to, const void* from, size_t bytes, CopyKind kind, void* stream);
  /// Waits for the stream, and throws what went wrong on it.
  void (*synchronize)(int device, void* stream);
};

/// Makes `runtime`, which must live for ever, known as that of `type`.
MICA_EXPORT void register_runtime(Device::Type type, const DeviceRuntime& runtime);

/// The runtime of `device`. Throws Error for the CPU, and where none is built or linked in.
const DeviceRuntime& device_runtime(Device device);

/// The number of CUDA GPUs that can be used.
int cuda_device_count();

/// Copies `bytes` between two memories, of any devices.
void copy_between(Device to_device, void* to, Device from_device, const void* from, size_t bytes);

}  // namespace mica::detail
