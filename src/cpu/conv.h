// What convolution hands on: one group for each channel, and windows of 3 by 3, are kernels of their own. And what it
// offers to kernels that do more with each image, while it lies in the cache.
#pragma once

#include "cpu/common.h"

namespace mica::kernels::cpu::MICA_CPU_LEVEL {

// Called by each part with images [first, first + count) of convolution's results, z [count, OH, OW, O]: to take them,
// or in the gradients' direction, to bring theirs. z is that part's, and written over by the next call.
template <class T>
class Stage {
 public:
  // f must outlive it.
  template <class F>
  explicit Stage(const F&& f) = delete;
  template <class F>
  explicit Stage(const F& f)
      : f_(&f),
        call_([](const void* g, int64_t first, int64_t count, T* z) { (*static_cast<const F*>(g))(first, count, z); }) {
  }
  void operator()(int64_t first, int64_t count, T* z) const { call_(f_, first, count, z); }

 private:
  const void* f_;
  void (*call_)(const void*, int64_t, int64_t, T*);
};

// conv2d. With a stage, results go there in place of y: of one group, and at least as many images as threads.
template <class T>
void convolve(Context& ctx, const Conv2DArgs& args, const T* x, const T* w, const T* bias, T* y, const Stage<T>* stage);
// Its gradients. dx and dw may be null. With a stage, dy comes from there.
template <class T>
void convolve_gradient(Context& ctx, const Conv2DArgs& args, const T* x, const T* w, const T* dy, T* dx, Write write_dx,
                       T* dw, Write write_dw, const Stage<T>* stage);

// The same where args.groups == args.c.
void depthwise(Context& ctx, const Conv2DArgs& args, const void* x, const void* w, const void* bias, void* y);
void depthwise_gradient_input(Context& ctx, const Conv2DArgs& args, const void* dy, const void* w, void* dx,
                              Write write);
void depthwise_gradient_filter(Context& ctx, const Conv2DArgs& args, const void* x, const void* dy, void* dw,
                               Write write);

// The same for windows of 3 by 3 without stride, dilation or groups, over enough channels and pixels, in float32.
bool winograd_suits(const Conv2DArgs& args);
void winograd(Context& ctx, const Conv2DArgs& args, const float* x, const float* w, const float* bias, float* y,
              const Stage<float>* stage);
void winograd_gradient(Context& ctx, const Conv2DArgs& args, const float* x, const float* w, const float* dy, float* dx,
                       Write write_dx, float* dw, Write write_dw, const Stage<float>* stage);

}  // namespace mica::kernels::cpu::MICA_CPU_LEVEL
