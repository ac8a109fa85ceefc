// The device runtime of this backend: memory, copies, devices.
#pragma once

#include "core/device_runtime.h"
#include "cuda/core/launch.h"

namespace mica::kernels::MICA_CUDA_BACKEND {

const detail::DeviceRuntime& runtime();

}  // namespace mica::kernels::MICA_CUDA_BACKEND
