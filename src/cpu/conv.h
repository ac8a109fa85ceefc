// What convolution hands on: one group for each channel, and windows of 3 by 3, are kernels of their own.
#pragma once

#include "cpu/common.h"

namespace mica::kernels::cpu::MICA_CPU_LEVEL {

// conv2d and its gradients where args.groups == args.c.
void depthwise(Context& ctx, const Conv2DArgs& args, const void* x, const void* w, const void* bias, void* y);
void depthwise_gradient_input(Context& ctx, const Conv2DArgs& args, const void* dy, const void* w, void* dx,
                              Write write);
void depthwise_gradient_filter(Context& ctx, const Conv2DArgs& args, const void* x, const void* dy, void* dw,
                               Write write);

// Windows of 3 by 3 without stride, dilation or groups, over enough channels and pixels, in float32.
bool winograd_suits(const Conv2DArgs& args);
void winograd(Context& ctx, const Conv2DArgs& args, const float* x, const float* w, const float* bias, float* y);
void winograd_gradient_input(Context& ctx, const Conv2DArgs& args, const float* dy, const float* w, float* dx,
                             Write write);
void winograd_gradient_filter(Context& ctx, const Conv2DArgs& args, const float* x, const float* dy, float* dw,
                              Write write);

}  // namespace mica::kernels::cpu::MICA_CPU_LEVEL
