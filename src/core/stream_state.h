// What is behind a Stream, and which one is current.
#pragma once

#include <atomic>
#include <cstdint>

#include "core/device_runtime.h"
#include "mica/core/device.h"

namespace mica::detail {

/// A stream of the process. It lives for ever, and with it the device's: what notes a stream need not hold it.
struct StreamState {
  Device device;
  const DeviceRuntime* runtime = nullptr;
  void* handle = nullptr;  // null: the default stream of the device
  int number = 0;          // in all streams of the process, below 64
  std::atomic<int> references{0};

  uint64_t bit() const { return uint64_t{1} << number; }
};

/// The stream that this thread's work on `device` is put into. Throws Error where there is no such device.
StreamState& current_state(Device device);

/// The stream of `device` with that handle.
StreamState& stream_of(Device device, void* handle);

/// The stream of that number.
StreamState& stream_of(int number);

}  // namespace mica::detail
