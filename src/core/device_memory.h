// The memory of devices and page-locked memory of the host, from their allocators.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/device_allocator.h"
#include "core/stream_state.h"

namespace mica::detail {

/// The allocator of a device's memory. Throws Error for the CPU, and where there is no such device.
DeviceAllocator& device_allocator(Device device);

/// That of page-locked host memory; null where there is no device that it would serve.
DeviceAllocator* pinned_allocator();

/// Page-locked memory for one copy of `stream`, which may still be under way when the scope ends.
class PinnedBlock {
 public:
  PinnedBlock(size_t bytes, const StreamState& stream)
      : bytes_(bytes), streams_(stream.bit()), data_(pinned_allocator()->allocate(bytes, DeviceAllocator::kHost)) {}
  ~PinnedBlock() { pinned_allocator()->deallocate(data_, bytes_, streams_); }
  PinnedBlock(const PinnedBlock&) = delete;
  PinnedBlock& operator=(const PinnedBlock&) = delete;

  void* data() const { return data_; }

 private:
  size_t bytes_;
  uint64_t streams_;
  void* data_;
};

}  // namespace mica::detail
