// CPU updates: one pass over flat parameters.
#include "cpu/common.h"

namespace mica::kernels::cpu::MICA_CPU_LEVEL {

void adam(Context& ctx, const AdamArgs& args, const void* g, void* w, void* m, void* v) {
  for_float(args.dtype, [&](auto t) {
    using T = decltype(t);
    const T* gradient = static_cast<const T*>(g);
    T *weight = static_cast<T*>(w), *first = static_cast<T*>(m), *second = static_cast<T*>(v);
    const T beta1 = static_cast<T>(args.beta1), beta2 = static_cast<T>(args.beta2);
    const T rest1 = static_cast<T>(1 - args.beta1), rest2 = static_cast<T>(1 - args.beta2);
    const T step = static_cast<T>(args.learning_rate / args.bias_correction1);
    const T scale = static_cast<T>(1 / ::sqrt(args.bias_correction2));
    const T epsilon = static_cast<T>(args.epsilon), decay = static_cast<T>(args.weight_decay);
    parallel::ranges(ctx.threads, args.n, kGrain, [=](int64_t begin, int64_t end, int) {
#pragma GCC ivdep
      for (int64_t i = begin; i < end; ++i) {
        const T d = gradient[i] + decay * weight[i];
        first[i] = beta1 * first[i] + rest1 * d;
        second[i] = beta2 * second[i] + rest2 * d * d;
        weight[i] -= step * first[i] / (math::sqrt(second[i]) * scale + epsilon);
      }
    });
  });
}

void sgd(Context& ctx, const SgdArgs& args, const void* g, void* w, void* velocity) {
  for_float(args.dtype, [&](auto t) {
    using T = decltype(t);
    const T* gradient = static_cast<const T*>(g);
    T *weight = static_cast<T*>(w), *speed = static_cast<T*>(velocity);
    const T rate = static_cast<T>(args.learning_rate), decay = static_cast<T>(args.weight_decay);
    const T momentum = static_cast<T>(args.momentum);
    const T ahead = args.nesterov ? static_cast<T>(args.momentum) : T(0);
    const bool nesterov = args.nesterov;
    parallel::ranges(ctx.threads, args.n, kGrain, [=](int64_t begin, int64_t end, int) {
      if (!speed) {
#pragma GCC ivdep
        for (int64_t i = begin; i < end; ++i) weight[i] -= rate * (gradient[i] + decay * weight[i]);
        return;
      }
#pragma GCC ivdep
      for (int64_t i = begin; i < end; ++i) {
        const T d = gradient[i] + decay * weight[i];
        speed[i] = momentum * speed[i] + d;
        weight[i] -= rate * (nesterov ? d + ahead * speed[i] : speed[i]);
      }
    });
  });
}

}  // namespace mica::kernels::cpu::MICA_CPU_LEVEL
