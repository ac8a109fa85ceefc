// The CUDA runtime behind Device::cuda(): devices, memory, copies, streams, and what errors say. The static runtime
// library loads the driver when it is first called, so a machine without one runs the same program and counts 0
// devices.
#include "cuda/core/runtime.h"

#include <cxxabi.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>
#include <string_view>

namespace mica::kernels::cuda {

namespace {

// ---- Errors ----

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
  cudaGetLastError();  // that asking may have left
#endif
  if (!mangled) return std::string("the kernel of ") + launcher;
  int failed = 0;
  char* demangled = abi::__cxa_demangle(mangled, nullptr, nullptr, &failed);
  std::string name = failed ? mangled : demangled;
  std::free(demangled);
  return name;
}

// Errors of a kernel are found by whatever call comes next, and no call succeeds after them.
std::string text(cudaError_t status) {
  std::string text = cudaGetErrorString(status);
  switch (status) {
    case cudaErrorIllegalAddress:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorIllegalInstruction:
    case cudaErrorHardwareStackError:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
      if (!debugging()) text += " (here or in a kernel before: MICA_CUDA_DEBUG=1 in the environment finds which)";
      break;
    default: break;
  }
  return text;
}

[[noreturn]] void kernel_failed(const char* what, cudaError_t status, const void* kernel, const Grid& grid) {
  cudaGetLastError();
  fail("cuda", what, kernel_name(kernel, grid.launcher), " failed at ", short_name(grid.site.file), ":", grid.site.line,
       ": ", text(status));
}

// ---- Devices ----

constexpr int kDevices = 16;

// The device of this thread, changed for a while: all but launches leave a person's own choice alone. Asking for it
// costs as little as remembering it would, and is right where others change it.
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

// While a stream is captured, by any thread, CUDA forbids the calls that could wait for it; these do not.
class DuringCapture {
 public:
  DuringCapture() { cudaThreadExchangeStreamCaptureMode(&mode_); }
  ~DuringCapture() { cudaThreadExchangeStreamCaptureMode(&mode_); }
  DuringCapture(const DuringCapture&) = delete;
  DuringCapture& operator=(const DuringCapture&) = delete;

 private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
};

MICA_KERNEL(1) void any_kernel() {}

// 13.0, of 13000.
std::string version(int number) { return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10); }

// "sm_80, sm_90": what this file, and so each, is compiled for.
std::string architectures() {
  std::string list;
  for (const int architecture : {__CUDA_ARCH_LIST__})
    list += (list.empty() ? "sm_" : ", sm_") + std::to_string(architecture / 10);
  return list;
}

cudaStream_t as_stream(void* stream) { return static_cast<cudaStream_t>(stream); }
cudaEvent_t as_event(void* event) { return static_cast<cudaEvent_t>(event); }

bool is_ready(cudaError_t status, const char* what) {
  if (status == cudaErrorNotReady) {
    cudaGetLastError();
    return false;
  }
  check_cuda(status, what);
  return true;
}

// Null where the call that failed found no more memory.
void* checked_block(void* block, cudaError_t status, const char* what) {
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return nullptr;
  }
  check_cuda(status, what);
  return block;
}

class CudaRuntime final : public detail::DeviceRuntime {
 public:
  int count() const noexcept override {
    int devices = 0;
    if (cudaGetDeviceCount(&devices) == cudaSuccess) return devices < kDevices ? devices : kDevices;
    cudaGetLastError();  // no devices, and no error for the next call to find
    return 0;
  }

  std::string why_none() const override {
    int devices = 0, driver = 0;
    const cudaError_t status = cudaGetDeviceCount(&devices);
    if (cudaDriverGetVersion(&driver) != cudaSuccess) driver = 0;
    cudaGetLastError();
    if (status == cudaErrorInsufficientDriver && driver == 0)
      return "NVIDIA's driver was not found (in a container, it is the host that lends it)";
    if (status == cudaErrorInsufficientDriver)
      return "the driver is of CUDA " + version(driver) + ", older than the " + version(CUDART_VERSION) +
             " that this build needs: update it, or build with an older nvcc";
    std::string why = status == cudaSuccess ? "it has none" : cudaGetErrorString(status);
    if (const char* visible = std::getenv("CUDA_VISIBLE_DEVICES"))
      why += std::string(" (CUDA_VISIBLE_DEVICES is \"") + visible + "\")";
    return why;
  }

