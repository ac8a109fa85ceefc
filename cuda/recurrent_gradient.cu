// The gradient of recurrent networks, but for that of the weights, which are products over all steps at once.
#include "cuda/recurrent_step.h"

namespace mica::kernels::MICA_CUDA_BACKEND {

namespace {

using namespace recurrent_unit;

template <class First, class Second = NoCell, class T>
void run_gradient(Context& ctx, const RecurrentArgs& args, const Gradient<T>& gradient, T* dh,
                  std::type_identity_t<T>* dc) {
  const T* const u = static_cast<const T*>(args.u);
  const int units = gradient.h, ld = to_int(gates_of(args.kind)) * units;
  Run<T, First, Second> run;
  run.batch = args.b;
  run.h = units;
  static_cast<Gradient<T>&>(run.first) = gradient;
  run.first_weights = {u, ld, ld, units, true};
  if constexpr (kTwoPhases<Second>) {  // the gates z and r; n
    run.first_weights.depth = 2 * units;
    static_cast<Gradient<T>&>(run.second) = gradient;
    run.second_weights = {u + 2 * units, ld, units, units, true};
  }
  run.state_h = dh;
  run.state_c = dc;
  run_sequence(ctx, run);
}

}  // namespace

void recurrent_gradient(Context& ctx, const RecurrentArgs& args, const void* gates, const void* y, const void* inner,
                        const void* h0, const void* c0, const void* dy, void* dh, void* dc, void* dz, void* da,
                        void* previous) {
  if (args.b == 0 || args.t == 0 || args.h == 0) return;
  for_float(args.dtype, [&](auto t) {
    using T = decltype(t);
    Gradient<T> gradient;
    gradient.sequence = {args.t, args.reverse};
    gradient.h = to_int(args.h);
    gradient.mask = args.mask;
    gradient.drop = static_cast<const T*>(args.drop);
    gradient.gates = static_cast<const T*>(gates);
    gradient.y = static_cast<const T*>(y);
    gradient.inner = static_cast<const T*>(inner);
    gradient.h0 = static_cast<const T*>(h0);
    gradient.c0 = static_cast<const T*>(c0);
    gradient.dy = static_cast<const T*>(dy);
    gradient.dz = static_cast<T*>(dz);
    gradient.da = static_cast<T*>(da);
    gradient.previous = static_cast<T*>(previous);
    gradient.activation = args.activation;
    T* const state = static_cast<T*>(dh);
    switch (args.kind) {
      case RecurrentKind::rnn: return run_gradient<RnnGradientCell<T>>(ctx, args, gradient, state, nullptr);
      case RecurrentKind::lstm:
        return run_gradient<LstmGradientCell<T>>(ctx, args, gradient, state, static_cast<T*>(dc));
      case RecurrentKind::gru:
        if (args.reset_after) return run_gradient<GruGradientCell<T>>(ctx, args, gradient, state, nullptr);
        return run_gradient<GruCandidateGradient<T>, GruResetGradient<T>>(ctx, args, gradient, state, nullptr);
    }
  });
}

}  // namespace mica::kernels::MICA_CUDA_BACKEND
