// Recurrent networks: a sequence in one call. RecurrentArgs (kernels/args.h) has the contract; the gradient is in
// recurrent_gradient.cu.
#include "cuda/recurrent_step.h"

namespace mica::kernels::MICA_CUDA_BACKEND {

namespace {

using namespace recurrent_unit;

template <class First, class Second = NoCell, class T>
void run_forward(Context& ctx, const RecurrentArgs& args, const Forward<T>& forward, T* h, std::type_identity_t<T>* c) {
  const T* const u = static_cast<const T*>(args.u);
  const int units = forward.h, ld = to_int(gates_of(args.kind)) * units;
  Run<T, First, Second> run;
  run.batch = args.b;
  run.h = units;
  static_cast<Forward<T>&>(run.first) = forward;
  run.first_weights = {u, ld, units, units, false};
  if constexpr (kTwoPhases<Second>) {
    static_cast<Forward<T>&>(run.second) = forward;
    run.second_weights = {u + 2 * units, ld, units, units, false};
  }
  run.state_h = h;
  run.state_c = c;
  run.operand = h;
  run.drop = forward.drop;
  run_sequence(ctx, run);
}

}  // namespace

void recurrent(Context& ctx, const RecurrentArgs& args, void* gates, void* y, void* inner, void* h, void* c) {
  if (args.b == 0 || args.t == 0 || args.h == 0) return;
  for_float(args.dtype, [&](auto t) {
    using T = decltype(t);
    Forward<T> forward;
    forward.sequence = {args.t, args.reverse};
    forward.h = to_int(args.h);
    forward.mask = args.mask;
    forward.drop = static_cast<const T*>(args.drop);
    forward.bias = static_cast<const T*>(args.bias);
    forward.gates = static_cast<T*>(gates);
    forward.y = static_cast<T*>(y);
    forward.inner = static_cast<T*>(inner);
    forward.activation = args.activation;
    T* const state = static_cast<T*>(h);
    switch (args.kind) {
      case RecurrentKind::rnn: return run_forward<RnnCell<T>>(ctx, args, forward, state, nullptr);
      case RecurrentKind::lstm: return run_forward<LstmCell<T>>(ctx, args, forward, state, static_cast<T*>(c));
      case RecurrentKind::gru:
        if (args.reset_after) return run_forward<GruCell<T>>(ctx, args, forward, state, nullptr);
        return run_forward<GruGates<T>, GruCandidate<T>>(ctx, args, forward, state, nullptr);
    }
  });
}

}  // namespace mica::kernels::MICA_CUDA_BACKEND