  void check_usable(int device) const override {
    static std::atomic<bool> usable[kDevices];
    if (usable[device].load(std::memory_order_relaxed)) return;
    const DeviceScope scope(device);
    cudaFuncAttributes attributes;
    const cudaError_t status = cudaFuncGetAttributes(&attributes, any_kernel);
    if (status == cudaErrorNoKernelImageForDevice || status == cudaErrorInvalidDeviceFunction) {
      cudaGetLastError();
      cudaDeviceProp properties;
      check_cuda(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
      const int found = 10 * properties.major + properties.minor;
      fail("device", "cuda:", device, " (", properties.name, ") is of sm_", found, ", and this build of Mica is for ",
           architectures(), ": add ", found, " to MICA_CUDA_ARCHITECTURES");
    }
    check_cuda(status, "loading the kernels");
    usable[device].store(true, std::memory_order_relaxed);
  }

  void select(int device) const override {
    int now = 0;
    check_cuda(cudaGetDevice(&now), "cudaGetDevice");
    if (now != device) check_cuda(cudaSetDevice(device), "cudaSetDevice");
  }

  // ---- Memory ----

  void* allocate(int device, size_t bytes) const override {
    const DeviceScope scope(device);
    const DuringCapture allowed;
    void* block = nullptr;
    const cudaError_t status = cudaMalloc(&block, bytes);
    return checked_block(block, status, "cudaMalloc");
  }
  void deallocate(int, void* block, size_t) const noexcept override {
    const DuringCapture allowed;
    cudaFree(block);  // knows the block's device; what fails here was reported by the call that broke
  }
  void* allocate_host(size_t bytes) const override {
    const DuringCapture allowed;
    void* block = nullptr;
    const cudaError_t status = cudaHostAlloc(&block, bytes, cudaHostAllocPortable);
    return checked_block(block, status, "cudaHostAlloc");
  }
  void deallocate_host(void* block) const noexcept override {
    const DuringCapture allowed;
    cudaFreeHost(block);
  }
  void hand_out(int device, void* block, size_t bytes, void* stream) const override {
    if (!debugging()) return;
    const DeviceScope scope(device);
    check_cuda(cudaMemsetAsync(block, 0xff, bytes, as_stream(stream)), "cudaMemsetAsync");
  }

  void copy(int device, void* to, const void* from, size_t bytes, detail::CopyKind kind, void* stream) const override {
    const DeviceScope scope(device);
    cudaMemcpyKind direction = cudaMemcpyDefault;  // of this device or a peer
    if (kind == detail::CopyKind::to_device) direction = cudaMemcpyHostToDevice;
    if (kind == detail::CopyKind::to_host) direction = cudaMemcpyDeviceToHost;
    check_cuda(cudaMemcpyAsync(to, from, bytes, direction, as_stream(stream)), "cudaMemcpyAsync");
    if (debugging() && !capturing(device, stream)) synchronize(device, stream);
  }

  // Lets the source's device reach the target's memory where the machine can; copies go through the host otherwise.
  void prepare_peers(int from, int to) const override {
    static std::atomic<bool> prepared[kDevices][kDevices];
    if (prepared[from][to].exchange(true, std::memory_order_relaxed)) return;
    const DeviceScope scope(from);
    int can = 0;
    if (cudaDeviceCanAccessPeer(&can, from, to) == cudaSuccess && can) cudaDeviceEnablePeerAccess(to, 0);
    cudaGetLastError();  // somebody may have done it before
  }

  // ---- Streams ----

  void* create_stream(int device) const override {
    const DeviceScope scope(device);
    cudaStream_t stream = nullptr;
    check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
    return stream;
  }
  void synchronize(int device, void* stream) const override {
    const DeviceScope scope(device);
    const DuringCapture allowed;
    check_cuda(cudaStreamSynchronize(as_stream(stream)), "a kernel or copy");
  }
  void synchronize_device(int device) const override {
    const DeviceScope scope(device);
    check_cuda(cudaDeviceSynchronize(), "a kernel or copy");
  }
  bool stream_done(int device, void* stream) const override {
    const DeviceScope scope(device);
    const DuringCapture allowed;
    return is_ready(cudaStreamQuery(as_stream(stream)), "a kernel or copy");
  }
  bool capturing(int device, void* stream) const override {
    const DeviceScope scope(device);
    cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
    const cudaError_t status = cudaStreamIsCapturing(as_stream(stream), &capture);
    if (status == cudaErrorStreamCaptureImplicit) {  // the default stream, which would wait for one that is
      cudaGetLastError();
      return true;
    }
    check_cuda(status, "cudaStreamIsCapturing");
    return capture != cudaStreamCaptureStatusNone;
  }

  // ---- Events ----

  void* create_event(int device) const override {
    const DeviceScope scope(device);
    cudaEvent_t event = nullptr;
    check_cuda(cudaEventCreate(&event), "cudaEventCreate");
    return event;
  }
  void destroy_event(int, void* event) const noexcept override { cudaEventDestroy(as_event(event)); }
  void record_event(int device, void* event, void* stream) const override {
    const DeviceScope scope(device);
    check_cuda(cudaEventRecord(as_event(event), as_stream(stream)), "cudaEventRecord");
  }
  bool event_done(int device, void* event) const override {
    const DeviceScope scope(device);
    const DuringCapture allowed;
    return is_ready(cudaEventQuery(as_event(event)), "a kernel or copy");
  }
  void wait_event(int device, void* event) const override {
    const DeviceScope scope(device);
    const DuringCapture allowed;
    check_cuda(cudaEventSynchronize(as_event(event)), "a kernel or copy");
  }
  void stream_wait(int device, void* stream, void* event) const override {
    const DeviceScope scope(device);
    check_cuda(cudaStreamWaitEvent(as_stream(stream), as_event(event)), "cudaStreamWaitEvent");
  }
  double elapsed_ms(int device, void* start, void* end) const override {
    const DeviceScope scope(device);
    float ms = 0;
    check_cuda(cudaEventElapsedTime(&ms, as_event(start), as_event(end)), "cudaEventElapsedTime");
    return ms;
  }
};

}  // namespace

