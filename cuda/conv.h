// What convolution hands on: one group for each channel, and few channels, have kernels of their own.
#pragma once

#include "cuda/table.h"

namespace mica::kernels::MICA_CUDA_BACKEND {

// conv2d and its gradients where args.groups == args.c.
void depthwise(Context& ctx, const Conv2DArgs& args, const void* x, const void* w, const void* bias, void* y);
void depthwise_gradient_input(Context& ctx, const Conv2DArgs& args, const void* dy, const void* w, void* dx,
                              Write write);
void depthwise_gradient_filter(Context& ctx, const Conv2DArgs& args, const void* x, const void* dy, void* dw,
                               Write write);

// The same where args.groups == 1 and args.c <= kFewChannels.
inline constexpr int kFewChannels = 4;
void few_channels(Context& ctx, const Conv2DArgs& args, const void* x, const void* w, const void* bias, void* y);
void few_channels_gradient_input(Context& ctx, const Conv2DArgs& args, const void* dy, const void* w, void* dx,
                                 Write write);
void few_channels_gradient_filter(Context& ctx, const Conv2DArgs& args, const void* x, const void* dy, void* dw,
                                  Write write);

}  // namespace mica::kernels::MICA_CUDA_BACKEND
