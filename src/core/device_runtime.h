// The seam to a kind of device: its memory, copies, streams and events.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "mica/core/device.h"
#include "mica/core/macros.h"

namespace mica::detail {

/// Which way a copy goes, as the device sees it.
enum class CopyKind : uint8_t { to_device, to_host, on_device };

/// What Mica needs of a kind of device. `device` is the index, a null `stream` the device's default one. Unless
/// noexcept, a function throws Error where the device reports one. What is defined here is the host's: memory is the
/// host's, and work is done when it has been put in.
///
/// A runtime is a static object without a destructor, as tensors of static storage end late.
class DeviceRuntime {
 public:
  /// How many devices can be used now: 0 without hardware or driver.
  virtual int count() const noexcept { return 1; }
  /// Why there are none, for an error.
  virtual std::string why_none() const { return {}; }
  /// Throws Error where this build cannot compute on the device.
  virtual void check_usable(int /*device*/) const {}
  /// Makes `device` the one that this thread's launches mean.
  virtual void select(int /*device*/) const {}

  /// Uninitialised memory, aligned to 256 bytes; null where there is no more.
  virtual void* allocate(int device, size_t bytes) const;
  virtual void deallocate(int device, void* block, size_t bytes) const noexcept;
  /// Host memory that devices reach by themselves (page-locked), likewise.
  virtual void* allocate_host(size_t bytes) const { return DeviceRuntime::allocate(0, bytes); }
  virtual void deallocate_host(void* block) const noexcept { DeviceRuntime::deallocate(0, block, 0); }
  /// Told of memory that is about to be handed out for `bytes`, and given back, by Mica's allocator: where mistakes are
  /// looked for, it is filled with what is not a number.
  virtual void hand_out(int /*device*/, void* /*block*/, size_t /*bytes*/, void* /*stream*/) const {}
  virtual void take_back(int /*device*/, void* /*block*/) const noexcept {}

  /// Puts a copy into the stream. Neither memory may change before it has been done. on_device: also from a peer's.
  virtual void copy(int device, void* to, const void* from, size_t bytes, CopyKind kind, void* stream) const;

  /// Before the first copy between two devices.
  virtual void prepare_peers(int /*from*/, int /*to*/) const {}

  virtual void* create_stream(int device) const;
  /// Waits for the stream, and throws what went wrong on it.
  virtual void synchronize(int /*device*/, void* /*stream*/) const {}
  virtual void synchronize_device(int /*device*/) const {}
  virtual bool stream_done(int /*device*/, void* /*stream*/) const { return true; }
  /// Whether what is put into the stream is recorded for later, and not done.
  virtual bool capturing(int /*device*/, void* /*stream*/) const { return false; }

  virtual void* create_event(int device) const;
  virtual void destroy_event(int device, void* event) const noexcept;
  virtual void record_event(int device, void* event, void* stream) const;
  virtual bool event_done(int /*device*/, void* /*event*/) const { return true; }
  virtual void wait_event(int /*device*/, void* /*event*/) const {}
  virtual void stream_wait(int /*device*/, void* /*stream*/, void* /*event*/) const {}
  virtual double elapsed_ms(int device, void* start, void* end) const;
};

/// Makes `runtime`, which must live for ever, known as that of `type`.
MICA_EXPORT void register_runtime(Device::Type type, const DeviceRuntime& runtime);

/// The runtime of `device`; the CPU's is the host's. Throws Error where none is built or linked in.
const DeviceRuntime& device_runtime(Device device);

/// Throws Error unless tensors can be made and kernels run on `device`.
void check_usable(Device device);

/// The runtime of the devices that can be used here other than the CPU, CUDA's before the emulation's; null where there
/// are none.
const DeviceRuntime* accelerator_runtime();

/// The number of CUDA GPUs that can be used.
int cuda_device_count();

/// Copies `bytes` between two memories, of any devices, in the order of their current streams. Host memory may be read
/// or reused when it returns, unless it is `pinned`: then nothing waits.
void copy_between(Device to_device, void* to, Device from_device, const void* from, size_t bytes, bool pinned = false);

}  // namespace mica::detail
