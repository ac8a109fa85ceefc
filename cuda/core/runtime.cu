// The CUDA runtime behind Device::cuda(): devices, memory, copies, and what errors say. The static runtime library
// loads the driver when it is first called, so a machine without one runs the same program and counts 0 devices.
#include <cxxabi.h>

#include <cstdlib>
#include <cstring>
#include <new>
#include <string>

#include "cuda/core/runtime.h"

namespace mica::kernels::cuda {

namespace {

// Without the folders of the machine that built it.
const char* short_name(const char* file) {
  const char* slash = std::strrchr(file, '/');
  return slash ? slash + 1 : file;
}

// The kernel with its template arguments; where the driver cannot say, the function that launches it.
std::string kernel_name(const void* kernel, const char* launcher) {
  const char* mangled = nullptr;
#if CUDART_VERSION >= 12030
  if (cudaFuncGetName(&mangled, kernel) != cudaSuccess) mangled = nullptr;
#endif
  if (!mangled) return std::string("the kernel of ") + launcher;
  int failed = 0;
  char* demangled = abi::__cxa_demangle(mangled, nullptr, nullptr, &failed);
  std::string name = failed ? mangled : demangled;
  std::free(demangled);
  return name;
}

int count() {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) == cudaSuccess) return devices;
  cudaGetLastError();  // no driver, or none that is new enough: no devices, and no error for the next call to find
  return 0;
}

// The device of this thread, changed for a while: memory calls leave a person's own choice alone.
class DeviceScope {
 public:
  explicit DeviceScope(int device) {
    check_cuda(cudaGetDevice(&previous_), "cudaGetDevice");
    if (device == previous_) return;
    check_cuda(cudaSetDevice(device), "cudaSetDevice");
    changed_ = true;
  }
  ~DeviceScope() {
    if (changed_) cudaSetDevice(previous_);
  }
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;

 private:
  int previous_ = 0;
  bool changed_ = false;
};

void select(int device) { check_cuda(cudaSetDevice(device), "cudaSetDevice"); }

void* allocate(int device, size_t bytes) {
  const DeviceScope scope(device);
  void* block = nullptr;
  const cudaError_t status = cudaMalloc(&block, bytes ? bytes : 1);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    throw std::bad_alloc();
  }
  check_cuda(status, "cudaMalloc");
  return block;
}

void deallocate(int, void* block, size_t) noexcept {
  cudaFree(block);  // knows the block's device; what fails here was reported by the call that broke
}

void copy(int device, void* to, const void* from, size_t bytes, detail::CopyKind kind, void* stream) {
  const DeviceScope scope(device);
  const cudaMemcpyKind direction = kind == detail::CopyKind::to_device ? cudaMemcpyHostToDevice
                                   : kind == detail::CopyKind::to_host ? cudaMemcpyDeviceToHost
                                                                       : cudaMemcpyDefault;  // of this device or a peer
  check_cuda(cudaMemcpyAsync(to, from, bytes, direction, static_cast<cudaStream_t>(stream)), "cudaMemcpyAsync");
  if (kind != detail::CopyKind::on_device)
    check_cuda(cudaStreamSynchronize(static_cast<cudaStream_t>(stream)), "a copy, or a kernel before it,");
}

void synchronize(int device, void* stream) {
  const DeviceScope scope(device);
  check_cuda(cudaStreamSynchronize(static_cast<cudaStream_t>(stream)), "a kernel or copy");
}

}  // namespace

void check_cuda(cudaError_t status, const char* what, Site where) {
  if (status == cudaSuccess) return;
  cudaGetLastError();
  fail("cuda", what, " failed at ", short_name(where.file), ":", where.line, ": ", cudaGetErrorString(status));
}

void launch_failed(cudaError_t status, const void* kernel, const Grid& grid) {
  cudaGetLastError();
  const std::string name = kernel_name(kernel, grid.launcher);
  cudaGetLastError();  // that asking may have left
  fail("cuda", "the launch of ", name, " failed at ", short_name(grid.site.file), ":", grid.site.line, ": ",
       cudaGetErrorString(status));
}

const detail::DeviceRuntime& runtime() {
  static constexpr detail::DeviceRuntime runtime{count, select, allocate, deallocate, copy, synchronize};
  return runtime;
}

}  // namespace mica::kernels::cuda
