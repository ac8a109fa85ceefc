// The few macros of the public headers.
#pragma once

/// A function of the CPU and of CUDA kernels. Always inlined: kernels are compiled once for each instruction-set level,
/// and an out-of-line copy compiled for one level must never serve another.
#if defined(__CUDACC__)
#define MICA_HD __host__ __device__ __forceinline__
#else
#define MICA_HD [[gnu::always_inline]] inline
#endif

/// What the shared library exports.
#define MICA_EXPORT [[gnu::visibility("default")]]
