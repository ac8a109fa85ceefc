// Updates of parameters, their clipping, and the sum of squares that it goes by: one pass over flat memory.
#include <cmath>

#include "cuda/reduce.h"

namespace mica::kernels::MICA_CUDA_BACKEND {

namespace {

constexpr int kThreads = 256;

template <class T>
constexpr int kPack = 16 / sizeof(T);

template <int width, class T>
MICA_DEVICE Pack<T, width>& pack_at(T* data, int64_t at) {
  return *reinterpret_cast<Pack<T, width>*>(data + at);
}
template <int width, class T>
MICA_DEVICE const Pack<T, width>& pack_at(const T* data, int64_t at) {
  return *reinterpret_cast<const Pack<T, width>*>(data + at);
}

// update.apply<width>(at) for all of n elements, in packs of `width` and what is left one by one.
template <int width, class Update>
MICA_KERNEL(kThreads)
void update_kernel(const Update update, const int64_t n) {
  const int64_t at = (int64_t{block_index().x} * kThreads + thread_index().x) * width;
  if (at + width <= n) {
    update.template apply<width>(at);
  } else {
    for (int64_t i = at; i < n; ++i) update.template apply<1>(i);
  }
}

template <class Update>
void launch_update(Context& ctx, const Update& update, int64_t n, bool aligned) {
  constexpr int kWidth = kPack<typename Update::Value>;
  if (aligned)
    launch(update_kernel<kWidth, Update>, ceil_div(n, kThreads * kWidth), {kThreads}, 0, ctx.stream, update, n);
  else
    launch(update_kernel<1, Update>, ceil_div(n, kThreads), {kThreads}, 0, ctx.stream, update, n);
}

// Null is as aligned as can be.
template <class... Data>
bool all_aligned(Data... data) {
  return (is_aligned(16, data) && ...);
}

template <class T>
struct AdamUpdate {
  using Value = T;
  T beta1, beta2, rest1, rest2, step, scale, epsilon, decay, kept;
  const T* g;
  T *w, *m, *v;

  template <int width>
  MICA_DEVICE void apply(int64_t at) const {
    const auto gradient = pack_at<width>(g, at);
    auto weight = pack_at<width>(w, at), first = pack_at<width>(m, at), second = pack_at<width>(v, at);
    MICA_UNROLL
    for (int i = 0; i < width; ++i) {
      const T d = gradient.v[i] + decay * weight.v[i];
      first.v[i] = beta1 * first.v[i] + rest1 * d;
      second.v[i] = beta2 * second.v[i] + rest2 * d * d;
      weight.v[i] = kept * weight.v[i] - step * first.v[i] / (math::sqrt(second.v[i]) * scale + epsilon);
    }
    pack_at<width>(w, at) = weight;
    pack_at<width>(m, at) = first;
    pack_at<width>(v, at) = second;
  }
};

template <class T, bool kMoving>
struct SgdUpdate {
  using Value = T;
  T rate, decay, momentum;
  bool nesterov;
  const T* g;
  T *w, *velocity;

  template <int width>
  MICA_DEVICE void apply(int64_t at) const {
    const auto gradient = pack_at<width>(g, at);
    auto weight = pack_at<width>(w, at);
    Pack<T, width> speed = {};
    if constexpr (kMoving) speed = pack_at<width>(velocity, at);
    MICA_UNROLL
    for (int i = 0; i < width; ++i) {
      const T d = gradient.v[i] + decay * weight.v[i];
      if constexpr (kMoving) {
        speed.v[i] = momentum * speed.v[i] + d;
        weight.v[i] -= rate * (nesterov ? d + momentum * speed.v[i] : speed.v[i]);
      } else {
        weight.v[i] -= rate * d;
      }
    }
    pack_at<width>(w, at) = weight;
    if constexpr (kMoving) pack_at<width>(velocity, at) = speed;
  }
};

template <class T, bool kCentered, bool kMoving>
struct RmspropUpdate {
  using Value = T;
  T alpha, rest, rate, epsilon, decay, momentum;
  const T* g;
  T *w, *square, *mean, *velocity;

  template <int width>
  MICA_DEVICE void apply(int64_t at) const {
    const auto gradient = pack_at<width>(g, at);
    auto weight = pack_at<width>(w, at), squares = pack_at<width>(square, at);
    Pack<T, width> means = {}, speed = {};
    if constexpr (kCentered) means = pack_at<width>(mean, at);
    if constexpr (kMoving) speed = pack_at<width>(velocity, at);
    MICA_UNROLL
    for (int i = 0; i < width; ++i) {
      const T d = gradient.v[i] + decay * weight.v[i];
      squares.v[i] = alpha * squares.v[i] + rest * d * d;
      T spread = squares.v[i];
      if constexpr (kCentered) {
        means.v[i] = alpha * means.v[i] + rest * d;
        spread -= means.v[i] * means.v[i];
        spread = spread > T(0) ? spread : spread == spread ? T(0) : spread;  // rounding may bring it below 0
      }
      T move = d / (math::sqrt(spread) + epsilon);
      if constexpr (kMoving) move = speed.v[i] = momentum * speed.v[i] + move;
      weight.v[i] -= rate * move;
    }
    pack_at<width>(w, at) = weight;
    pack_at<width>(square, at) = squares;
    if constexpr (kCentered) pack_at<width>(mean, at) = means;
    if constexpr (kMoving) pack_at<width>(velocity, at) = speed;
  }
};

template <class T>
struct Clip {
  using Value = T;
  T factor, limit;
  T* x;

