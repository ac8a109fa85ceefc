// What one unit of one row does in a step of a recurrent network, with the memory around it: the formulas of
// kernels/recurrent_cell.h, what they read of the step and what they write. The two ways through a sequence
// (recurrent_step.h, recurrent_row.h) run these.
//
// A step is a phase or two, each a product of an operand, a row of values for each row of the batch, with columns of u,
// and then a cell:
//   kUnits, kGates       a group of columns, four at most, holds kGates columns of kUnits units each
//   Input load(at, t)    what a unit reads of step t: independent of what the phases of the step compute
//   run(at, t, in, a[kGates], state, feed)   takes the products a; feed(operand, k, value) writes a row's next operand
// The first phase multiplies operand 0, the second operand 1.
#pragma once

#include "cuda/common.h"
#include "kernels/args.h"
#include "kernels/recurrent_cell.h"

namespace mica::kernels::MICA_CUDA_BACKEND::recurrent_unit {

/// A row of the batch and a unit.
struct Place {
  int64_t row = 0;
  int unit = 0;
};

/// A step, in the order of the computation.
struct Step {
  int64_t t = 0;          // where it stands in the sequence
  int64_t before = -1;    // of a gradient: the step whose states it began with; -1: the first states
  bool finished = false;  // of a gradient: no step, but the gradient of the first states
};

struct Sequence {
  int64_t steps = 0;
  bool reverse = false;

  MICA_HD Step forward(int64_t s) const { return {reverse ? steps - 1 - s : s, -1, false}; }
  /// s = steps is what comes after the last one.
  MICA_HD Step gradient(int64_t s) const {
    const int64_t t = reverse ? s : steps - 1 - s;
    return {t, s + 1 >= steps ? -1 : reverse ? t + 1 : t - 1, s == steps};
  }
};

/// What a unit keeps from one step to the next: h and c; of a gradient, that of h without what goes through u, that of
/// c. Gru keeps in c what goes from one phase to another.
template <class T>
struct State {
  T h, c;
};

// ---- Forward ----

template <class T>
struct Forward {
  Sequence sequence;
  int h = 0;
  const uint8_t* mask = nullptr;
  const T *drop = nullptr, *bias = nullptr;
  T *gates = nullptr, *y = nullptr, *inner = nullptr;
  UnaryOp activation = UnaryOp::tanh;

  static constexpr int kRowThreads = sizeof(T) == 4 ? 640 : 384;  // that a block of recurrent_row.h has at most

  MICA_HD int64_t count() const { return sequence.steps; }
  MICA_HD Step step(int64_t s) const { return sequence.forward(s); }

  MICA_DEVICE int64_t row_of(Place at, Step s) const { return at.row * sequence.steps + s.t; }
  MICA_DEVICE int64_t state_of(Place at, Step s) const { return row_of(at, s) * h + at.unit; }
  MICA_DEVICE bool masked(Place at, Step s) const { return mask && !mask[row_of(at, s)]; }
  MICA_DEVICE T dropping(Place at) const { return drop ? drop[at.row * h + at.unit] : T(1); }
};

template <class T>
struct RnnCell : Forward<T> {
  static constexpr int kUnits = 4, kGates = 1;
  struct Input {
    T z, drop;
    bool masked;
  };

  MICA_DEVICE Input load(Place at, Step s) const {
    return {this->gates[this->state_of(at, s)], this->dropping(at), this->masked(at, s)};
  }
  template <class Feed>
  MICA_DEVICE void run(Place at, Step s, const Input& in, const T (&a)[kGates], State<T>& state,
                       const Feed& feed) const {
    if (!in.masked) switch (this->activation) {
#define MICA_CASE(function, Functor) \
  case UnaryOp::function: state.h = scalar::Functor::forward(in.z + a[0]); break;
        MICA_FUSED_OPS(MICA_CASE)
#undef MICA_CASE
        default: break;
      }
    this->y[this->state_of(at, s)] = state.h;
    feed(0, at.unit, state.h * in.drop);
  }
};

template <class T>
struct LstmCell : Forward<T> {
  static constexpr int kUnits = 1, kGates = 4;
  struct Input {
    T z[kGates], drop;
    bool masked;
  };