void check_cuda(cudaError_t status, const char* what, Site where) {
  if (status == cudaSuccess) return;
  cudaGetLastError();
  fail("cuda", what, " failed at ", short_name(where.file), ":", where.line, ": ", text(status));
}

void launch_failed(cudaError_t status, const void* kernel, const Grid& grid) {
  kernel_failed("the launch of ", status, kernel, grid);
}

// The kernels that have been allowed it, of each device: a hash table that is only ever added to, and so read without a
// lock. A kernel that finds no place is allowed anew at each launch.
cudaError_t allow_shared(const void* kernel) {
  constexpr size_t kPlaces = 256, kTries = 16;
  static std::atomic<const void*> kernels[kDevices][kPlaces];
  static std::mutex mutex;

  int device = 0;
  if (const cudaError_t status = cudaGetDevice(&device); status != cudaSuccess) return status;
  const size_t first = reinterpret_cast<uintptr_t>(kernel) / 16;
  const auto place = [&](size_t i) -> std::atomic<const void*>& { return kernels[device][(first + i) % kPlaces]; };
  for (size_t i = 0; i < kTries; ++i) {
    const void* const known = place(i).load(std::memory_order_acquire);
    if (known == kernel) return cudaSuccess;
    if (!known) break;
  }

  const std::lock_guard lock(mutex);
  const DuringCapture allowed;
  const cudaError_t status =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(kMaxShared));
  if (status != cudaSuccess) return status;
  for (size_t i = 0; i < kTries; ++i) {
    const void* const known = place(i).load(std::memory_order_relaxed);
    if (known == kernel) break;
    if (known) continue;
    place(i).store(kernel, std::memory_order_release);
    break;
  }
  return cudaSuccess;
}

bool debugging() {
  static const bool asked = [] {
    const char* value = std::getenv("MICA_CUDA_DEBUG");
    return value && value == std::string_view("1");
  }();
  return asked;
}

void finish_launch(const void* kernel, const Grid& grid, void* stream) {
  cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
  cudaError_t status = cudaStreamIsCapturing(as_stream(stream), &capture);
  if (status == cudaSuccess && capture == cudaStreamCaptureStatusNone)
    status = cudaStreamSynchronize(as_stream(stream));
  if (status != cudaSuccess) kernel_failed("", status, kernel, grid);
}

const detail::DeviceRuntime& runtime() {
  static const CudaRuntime runtime;
  return runtime;
}

}  // namespace mica::kernels::cuda
