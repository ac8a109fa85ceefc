// The cells of recurrent networks: what one unit of one row does in a step, and its gradient. RecurrentArgs
// (kernels/args.h) has the equations; an argument z is the projection of x and a that of the state before, which come
// as sums where nothing stands between. The CUDA kernels call them. They are free of branches, so that loops over
// units may too.
#pragma once

#include "mica/ops/scalar.h"

namespace mica::kernels::cell {

template <class T>
MICA_HD T sigmoid(T x) {
  return scalar::Sigmoid::forward(x);
}

// Hochreiter, Schmidhuber, "Long short-term memory", Neural Computation 9, 1997, with the forget gate of Gers,
// Schmidhuber, Cummins, Neural Computation 12, 2000.
template <class T>
struct Lstm {
  T i, f, g, o;
  T c, h;  // the next states
};

template <class T>
MICA_HD Lstm<T> lstm(T i_sum, T f_sum, T g_sum, T o_sum, T c) {
  const T i = sigmoid(i_sum), f = sigmoid(f_sum);
  const T g = math::tanh(g_sum), o = sigmoid(o_sum);
  const T next = f * c + i * g;
  return {i, f, g, o, next, o * math::tanh(next)};
}

template <class T>
struct LstmGradient {
  T i, f, g, o;  // of the gates before their functions
  T c;           // of the state c before
};

// `c` is the state after the step, dh and dc are the gradients of the states after it.
template <class T>
MICA_HD LstmGradient<T> lstm_gradient(T i, T f, T g, T o, T c, T c_before, T dh, T dc) {
  const T th = math::tanh(c), dcell = dc + dh * o * (T(1) - th * th);
  return {dcell * g * i * (T(1) - i), dcell * c_before * f * (T(1) - f), dcell * i * (T(1) - g * g),
          dh * th * o * (T(1) - o), dcell * f};
}

// Cho et al., "Learning phrase representations using RNN encoder-decoder for statistical machine translation", EMNLP
// 2014: the candidate, once the gates are known, and the next state.
template <class T>
MICA_HD T gru_candidate_after(T z, T a, T reset) {
  return math::tanh(z + reset * a);
}
template <class T>
MICA_HD T gru_state(T update, T candidate, T h) {
  return candidate + update * (h - candidate);
}

template <class T>
struct GruGradient {
  T update, candidate;  // of the gates before their functions
  T h;                  // of the state before, but for what comes through the gates
};

// dh: the gradient of the state after the step.
template <class T>
MICA_HD GruGradient<T> gru_gradient(T update, T candidate, T h_before, T dh) {
  return {dh * (h_before - candidate) * update * (T(1) - update), dh * (T(1) - update) * (T(1) - candidate * candidate),
          dh * update};
}
// The gradient of the reset gate before its function, from that of what it multiplied and x, which that was.
template <class T>
MICA_HD T gru_reset_gradient(T reset, T x, T d) {
  return d * x * reset * (T(1) - reset);
}

}  // namespace mica::kernels::cell
