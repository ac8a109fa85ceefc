// The memory of devices, and page-locked memory of the host.
#pragma once

#include <cstddef>

#include "mica/core/device.h"
#include "mica/core/macros.h"
#include "mica/core/memory.h"
#include "mica/core/tensor.h"

namespace MICA_EXPORT mica {

/// What the allocator of `device` holds. Freed memory of a device is kept and handed out again; when the device has no
/// more, what is kept is given back, and only then std::bad_alloc is thrown. MICA_CUDA_CACHE=0 in the environment keeps
/// nothing. The CPU: memory_statistics().
MemoryStatistics memory_statistics(Device device);

/// Gives kept memory of `device` back, waiting for streams that work with it. The CPU: page-locked memory too.
void release_cached(Device device);

/// Takes `bytes` of the device's memory at once, once in a program. Tensors are made in it for as long as it lasts, so
/// that the driver is asked for memory here and not between two kernels, nor while a stream is captured.
void reserve_memory(Device device, size_t bytes);

/// An uninitialised tensor on the CPU in page-locked memory, from and to which a device copies by itself: copy_from
/// between it and a tensor of a device, and .to(device) of it, return at once. Before its elements are read or changed
/// the stream must have come past the copy (Event, synchronize); it may be let go of at any time. Where no device can
/// be used it is an ordinary tensor.
Tensor empty_pinned(const Shape& shape, DType dtype = float32);

}  // namespace mica
