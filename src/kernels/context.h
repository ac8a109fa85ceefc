// Context: what a kernel may use besides its arguments.
#pragma once

#include <cstddef>
#include <utility>

#include "mica/core/device.h"
#include "mica/core/memory.h"

namespace mica {

/// Scratch memory that was taken beforehand, for kernels that are called within a part of another: a stack. Without
/// data it only counts, and they return once they have asked: Context::measures().
struct Scratch {
  char* data = nullptr;
  size_t used = 0, most = 0;
};

/// Scratch memory of a kernel, from the caching allocator or a Scratch, given back at the end of the scope. Always
/// inlined: kernels of each level use it, and none may define what another would use.
class Workspace {
 public:
  explicit Workspace(size_t bytes) : data_(bytes ? detail::allocate(bytes) : nullptr), bytes_(bytes) {}
  [[gnu::always_inline]] Workspace(Scratch& scratch, size_t bytes)
      : data_(scratch.data ? scratch.data + scratch.used : nullptr), bytes_((bytes + 63) / 64 * 64), from_(&scratch) {
    scratch.used += bytes_;
    if (scratch.used > scratch.most) scratch.most = scratch.used;
  }
  [[gnu::always_inline]] Workspace(Workspace&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(other.bytes_), from_(std::exchange(other.from_, nullptr)) {}
  [[gnu::always_inline]] ~Workspace() {
    if (from_)
      from_->used -= bytes_;
    else if (data_)
      detail::deallocate(data_, bytes_);
  }
  template <class T>
  T* as(size_t offset_bytes = 0) const {
    return reinterpret_cast<T*>(static_cast<char*>(data_) + offset_bytes);
  }

 private:
  void* data_;
  size_t bytes_;
  Scratch* from_ = nullptr;
};

struct Context {
  Device device;
  int threads = 1;         // work is cut into at most this many parts
  void* stream = nullptr;  // cudaStream_t on CUDA

  Scratch* scratch = nullptr;

  /// Scratch on the host. (Device scratch comes with the CUDA runtime.)
  [[gnu::always_inline]] Workspace workspace(size_t bytes) const {
    return scratch ? Workspace(*scratch, bytes) : Workspace(bytes);
  }
  /// Whether a kernel is to do no more than to take its workspaces.
  [[gnu::always_inline]] bool measures() const { return scratch && !scratch->data; }
};

/// The calling thread's context for `device`.
Context context(Device device);

}  // namespace mica
