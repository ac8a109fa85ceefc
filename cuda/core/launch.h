// The launch layer: the vocabulary that kernels are written in. One kernel source compiles under nvcc, and, where
// MICA_EMULATED is defined, as host C++ whose CUDA threads are emulated (emulate.h). Kernel files never write <<<>>>.
//
//   MICA_KERNEL(threads) void name(...)     a kernel, launched with at most `threads` threads a block; a second number
//                                           asks that so many blocks fit a multiprocessor, which caps the registers
//   MICA_DEVICE T name(...)                 a function that kernels call
//   MICA_UNROLL                             before a loop: the GPU's code unrolls it
//   MICA_SHARED(type, name, [N][M])         shared memory of the block: an array, or without extents one variable
//   MICA_DYNAMIC_SHARED(type, name)         the shared_bytes of the launch, up to kMaxShared, as an array; a kernel
//                                           that has it has no MICA_SHARED
//   thread_index() block_index() block_size() grid_size()
//   barrier() warp_barrier()                every thread of the block / warp arrives at the same one
//   shuffle(v, lane) shuffle_xor(v, mask) shuffle_down(v, delta) shuffle_up(v, delta) ballot(bool)
//                                           of the whole warp, which has 32 lanes
//   atomic_add(p, v) atomic_max(p, v)       return what was there before
//   copy_async(to, from, inside)            to shared from global memory, 4, 8 or 16 bytes, without passing through
//                                           registers; zeros, and no access, unless `inside`
//   opaque(i)                               i, of which the compiler knows nothing: what is computed from it in a loop
//                                           stays there, where the registers to keep it would be dearer
//   wait_for_copies()                       the thread's own are there; others' are after the next barrier
//   launch(kernel, grid, block, shared_bytes, stream, args...)
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <tuple>
#include <utility>

#include "mica/core/error.h"

#if defined(MICA_EMULATED)
#define MICA_CUDA_BACKEND emulated
#else
#include <cuda_runtime.h>
#define MICA_CUDA_BACKEND cuda
#endif

// What is compiled twice lives in a namespace for each backend, so that one program can hold both.
namespace mica::kernels::MICA_CUDA_BACKEND {

inline constexpr int kWarpSize = 32;

// Shared memory of a block: what every kernel may have, and what it may have as dynamic memory, on any GPU from sm_80
// on (sm_86 and sm_89 have no more).
inline constexpr size_t kMaxStaticShared = 48 * 1024, kMaxShared = 99 * 1024;

/// A line of a kernel file.
struct Site {
  const char* file = "";
  int line = 0;

  static constexpr Site here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) { return {file, line}; }
};

/// Threads of a block, or blocks of a grid, along x, y and z.
struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
};

/// The blocks of a launch, written as n, {x, y} or {x, y, z}; remembers the line that it is written at.
struct Grid : Dim3 {
  Site site;
  const char* launcher;  // the function around it

  Grid(int64_t blocks, Site where = Site::here(), const char* function = __builtin_FUNCTION())
      : Grid(blocks, 1, 1, where, function) {}
  Grid(int64_t blocks_x, int64_t blocks_y, int64_t blocks_z = 1, Site where = Site::here(),
       const char* function = __builtin_FUNCTION())
      : site(where), launcher(function) {
    const auto fits = [](int64_t n, int64_t most) { return n >= 1 && n <= most; };
    check(fits(blocks_x, std::numeric_limits<int32_t>::max()) && fits(blocks_y, 65535) && fits(blocks_z, 65535), "cuda",
          "a grid has 1 to 2147483647 x 65535 x 65535 blocks: [", blocks_x, ",", blocks_y, ",", blocks_z, "], at ",
          where.file, ":", where.line);
    x = static_cast<unsigned>(blocks_x);
    y = static_cast<unsigned>(blocks_y);
    z = static_cast<unsigned>(blocks_z);
  }
};

/// Four neighbours that move as one, so that a thread's access to memory is 16 bytes wide.
template <class T>
struct alignas(4 * sizeof(T)) Vector4 {
  T v[4];
};

}  // namespace mica::kernels::MICA_CUDA_BACKEND

#if defined(MICA_EMULATED)

#include "cuda/core/emulate.h"

#else

#define MICA_KERNEL(...) __global__ __launch_bounds__(__VA_ARGS__)
#define MICA_DEVICE __device__ __forceinline__
#define MICA_UNROLL _Pragma("unroll")
#define MICA_SHARED(type, name, ...) __shared__ type name __VA_ARGS__
#define MICA_DYNAMIC_SHARED(type, name)                                       \
  extern __shared__ __align__(16) unsigned char mica_dynamic_shared_memory[]; \
  type* const name = reinterpret_cast<type*>(mica_dynamic_shared_memory)

