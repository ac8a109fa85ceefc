// A sequence in a launch for each step (or phase), for any size: a block multiplies some rows of the operand with some
// groups of columns and runs the cells of what comes out. The states pass from launch to launch through global memory.
#pragma once

#include "cuda/recurrent_row.h"

namespace mica::kernels::MICA_CUDA_BACKEND::recurrent_unit {

// A block's tile is 8 groups of columns wide and 4 * kRows rows high, a thread's one group and kRows rows; each warp
// multiplies one of the parts of the depth, so that it needs no other warp before the end and everything that it reads
// comes once to the block, by vectors, straight into registers.
constexpr int kStepGroups = 8;
constexpr int kStepRows = kWarpSize / kStepGroups;
constexpr int kStepThreads = kParts * kWarpSize;

/// The product of a phase. `weights` are packed, [tiles][4 * depth4][kStepGroups], and the operand is [depth4][batch].
template <class T>
struct StepProduct {
  const Vector4<T>*weights = nullptr, *operand = nullptr;
  int64_t batch = 0;
  int depth4 = 0;
  unsigned tiles = 1;
};

// What is written for the next phases: operands [depth4][batch].
template <class T>
struct StepFeed {
  Vector4<T>* operands[2] = {};
  int64_t batch = 0;
  int64_t row = 0;

