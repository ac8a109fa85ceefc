// The device runtime of this backend, and scratch memory of its kernels.
#pragma once

#include "core/device_memory.h"
#include "core/device_runtime.h"
#include "cuda/core/launch.h"
#include "kernels/context.h"

namespace mica::kernels::MICA_CUDA_BACKEND {

const detail::DeviceRuntime& runtime();

/// Device memory for the launches of one kernel function, given back in the order of the stream: what was launched
/// before the end of the scope may still be using it. Aligned to 256 bytes; pieces are taken with as<T>(offset).
class Scratch {
 public:
  Scratch(const Context& ctx, size_t bytes) : device_(ctx.device), bytes_(bytes) {
    if (bytes == 0) return;
    const detail::StreamState& stream = detail::stream_of(device_, ctx.stream);
    streams_ = stream.bit();
    data_ = detail::device_allocator(device_).allocate(bytes, stream.number);
  }
  ~Scratch() {
    if (data_) detail::device_allocator(device_).deallocate(data_, bytes_, streams_);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  template <class T>
  T* as(size_t offset_bytes = 0) const {
    return reinterpret_cast<T*>(static_cast<char*>(data_) + offset_bytes);
  }

 private:
  Device device_;
  size_t bytes_;
  uint64_t streams_ = 0;
  void* data_ = nullptr;
};

}  // namespace mica::kernels::MICA_CUDA_BACKEND