namespace mica::kernels::cuda {

MICA_DEVICE Dim3 thread_index() { return {threadIdx.x, threadIdx.y, threadIdx.z}; }
MICA_DEVICE Dim3 block_index() { return {blockIdx.x, blockIdx.y, blockIdx.z}; }
MICA_DEVICE Dim3 block_size() { return {blockDim.x, blockDim.y, blockDim.z}; }
MICA_DEVICE Dim3 grid_size() { return {gridDim.x, gridDim.y, gridDim.z}; }

MICA_DEVICE void barrier() { __syncthreads(); }
MICA_DEVICE void warp_barrier() { __syncwarp(); }

template <class T>
MICA_DEVICE T shuffle(T value, int lane) {
  return __shfl_sync(0xffffffffu, value, lane);
}
template <class T>
MICA_DEVICE T shuffle_xor(T value, int mask) {
  return __shfl_xor_sync(0xffffffffu, value, mask);
}
template <class T>
MICA_DEVICE T shuffle_down(T value, int delta) {
  return __shfl_down_sync(0xffffffffu, value, delta);
}
template <class T>
MICA_DEVICE T shuffle_up(T value, int delta) {
  return __shfl_up_sync(0xffffffffu, value, delta);
}
MICA_DEVICE uint32_t ballot(bool vote) { return __ballot_sync(0xffffffffu, vote); }

template <class T>
MICA_DEVICE T atomic_add(T* at, T value) {
  return atomicAdd(at, value);
}
template <class T>
MICA_DEVICE T atomic_max(T* at, T value) {
  return atomicMax(at, value);
}

MICA_DEVICE int opaque(int i) {
  asm volatile("" : "+r"(i));
  return i;
}

template <class T>
MICA_DEVICE void copy_async(T* to, const T* from, bool inside) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 16);
  const unsigned target = static_cast<unsigned>(__cvta_generic_to_shared(to));
  const unsigned bytes = inside ? sizeof(T) : 0;
  if constexpr (sizeof(T) == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(target), "l"(from), "r"(bytes) : "memory");
  else if constexpr (sizeof(T) == 8)
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(target), "l"(from), "r"(bytes) : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(target), "l"(from), "r"(bytes) : "memory");
}
MICA_DEVICE void wait_for_copies() { asm volatile("cp.async.wait_all;" ::: "memory"); }

/// Throws Error unless `status` is success: "[cuda] <what> failed at matmul.cu:12: out of memory".
void check_cuda(cudaError_t status, const char* what, Site where = Site::here());
/// Throws Error for a launch of `kernel` that was refused.
[[noreturn]] void launch_failed(cudaError_t status, const void* kernel, const Grid& grid);

/// Lets `kernel` have up to kMaxShared bytes of dynamic shared memory on the current device, from the first call on.
cudaError_t allow_shared(const void* kernel);

/// Whether MICA_CUDA_DEBUG=1 is in the environment: each launch then waits for its kernel.
bool debugging();
/// Waits for a kernel that has been launched, and throws Error, which names it, where it went wrong.
void finish_launch(const void* kernel, const Grid& grid, void* stream);

/// Runs `kernel` on `stream` of the current device, with `args` converted to its parameters. Throws Error, which names
/// kernel, file and line, where the launch is refused.
template <class... Parameters, class... Args>
void launch(void (*kernel)(Parameters...), const Grid& grid, Dim3 block, size_t shared_bytes, void* stream,
            Args&&... args) {
  static_assert(sizeof...(Parameters) == sizeof...(Args));
  std::tuple<Parameters...> values(std::forward<Args>(args)...);
  const void* function = reinterpret_cast<const void*>(kernel);
  cudaError_t status = cudaSuccess;
  if (shared_bytes > kMaxStaticShared) status = allow_shared(function);
  if (status == cudaSuccess)
    status = std::apply(
        [&](auto&... value) {
          void* pointers[] = {&value..., nullptr};
          return cudaLaunchKernel(function, dim3(grid.x, grid.y, grid.z), dim3(block.x, block.y, block.z), pointers,
                                  shared_bytes, static_cast<cudaStream_t>(stream));
        },
        values);
  if (status != cudaSuccess) [[unlikely]]
    launch_failed(status, function, grid);
  if (debugging()) [[unlikely]]
    finish_launch(function, grid, stream);
}

}  // namespace mica::kernels::cuda

#endif