  MICA_DEVICE Input load(Place at, Step s) const {
    const T* const z = this->gates + this->row_of(at, s) * kGates * this->h + at.unit;
    return {{z[0], z[this->h], z[2 * this->h], z[3 * this->h]}, this->dropping(at), this->masked(at, s)};
  }
  template <class Feed>
  MICA_DEVICE void run(Place at, Step s, const Input& in, const T (&a)[kGates], State<T>& state,
                       const Feed& feed) const {
    if (!in.masked) {
      const cell::Lstm<T> r = cell::lstm(in.z[0] + a[0], in.z[1] + a[1], in.z[2] + a[2], in.z[3] + a[3], state.c);
      T* const z = this->gates + this->row_of(at, s) * kGates * this->h + at.unit;
      z[0] = r.i;
      z[this->h] = r.f;
      z[2 * this->h] = r.g;
      z[3 * this->h] = r.o;
      state = {r.h, r.c};
    }
    this->y[this->state_of(at, s)] = state.h;
    this->inner[this->state_of(at, s)] = state.c;
    feed(0, at.unit, state.h * in.drop);
  }
};

template <class T>
struct GruCell : Forward<T> {  // with reset_after
  static constexpr int kUnits = 1, kGates = 3;
  static constexpr int kRowThreads = sizeof(T) == 4 ? 512 : 384;
  struct Input {
    T z[kGates], drop;
    bool masked;
  };

  MICA_DEVICE Input load(Place at, Step s) const {
    const T* const z = this->gates + this->row_of(at, s) * kGates * this->h + at.unit;
    return {{z[0], z[this->h], z[2 * this->h]}, this->dropping(at), this->masked(at, s)};
  }
  template <class Feed>
  MICA_DEVICE void run(Place at, Step s, const Input& in, const T (&a)[kGates], State<T>& state,
                       const Feed& feed) const {
    T inside = T(0);  // where it is masked, the gradient multiplies it with 0
    if (!in.masked) {
      const auto biased = [&](int gate) {
        return this->bias ? a[gate] + this->bias[gate * this->h + at.unit] : a[gate];
      };
      const T update = cell::sigmoid(in.z[0] + biased(0)), reset = cell::sigmoid(in.z[1] + biased(1));
      inside = biased(2);
      const T candidate = cell::gru_candidate_after(in.z[2], inside, reset);
      T* const z = this->gates + this->row_of(at, s) * kGates * this->h + at.unit;
      z[0] = update;
      z[this->h] = reset;
      z[2 * this->h] = candidate;
      state.h = cell::gru_state(update, candidate, state.h);
    }
    this->y[this->state_of(at, s)] = state.h;
    this->inner[this->state_of(at, s)] = inside;
    feed(0, at.unit, state.h * in.drop);
  }
};

// The two phases of the other gru: the gates, then the candidate. The update gate waits in state.c.
template <class T>
struct GruGates : Forward<T> {
  static constexpr int kUnits = 2, kGates = 2;
  static constexpr int kRowThreads = sizeof(T) == 4 ? 512 : 384;
  struct Input {
    T z[kGates], drop;
    bool masked;
  };

  MICA_DEVICE Input load(Place at, Step s) const {
    const T* const z = this->gates + this->row_of(at, s) * 3 * this->h + at.unit;
    return {{z[0], z[this->h]}, this->dropping(at), this->masked(at, s)};
  }
  template <class Feed>
  MICA_DEVICE void run(Place at, Step s, const Input& in, const T (&a)[kGates], State<T>& state,
                       const Feed& feed) const {
    T inside = T(0);
    if (!in.masked) {
      const T update = cell::sigmoid(in.z[0] + a[0]), reset = cell::sigmoid(in.z[1] + a[1]);
      T* const z = this->gates + this->row_of(at, s) * 3 * this->h + at.unit;
      z[0] = update;
      z[this->h] = reset;
      inside = reset * (state.h * in.drop);
      state.c = update;
    }
    this->inner[this->state_of(at, s)] = inside;
    feed(1, at.unit, inside);
  }
};

template <class T>
struct GruCandidate : Forward<T> {
  static constexpr int kUnits = 4, kGates = 1;
  struct Input {
    T z, drop;
    bool masked;
  };

