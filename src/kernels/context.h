// Context: what a kernel may use besides its arguments.
#pragma once

#include <cstddef>
#include <utility>

#include "mica/core/device.h"
#include "mica/core/memory.h"

namespace mica {

/// Scratch memory of a kernel, from the caching allocator, given back at the end of the scope. Its moves are always
/// inlined: kernels of each level use it, and none may define what another would use.
class Workspace {
 public:
  explicit Workspace(size_t bytes) : data_(bytes ? detail::allocate(bytes) : nullptr), bytes_(bytes) {}
  [[gnu::always_inline]] Workspace(Workspace&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(other.bytes_) {}
  [[gnu::always_inline]] ~Workspace() {
    if (data_) detail::deallocate(data_, bytes_);
  }
  template <class T>
  T* as(size_t offset_bytes = 0) const {
    return reinterpret_cast<T*>(static_cast<char*>(data_) + offset_bytes);
  }

 private:
  void* data_;
  size_t bytes_;
};

struct Context {
  Device device;
  int threads = 1;         // work is cut into at most this many parts
  void* stream = nullptr;  // cudaStream_t on CUDA

  /// Scratch on the host. (Device scratch comes with the CUDA runtime.)
  [[gnu::always_inline]] Workspace workspace(size_t bytes) const { return Workspace(bytes); }
};

/// The calling thread's context for `device`.
Context context(Device device);

}  // namespace mica
