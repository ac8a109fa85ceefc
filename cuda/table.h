// What the CUDA files declare: every kernel of the list, in this backend's namespace, and how the backends register.
#pragma once

#include "cuda/core/launch.h"
#include "kernels/kernels.h"

namespace mica::kernels {

/// Makes the CUDA kernels and memory known to table() and device_runtime(). May be called again.
void register_cuda();
/// The same for the emulation; tests call it.
void register_emulated();

namespace MICA_CUDA_BACKEND {

#define KERNEL(name, parameters) void name parameters;
#include "kernels/kernels.def"
#undef KERNEL

}  // namespace MICA_CUDA_BACKEND
}  // namespace mica::kernels