  MICA_DEVICE Input load(Place at, Step s) const {
    return {this->gates[(this->row_of(at, s) * 3 + 2) * this->h + at.unit], this->dropping(at), this->masked(at, s)};
  }
  template <class Feed>
  MICA_DEVICE void run(Place at, Step s, const Input& in, const T (&a)[kGates], State<T>& state,
                       const Feed& feed) const {
    if (!in.masked) {
      const T candidate = math::tanh(in.z + a[0]);
      this->gates[(this->row_of(at, s) * 3 + 2) * this->h + at.unit] = candidate;
      state.h = cell::gru_state(state.c, candidate, state.h);
    }
    this->y[this->state_of(at, s)] = state.h;
    feed(0, at.unit, state.h * in.drop);
  }
};

// ---- Gradient ----

// The product is that of the gradient of a, of the step that came before in this order, with u transposed: what of dh
// came through u. So a phase begins with the end of a step and goes on with the next one.
template <class T>
struct Gradient {
  Sequence sequence;
  int h = 0;
  const uint8_t* mask = nullptr;
  const T* drop = nullptr;
  const T *gates = nullptr, *y = nullptr, *inner = nullptr, *h0 = nullptr, *c0 = nullptr, *dy = nullptr;
  T *dz = nullptr, *da = nullptr, *previous = nullptr;
  UnaryOp activation = UnaryOp::tanh;

  static constexpr int kUnits = 4, kGates = 1;
  static constexpr int kRowThreads = sizeof(T) == 4 ? 512 : 384;

  MICA_HD int64_t count() const { return sequence.steps + 1; }
  MICA_HD Step step(int64_t s) const { return sequence.gradient(s); }

  MICA_DEVICE int64_t row_of(Place at, Step s) const { return at.row * sequence.steps + s.t; }
  MICA_DEVICE int64_t state_of(Place at, Step s) const { return row_of(at, s) * h + at.unit; }
  MICA_DEVICE bool masked(Place at, Step s) const { return mask && !mask[row_of(at, s)]; }
  MICA_DEVICE T dropping(Place at) const { return drop ? drop[at.row * h + at.unit] : T(1); }
  MICA_DEVICE T before(Place at, Step s, const T* first, const T* states) const {
    return s.before < 0 ? first[at.row * h + at.unit] : states[(at.row * sequence.steps + s.before) * h + at.unit];
  }

  /// What each cell reads; where there is no step, the drop alone.
  struct Common {
    T h = T(0), dy = T(0), drop = T(1);
    bool masked = true;
  };
  MICA_DEVICE Common common(Place at, Step s) const {
    Common in;
    in.drop = dropping(at);
    if (s.finished) return in;
    in.h = before(at, s, h0, y);
    if (dy) in.dy = dy[state_of(at, s)];
    in.masked = masked(at, s);
    return in;
  }
  /// The gradient of the state after the step, from what came through u, `through`, and what did not.
  MICA_DEVICE T arrive(Place at, Step s, const Common& in, T direct, T through) const {
    const T d = direct + through * in.drop;
    if (s.finished) return d;
    previous[state_of(at, s)] = in.h * in.drop;
    return d + in.dy;
  }
};

template <class T>
struct RnnGradientCell : Gradient<T> {
  struct Input {
    typename Gradient<T>::Common common;
    T y;
  };

  MICA_DEVICE Input load(Place at, Step s) const {
    return {this->common(at, s), s.finished ? T(0) : this->y[this->state_of(at, s)]};
  }
  template <class Feed>
  MICA_DEVICE void run(Place at, Step s, const Input& in, const T (&a)[1], State<T>& state, const Feed& feed) const {
    const T d = this->arrive(at, s, in.common, state.h, a[0]);
    state.h = in.common.masked ? d : T(0);
    if (s.finished) return;
    T before_function = T(0);
    if (!in.common.masked) switch (this->activation) {
#define MICA_CASE(function, Functor) \
  case UnaryOp::function: before_function = d * scalar::Functor::derivative(in.y); break;
        MICA_FUSED_OPS(MICA_CASE)
#undef MICA_CASE
        default: break;
      }
    this->dz[this->state_of(at, s)] = before_function;
    feed(0, at.unit, before_function);
  }
};

template <class T>
struct LstmGradientCell : Gradient<T> {
  struct Input {
    typename Gradient<T>::Common common;
    T gate[4], c, c_before;
  };