  template <int width>
  MICA_DEVICE void apply(int64_t at) const {
    auto values = pack_at<width>(x, at);
    MICA_UNROLL
    for (int i = 0; i < width; ++i) {
      const T v = values.v[i] * factor;
      values.v[i] = v > limit ? limit : v < -limit ? -limit : v;
    }
    pack_at<width>(x, at) = values;
  }
};

}  // namespace

void adam(Context& ctx, const AdamArgs& args, const void* g, void* w, void* m, void* v) {
  if (args.n == 0) return;
  for_float(args.dtype, [&](auto t) {
    using T = decltype(t);
    AdamUpdate<T> update{};
    update.beta1 = static_cast<T>(args.beta1);
    update.beta2 = static_cast<T>(args.beta2);
    update.rest1 = static_cast<T>(1 - args.beta1);
    update.rest2 = static_cast<T>(1 - args.beta2);
    update.step = static_cast<T>(args.learning_rate / args.bias_correction1);
    update.scale = static_cast<T>(1 / std::sqrt(args.bias_correction2));
    update.epsilon = static_cast<T>(args.epsilon);
    update.decay = static_cast<T>(args.decoupled ? 0 : args.weight_decay);
    update.kept = static_cast<T>(args.decoupled ? 1 - args.learning_rate * args.weight_decay : 1);
    update.g = static_cast<const T*>(g);
    update.w = static_cast<T*>(w);
    update.m = static_cast<T*>(m);
    update.v = static_cast<T*>(v);
    launch_update(ctx, update, args.n, all_aligned(g, w, m, v));
  });
}

void sgd(Context& ctx, const SgdArgs& args, const void* g, void* w, void* velocity) {
  if (args.n == 0) return;
  for_float(args.dtype, [&](auto t) {
    using T = decltype(t);
    for_bool(velocity != nullptr, [&](auto moving) {
      const SgdUpdate<T, moving.value> update{static_cast<T>(args.learning_rate), static_cast<T>(args.weight_decay),
                                              static_cast<T>(args.momentum),      args.nesterov,
                                              static_cast<const T*>(g),           static_cast<T*>(w),
                                              static_cast<T*>(velocity)};
      launch_update(ctx, update, args.n, all_aligned(g, w, velocity));
    });
  });
}

void rmsprop(Context& ctx, const RmspropArgs& args, const void* g, void* w, void* square, void* mean, void* velocity) {
  if (args.n == 0) return;
  for_float(args.dtype, [&](auto t) {
    using T = decltype(t);
    for_bool(mean != nullptr, [&](auto centered) {
      for_bool(velocity != nullptr, [&](auto moving) {
        const RmspropUpdate<T, centered.value, moving.value> update{static_cast<T>(args.alpha),
                                                                    static_cast<T>(1 - args.alpha),
                                                                    static_cast<T>(args.learning_rate),
                                                                    static_cast<T>(args.epsilon),
                                                                    static_cast<T>(args.weight_decay),
                                                                    static_cast<T>(args.momentum),
                                                                    static_cast<const T*>(g),
                                                                    static_cast<T*>(w),
                                                                    static_cast<T*>(square),
                                                                    static_cast<T*>(mean),
                                                                    static_cast<T*>(velocity)};
        launch_update(ctx, update, args.n, all_aligned(g, w, square, mean, velocity));
      });
    });
  });
}

namespace {

/// Squares in float64 from the start: that of a large float32 is no float32.
template <class T>
struct Squares {
  const T* x;

  template <int width>
  MICA_DEVICE Pack<T, width> fetch(int64_t at) const {
    return pack_at<width>(x, at);
  }
  template <int width>
  MICA_DEVICE Pack<double, width> values(const Pack<T, width>& fetched, int64_t) const {
    Pack<double, width> squares;
    MICA_UNROLL
    for (int j = 0; j < width; ++j) {
      const double v = static_cast<double>(fetched.v[j]);
      squares.v[j] = v * v;
    }
    return squares;
  }
  bool aligned(int width) const { return is_aligned(width * sizeof(T), x); }
};

}  // namespace

void sum_squares(Context& ctx, DType dtype, int64_t n, const void* x, double* sum) {
  for_float(dtype, [&](auto t) {
    using T = decltype(t);
    reduce_rows(ctx, {.dtype = dtype, .outer = 1, .n = n, .inner = 1}, Sum<double>{},
                Squares<T>{static_cast<const T*>(x)}, sum);
  });
}

void clip(Context& ctx, DType dtype, int64_t n, double scale, double limit, void* x) {
  if (n == 0) return;
  for_float(dtype, [&](auto t) {
    using T = decltype(t);
    launch_update(ctx, Clip<T>{static_cast<T>(scale), static_cast<T>(limit), static_cast<T*>(x)}, n, all_aligned(x));
  });
}

}  // namespace mica::kernels::MICA_CUDA_BACKEND
