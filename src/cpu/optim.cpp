// CPU updates and clipping: one pass over flat parameters.
#include "cpu/reduce.h"

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
    const T epsilon = static_cast<T>(args.epsilon);
    const T decay = static_cast<T>(args.decoupled ? 0 : args.weight_decay);
    const T kept = static_cast<T>(args.decoupled ? 1 - args.learning_rate * args.weight_decay : 1);
    parallel::ranges(ctx.threads, args.n, kGrain, [=](int64_t begin, int64_t end, int) {
#pragma GCC ivdep
      for (int64_t i = begin; i < end; ++i) {
        const T d = gradient[i] + decay * weight[i];
        first[i] = beta1 * first[i] + rest1 * d;
        second[i] = beta2 * second[i] + rest2 * d * d;
        weight[i] = kept * weight[i] - step * first[i] / (math::sqrt(second[i]) * scale + epsilon);
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

void rmsprop(Context& ctx, const RmspropArgs& args, const void* g, void* w, void* square, void* mean, void* velocity) {
  for_float(args.dtype, [&](auto t) {
    using T = decltype(t);
    const T* gradient = static_cast<const T*>(g);
    T *weight = static_cast<T*>(w), *squares = static_cast<T*>(square);
    T *means = static_cast<T*>(mean), *speed = static_cast<T*>(velocity);
    const T alpha = static_cast<T>(args.alpha), rest = static_cast<T>(1 - args.alpha);
    const T rate = static_cast<T>(args.learning_rate), epsilon = static_cast<T>(args.epsilon);
    const T decay = static_cast<T>(args.weight_decay), momentum = static_cast<T>(args.momentum);
    // One loop for each set of states, since a pointer that may be null keeps a loop from vectorising.
    const auto update = [=](int64_t begin, int64_t end, auto centered, auto moving) {
#pragma GCC ivdep
      for (int64_t i = begin; i < end; ++i) {
        const T d = gradient[i] + decay * weight[i];
        squares[i] = alpha * squares[i] + rest * d * d;
        T spread = squares[i];
        if constexpr (centered) {
          means[i] = alpha * means[i] + rest * d;
          spread -= means[i] * means[i];
          spread = spread > T(0) ? spread : spread == spread ? T(0) : spread;  // rounding may bring it below 0
        }
        T move = d / (math::sqrt(spread) + epsilon);
        if constexpr (moving) move = speed[i] = momentum * speed[i] + move;
        weight[i] -= rate * move;
      }
    };
    constexpr std::true_type yes;
    constexpr std::false_type no;
    parallel::ranges(ctx.threads, args.n, kGrain, [=](int64_t begin, int64_t end, int) {
      if (means && speed) return update(begin, end, yes, yes);
      if (means) return update(begin, end, yes, no);
      if (speed) return update(begin, end, no, yes);
      update(begin, end, no, no);
    });
  });
}

void sum_squares(Context& ctx, DType dtype, int64_t n, const void* x, double* sum) {
  constexpr int64_t kChunk = 8192;
  const int64_t chunks = max(1, (n + kChunk - 1) / kChunk);
  const Workspace workspace = ctx.workspace(static_cast<size_t>(chunks) * sizeof(double));
  double* partial = workspace.as<double>();
  for_float(dtype, [&](auto t) {
    using T = decltype(t);
    const T* in = static_cast<const T*>(x);
    // In float64 from the start: the square of a large float32 is no float32.
    const auto square = [](T v) { return static_cast<double>(v) * static_cast<double>(v); };
    parallel::ranges(ctx.threads, chunks, max(1, kGrain / kChunk), [=](int64_t begin, int64_t end, int) {
      for (int64_t c = begin; c < end; ++c) {
        const T* part = in + c * kChunk;
        partial[c] = lane_sum<double>(min(kChunk, n - c * kChunk), [&](int64_t i) { return square(part[i]); });
      }
    });
  });
  double total = 0;
  for (int64_t c = 0; c < chunks; ++c) total += partial[c];
  *sum = total;
}

void clip(Context& ctx, DType dtype, int64_t n, double scale, double limit, void* x) {
  for_float(dtype, [&](auto t) {
    using T = decltype(t);
    T* values = static_cast<T*>(x);
    const T factor = static_cast<T>(scale), high = static_cast<T>(limit), low = -high;
    parallel::ranges(ctx.threads, n, kGrain, [=](int64_t begin, int64_t end, int) {
#pragma GCC ivdep
      for (int64_t i = begin; i < end; ++i) {
        const T v = values[i] * factor;
        values[i] = v > high ? high : v < low ? low : v;
      }
    });
  });
}

}  // namespace mica::kernels::cpu::MICA_CPU_LEVEL