  MICA_DEVICE Input load(Place at, Step s) const {
    Input in = {this->common(at, s), {}, T(0), T(0)};
    if (s.finished) return in;
    const T* const gate = this->gates + this->row_of(at, s) * 4 * this->h + at.unit;
    MICA_UNROLL
    for (int g = 0; g < 4; ++g) in.gate[g] = gate[g * this->h];
    in.c = this->inner[this->state_of(at, s)];
    in.c_before = this->before(at, s, this->c0, this->inner);
    return in;
  }
  template <class Feed>
  MICA_DEVICE void run(Place at, Step s, const Input& in, const T (&a)[1], State<T>& state, const Feed& feed) const {
    const T d = this->arrive(at, s, in.common, state.h, a[0]);
    state.h = in.common.masked ? d : T(0);
    if (s.finished) return;
    cell::LstmGradient<T> r = {T(0), T(0), T(0), T(0), state.c};
    if (!in.common.masked)
      r = cell::lstm_gradient(in.gate[0], in.gate[1], in.gate[2], in.gate[3], in.c, in.c_before, d, state.c);
    state.c = r.c;
    const T gradients[] = {r.i, r.f, r.g, r.o};
    T* const out = this->dz + this->row_of(at, s) * 4 * this->h + at.unit;
    MICA_UNROLL
    for (int g = 0; g < 4; ++g) {
      out[g * this->h] = gradients[g];
      feed(0, g * this->h + at.unit, gradients[g]);
    }
  }
};

template <class T>
struct GruGradientCell : Gradient<T> {  // with reset_after
  struct Input {
    typename Gradient<T>::Common common;
    T update, reset, candidate, inner;
  };

  MICA_DEVICE Input load(Place at, Step s) const {
    Input in = {this->common(at, s), T(0), T(0), T(0), T(0)};
    if (s.finished) return in;
    const T* const gate = this->gates + this->row_of(at, s) * 3 * this->h + at.unit;
    in.update = gate[0];
    in.reset = gate[this->h];
    in.candidate = gate[2 * this->h];
    in.inner = this->inner[this->state_of(at, s)];
    return in;
  }
  template <class Feed>
  MICA_DEVICE void run(Place at, Step s, const Input& in, const T (&a)[1], State<T>& state, const Feed& feed) const {
    const T d = this->arrive(at, s, in.common, state.h, a[0]);
    state.h = d;
    if (s.finished) return;
    T gradients[3] = {}, last = T(0);
    if (!in.common.masked) {
      const cell::GruGradient<T> r = cell::gru_gradient(in.update, in.candidate, in.common.h, d);
      gradients[0] = r.update;
      gradients[1] = cell::gru_reset_gradient(in.reset, in.inner, r.candidate);
      gradients[2] = r.candidate;
      last = r.candidate * in.reset;
      state.h = r.h;
    }
    const int64_t first = this->row_of(at, s) * 3 * this->h + at.unit;
    MICA_UNROLL
    for (int g = 0; g < 3; ++g) {
      const T through = g < 2 ? gradients[g] : last;
      this->dz[first + g * this->h] = gradients[g];
      if (this->da) this->da[first + g * this->h] = through;
      feed(0, g * this->h + at.unit, through);
    }
  }
};

// The two phases of the other gru: from the end of a step to the next one's candidate, whose product gives the gradient
// of the reset state; then the reset gate. What the reset state passes on without another product waits in state.c.
template <class T>
struct GruCandidateGradient : Gradient<T> {
  struct Input {
    typename Gradient<T>::Common common;
    T update, candidate;
  };

  MICA_DEVICE Input load(Place at, Step s) const {
    Input in = {this->common(at, s), T(0), T(0)};
    if (s.finished) return in;
    const T* const gate = this->gates + this->row_of(at, s) * 3 * this->h + at.unit;
    in.update = gate[0];
    in.candidate = gate[2 * this->h];
    return in;
  }
  template <class Feed>
  MICA_DEVICE void run(Place at, Step s, const Input& in, const T (&a)[1], State<T>& state, const Feed& feed) const {
    const T d = this->arrive(at, s, in.common, state.h, state.c + a[0]);
    cell::GruGradient<T> r = {T(0), T(0), d};
    if (!in.common.masked) r = cell::gru_gradient(in.update, in.candidate, in.common.h, d);
    state.h = r.h;
    if (s.finished) return;
    T* const out = this->dz + this->row_of(at, s) * 3 * this->h + at.unit;
    out[0] = r.update;
    out[2 * this->h] = r.candidate;
    feed(0, at.unit, r.update);
    feed(1, at.unit, r.candidate);
  }
};

template <class T>
struct GruResetGradient : Gradient<T> {
  struct Input {
    T reset, in;
    bool masked;
  };