  MICA_DEVICE void operator()(int operand, int k, T value) const {
    operands[operand][(k / 4) * batch + row].v[k % 4] = value;
  }
};

template <class T, int kRows, class Cell>
MICA_KERNEL(kStepThreads, 2)
void step_kernel(const Cell cell, const Step step, const StepProduct<T> product, T* state_h, T* state_c,
                 const StepFeed<T> feed_to) {
  constexpr int kHeight = kRows * kStepRows, kWidth = kStepGroups * Cell::kUnits;
  constexpr int kColumns = Cell::kUnits * Cell::kGates;
  constexpr int kItems = (kHeight * kWidth + kStepThreads - 1) / kStepThreads;
  // Vectors that are on their way at once, in the depth: as many as there are registers for.
  constexpr int kAhead = kRows * sizeof(T) <= 8 ? 4 : kRows * sizeof(T) <= 16 ? 2 : 1;
  MICA_SHARED(T, sums, [kParts][kHeight][4 * kStepGroups + 4]);

  const int thread = static_cast<int>(thread_index().x);
  const int part = thread / kWarpSize, lane = thread % kWarpSize;
  const int group = lane % kStepGroups, lane_row = lane / kStepGroups;
  const unsigned column_tile = block_index().x % product.tiles;
  const int64_t first_row = int64_t{block_index().x / product.tiles} * kHeight;
  const int first_unit = static_cast<int>(column_tile) * kWidth;

  // The cells of the tile, row by row, to each thread its turn. Where each has one at most, what that reads is on its
  // way during the product; a tile of more has other blocks beside it, and no registers to spare.
  const auto place_of = [&](int n) {
    const int item = thread + n * kStepThreads;
    const Place at = {first_row + item / kWidth, first_unit + item % kWidth};
    const bool exists = item / kWidth < kHeight && at.row < product.batch && at.unit < cell.h;
    return exists ? at : Place{0, -1};
  };
  const auto state_of = [&](Place at) {
    const int64_t here = at.row * cell.h + at.unit;
    return State<T>{state_h[here], state_c ? state_c[here] : T(0)};
  };
  typename Cell::Input early_input = {};
  State<T> early_state = {};
  if constexpr (kItems == 1) {
    const Place at = place_of(0);
    if (at.unit >= 0) {
      early_state = state_of(at);
      early_input = cell.load(at, step);
    }
  }

  T sum[kRows][4] = {};
  const int length = depth_of_part(product.depth4);
  const int end = at_most((part + 1) * length, product.depth4);
  const Vector4<T>* const weights = product.weights + int64_t{column_tile} * (4 * product.depth4) * kStepGroups + group;
  const Vector4<T>* const operand = product.operand + first_row;
  int row_of[kRows];
  const int last_row = to_int(at_most<int64_t>(product.batch - 1 - first_row, kHeight));
  MICA_UNROLL
  for (int r = 0; r < kRows; ++r)  // beyond the last row: the last one, and the sums go nowhere
    row_of[r] = at_most(lane_row + r * kStepRows, last_row);
  for (int k = part * length; k < end; k += kAhead) {
    Vector4<T> x[kAhead][kRows], w[kAhead][4];
    MICA_UNROLL
    for (int n = 0; n < kAhead; ++n) {
      const bool exists = k + n < end;
      MICA_UNROLL
      for (int r = 0; r < kRows; ++r) x[n][r] = exists ? operand[(k + n) * product.batch + row_of[r]] : Vector4<T>{};
      MICA_UNROLL
      for (int i = 0; i < 4; ++i) w[n][i] = exists ? weights[(4 * (k + n) + i) * kStepGroups] : Vector4<T>{};
    }
    MICA_UNROLL
    for (int n = 0; n < kAhead; ++n) {
      MICA_UNROLL
      for (int r = 0; r < kRows; ++r) multiply<kColumns>(x[n][r], w[n], sum[r]);
    }
  }
  MICA_UNROLL
  for (int r = 0; r < kRows; ++r) {
    MICA_UNROLL
    for (int i = 0; i < kColumns; ++i) sums[part][lane_row + r * kStepRows][4 * group + i] = sum[r][i];
  }
  barrier();

  for (int n = 0; n < kItems; ++n) {
    const Place at = place_of(n);
    if (at.unit < 0) continue;
    State<T> state = kItems == 1 ? early_state : state_of(at);
    const typename Cell::Input input = kItems == 1 ? early_input : cell.load(at, step);
    const int row = static_cast<int>(at.row - first_row), unit = at.unit - first_unit;
    const int column = unit / Cell::kUnits * 4 + unit % Cell::kUnits * Cell::kGates;
    T a[Cell::kGates] = {};
    MICA_UNROLL
    for (int p = 0; p < kParts; ++p) {
      MICA_UNROLL
      for (int g = 0; g < Cell::kGates; ++g) a[g] += sums[p][row][column + g];
    }
    StepFeed<T> feed = feed_to;
    feed.row = at.row;
    cell.run(at, step, input, a, state, feed);
    const int64_t here = at.row * cell.h + at.unit;
    state_h[here] = state.h;
    if (state_c) state_c[here] = state.c;
  }
}

// packed[tiles][4 * depth4][kStepGroups] from u. Neighbouring threads read neighbours of u.
template <class T, class Cell>
MICA_KERNEL(256)
void pack_kernel(const Weights<T> weights, int tiles, Vector4<T>* packed) {
  const int depth = 4 * weights.depth4(), groups = tiles * kStepGroups;
  const int64_t index = int64_t{block_index().x} * 256 + thread_index().x;
  const unsigned i = static_cast<unsigned>(index);
  if (index >= int64_t{depth} * groups) return;
  const unsigned by = static_cast<unsigned>(weights.transposed ? depth : groups);
  const int k = static_cast<int>(weights.transposed ? i % by : i / by);
  const int group = static_cast<int>(weights.transposed ? i / by : i % by);
  packed[(int64_t{group / kStepGroups} * depth + k) * kStepGroups + group % kStepGroups] =
      weights.template group<Cell>(k, group);
}

// operands[vectors]: the first depth4 * batch of them are those that the sequence begins with, the others zeros. So
// are, in all, the values beyond the depth.
template <class T>
MICA_KERNEL(256)
void start_kernel(const T* h, const T* drop, int units, int depth4, int64_t batch, int64_t vectors,
                  Vector4<T>* operands) {
  const int64_t index = int64_t{block_index().x} * 256 + thread_index().x;
  if (index >= vectors) return;
  const int64_t k = index / batch;
  operands[index] = first_operand(k < depth4 ? h : nullptr, drop, units, index - k * batch, to_int(k));
}

template <class T>
MICA_KERNEL(256)
void zero_kernel(int64_t n, T* x) {
  const int64_t index = int64_t{block_index().x} * 256 + thread_index().x;
  if (index < n) x[index] = T(0);
}

template <int kRows, class T, class Cell>
void launch_step(Context& ctx, const Cell& cell, Step step, const StepProduct<T>& product, T* h, T* c,
                 const StepFeed<T>& feed) {
  launch(step_kernel<T, kRows, Cell>, ceil_div(product.batch, kRows * kStepRows) * product.tiles, {kStepThreads}, 0,
         ctx.stream, cell, step, product, h, c, feed);
}

template <class T, class Cell>
void step(Context& ctx, const Cell& cell, Step now, const StepProduct<T>& product, T* h, T* c,
          const StepFeed<T>& feed) {
  // The higher tile reads less for what it multiplies, as soon as there are enough of them to fill a GPU.
  constexpr int kHigh = sizeof(T) == 4 ? 8 : 4;
  if (ceil_div(product.batch, kHigh * kStepRows) * product.tiles >= 112)
    launch_step<kHigh>(ctx, cell, now, product, h, c, feed);
  else
    launch_step<2>(ctx, cell, now, product, h, c, feed);
}

template <class T, class First, class Second>
void run_steps(Context& ctx, const Run<T, First, Second>& run) {
  using Vector = Vector4<T>;
  struct Size {
    int depth4 = 0, tiles = 0;
    int64_t weights = 0;  // vectors
  };
  const auto size = [](auto cell, const Weights<T>& weights) {
    const int tiles = to_int(ceil_div(weights.template groups<decltype(cell)>(), kStepGroups));
    return Size{weights.depth4(), tiles, int64_t{4} * weights.depth4() * tiles * kStepGroups};
  };
  const Size one = size(First(), run.first_weights);
  const Size two = kTwoPhases<Second> ? size(Second(), run.second_weights) : Size();
  constexpr int64_t kMost = int64_t{1} << 32;  // that pack_kernel counts
  check(one.weights <= kMost && two.weights <= kMost, "recurrent",
        "too many units for the CUDA kernels: ", int64_t{run.h});
  // Operand 0 is there twice: while the one is read, the next one is written.
  const int64_t one_vectors = one.depth4 * run.batch, operands = 2 * one_vectors + two.depth4 * run.batch;
  const bool own_c = kTwoPhases<Second>;
  const int64_t cells = own_c ? run.batch * run.h : 0;
  const Scratch scratch(ctx, static_cast<size_t>(one.weights + two.weights + operands) * sizeof(Vector) +
                                 static_cast<size_t>(cells) * sizeof(T));
  Vector* const first_packed = scratch.template as<Vector>();
  Vector* const second_packed = first_packed + one.weights;
  Vector* const operand = second_packed + two.weights;
  Vector* const second_operand = operand + 2 * one_vectors;
  T* const c = own_c ? reinterpret_cast<T*>(operand + operands) : run.state_c;

  const auto pack = [&](auto cell, const Weights<T>& weights, const Size& of, Vector* packed) {
    launch(pack_kernel<T, decltype(cell)>, ceil_div(of.weights, 256), {256}, 0, ctx.stream, weights, of.tiles, packed);
  };
  pack(First(), run.first_weights, one, first_packed);
  if constexpr (kTwoPhases<Second>) {
    pack(Second(), run.second_weights, two, second_packed);
    launch(zero_kernel<T>, ceil_div(cells, 256), {256}, 0, ctx.stream, cells, c);
  }
  launch(start_kernel<T>, ceil_div(operands, 256), {256}, 0, ctx.stream, run.operand, run.drop, run.h, one.depth4,
         run.batch, operands, operand);

  for (int64_t s = 0; s < run.first.count(); ++s) {
    const Step now = run.first.step(s);
    Vector* const read = operand + s % 2 * one_vectors;
    const StepFeed<T> feed = {{operand + (s + 1) % 2 * one_vectors, second_operand}, run.batch, 0};
    const StepProduct<T> product = {first_packed, read, run.batch, one.depth4, static_cast<unsigned>(one.tiles)};
    step(ctx, run.first, now, product, run.state_h, c, feed);
    if constexpr (kTwoPhases<Second>) {
      const StepProduct<T> second = {second_packed, second_operand, run.batch, two.depth4,
                                     static_cast<unsigned>(two.tiles)};
      if (!now.finished) step(ctx, run.second, now, second, run.state_h, c, feed);
    }
  }
}

template <class T, class First, class Second>
void run_sequence(Context& ctx, const Run<T, First, Second>& run) {
  if (fits_rows(run))
    run_rows(ctx, run);
  else
    run_steps(ctx, run);
}

}  // namespace mica::kernels::MICA_CUDA_BACKEND::recurrent_unit