  MICA_DEVICE Input load(Place at, Step s) const {
    if (s.finished) return {T(0), T(0), true};
    return {this->gates[(this->row_of(at, s) * 3 + 1) * this->h + at.unit],
            this->before(at, s, this->h0, this->y) * this->dropping(at), this->masked(at, s)};
  }
  template <class Feed>
  MICA_DEVICE void run(Place at, Step s, const Input& in, const T (&a)[1], State<T>& state, const Feed& feed) const {
    const T reset = in.masked ? T(0) : cell::gru_reset_gradient(in.reset, in.in, a[0]);
    state.c = in.masked ? a[0] : a[0] * in.reset;
    this->dz[(this->row_of(at, s) * 3 + 1) * this->h + at.unit] = reset;
    feed(0, this->h + at.unit, reset);
  }
};

/// Instead of a second phase.
struct NoCell {
  static constexpr int kUnits = 4, kGates = 1;
  struct Input {};
};

// ---- Columns of u ----

/// The columns of u that a phase multiplies with, or their transpose, by groups of four.
template <class T>
struct Weights {
  const T* u = nullptr;  // its first column
  int ld = 0;
  int depth = 0;  // the rows: what the operand is long
  int units = 0;
  bool transposed = false;

  MICA_HD int depth4() const { return (depth + 3) / 4; }
  template <class Cell>
  MICA_HD int groups() const {
    return (units + Cell::kUnits - 1) / Cell::kUnits;
  }
  /// Row k of a group: zeros beyond the edges.
  template <class Cell>
  MICA_DEVICE Vector4<T> group(int k, int index) const {
    Vector4<T> row;
    MICA_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int unit = index * Cell::kUnits + i / Cell::kGates, gate = i % Cell::kGates;
      const bool exists = i < Cell::kUnits * Cell::kGates && k < depth && unit < units;
      const int64_t at = transposed ? int64_t{unit} * ld + k : int64_t{k} * ld + gate * units + unit;
      row.v[i] = exists ? u[at] : T(0);
    }
    return row;
  }
};

/// The products of all steps are summed in the same order: kParts parts of the depth, each of depth_of_part() times
/// four values, from the first to the last, and then the parts.
inline constexpr int kParts = 8;
MICA_HD constexpr int depth_of_part(int depth4) { return (depth4 + kParts - 1) / kParts; }

/// sum[4] += x[4] w[4][4], a group's four rows.
template <int kColumns, class T>
MICA_DEVICE void multiply(const Vector4<T>& x, const Vector4<T> (&w)[4], T (&sum)[4]) {
  MICA_UNROLL
  for (int k = 0; k < 4; ++k) {
    MICA_UNROLL
    for (int column = 0; column < kColumns; ++column) sum[column] += x.v[k] * w[k].v[column];
  }
}

/// Four values of the operand that a sequence begins with: h * drop, or without an h zeros.
template <class T>
MICA_DEVICE Vector4<T> first_operand(const T* h, const T* drop, int units, int64_t row, int k4) {
  Vector4<T> x;
  MICA_UNROLL
  for (int i = 0; i < 4; ++i) {
    const int unit = 4 * k4 + i;
    const int64_t at = row * units + unit;
    x.v[i] = h && unit < units ? (drop ? h[at] * drop[at] : h[at]) : T(0);
  }
  return x;
}

/// All that the two ways through a sequence need. The phases' cells have the same sequence.
template <class T, class First, class Second>
struct Run {
  int64_t batch = 0;
  int h = 0;
  First first;
  Second second;
  Weights<T> first_weights, second_weights;
  T *state_h = nullptr, *state_c = nullptr;     // c: null unless it is a state of the network
  const T *operand = nullptr, *drop = nullptr;  // operand 0 begins as h * drop, or null: as zeros
};

template <class Second>
inline constexpr bool kTwoPhases = !std::is_same_v<Second, NoCell>;

}  // namespace mica::kernels::MICA_CUDA_BACKEND::recurrent_unit
