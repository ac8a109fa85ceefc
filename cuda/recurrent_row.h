// A whole sequence in one launch, for u that fits shared memory: a block keeps u there and takes some rows of the batch
// through all the steps, with their states in registers. After Diamos et al., "Persistent RNNs: stashing recurrent
// weights on-chip", ICML 2016; as rows do not meet, no block waits for another.
#pragma once

#include "cuda/recurrent_unit.h"

namespace mica::kernels::MICA_CUDA_BACKEND::recurrent_unit {

/// What a phase has in shared memory, in vectors: its columns of u, [depth][groups]; its operand, [rows][depth / 4].
struct Part {
  int depth4 = 0, groups = 0;
  int weights = 0, operand = 0;
};

/// The shared memory of a block. Both phases put the parts of their products at `sums`: [kParts][rows][groups].
struct RowLayout {
  Part first, second;
  int sums = 0, vectors = 0;
  int threads = 0;

  template <class T, class First, class Second>
  static RowLayout of(const Run<T, First, Second>& run, int rows) {
    RowLayout layout;
    const auto add = [&](auto cell, const Weights<T>& weights) {
      const int depth4 = weights.depth4(), groups = weights.template groups<decltype(cell)>();
      const Part part = {depth4, groups, layout.vectors, layout.vectors + 4 * depth4 * groups};
      layout.vectors = part.operand + rows * depth4;
      return part;
    };
    layout.first = add(First(), run.first_weights);
    if (kTwoPhases<Second>) layout.second = add(Second(), run.second_weights);
    const int groups = at_least(layout.first.groups, layout.second.groups);
    layout.sums = layout.vectors;
    layout.vectors += kParts * rows * groups;
    layout.threads = to_int(round_up(at_least(kParts * groups, rows * run.h), kWarpSize));
    return layout;
  }
  size_t bytes(size_t size_of_vector) const { return static_cast<size_t>(vectors) * size_of_vector; }
};

/// A thread's place in a row_kernel's block: the unit whose state it keeps, if any.
struct RowThread {
  Place at;
  int row = 0;  // of the block
  bool has_unit = false;
};

// The product and the cell of a phase. Each thread first multiplies a part of the depth for a group and all rows.
template <int kRows, class T, class Cell, class Memory, class Feed>
MICA_DEVICE void run_phase(Memory&& memory, const Part& part, int sums, const Cell& cell, const RowThread& thread,
                           Step step, const typename Cell::Input& input, State<T>& state, const Feed& feed) {
  constexpr int kColumns = Cell::kUnits * Cell::kGates;
  const int index = static_cast<int>(thread_index().x);
  const int slice = index / part.groups, group = index % part.groups;
  barrier();  // the operand is there, and, at first, u
  if (slice < kParts) {
    T sum[kRows][4] = {};
    const int length = depth_of_part(part.depth4);
    const int end = at_most((slice + 1) * length, part.depth4);
    for (int k = slice * length; k < end; ++k) {
      Vector4<T> w[4];
      MICA_UNROLL
      for (int i = 0; i < 4; ++i) w[i] = memory[part.weights + (4 * k + i) * part.groups + group];
      MICA_UNROLL
      for (int r = 0; r < kRows; ++r) {
        const Vector4<T> x = memory[part.operand + r * part.depth4 + k];
        multiply<kColumns>(x, w, sum[r]);
      }
    }
    MICA_UNROLL
    for (int r = 0; r < kRows; ++r)
      memory[sums + (slice * kRows + r) * part.groups + group] = {sum[r][0], sum[r][1], sum[r][2], sum[r][3]};
  }
  barrier();  // the parts of the sums are there, and the operand has been read
  if (!thread.has_unit) return;
  const int unit_group = thread.at.unit / Cell::kUnits, column = thread.at.unit % Cell::kUnits * Cell::kGates;
  T a[Cell::kGates] = {};
  MICA_UNROLL
  for (int p = 0; p < kParts; ++p) {
    const Vector4<T>& one = memory[sums + (p * kRows + thread.row) * part.groups + unit_group];
    MICA_UNROLL
    for (int g = 0; g < Cell::kGates; ++g) a[g] += one.v[column + g];
  }
  cell.run(thread.at, step, input, a, state, feed);
}

// Neighbouring threads read neighbours of u.
template <class Cell, class T, class Memory>
MICA_DEVICE void load_weights(Memory&& memory, const Part& part, const Weights<T>& weights) {
  const int depth = 4 * part.depth4, by = weights.transposed ? depth : part.groups;
  const int threads = static_cast<int>(block_size().x);
  for (int i = static_cast<int>(thread_index().x); i < depth * part.groups; i += threads) {
    const int k = weights.transposed ? i % by : i / by, group = weights.transposed ? i / by : i % by;
    memory[part.weights + k * part.groups + group] = weights.template group<Cell>(k, group);
  }
}

// Writes a row's next operand to shared memory.
template <class T, class Memory>
struct RowFeed {
  const Memory& memory;
  int first, second;  // the row's operands

  MICA_DEVICE void operator()(int operand, int k, T value) const {
    memory[(operand == 0 ? first : second) + k / 4].v[k % 4] = value;
  }
};

template <class T, int kRows, class First, class Second>
MICA_KERNEL(First::kRowThreads, 1)
void row_kernel(const Run<T, First, Second> run, const RowLayout layout) {
  MICA_DYNAMIC_SHARED(Vector4<T>, memory);
  const int index = static_cast<int>(thread_index().x), threads = static_cast<int>(block_size().x);
  const int64_t first_row = int64_t{block_index().x} * kRows;

  RowThread thread;
  thread.row = index / run.h;
  thread.at = {first_row + thread.row, index % run.h};
  thread.has_unit = thread.row < kRows && thread.at.row < run.batch;
  const int64_t here = thread.at.row * run.h + thread.at.unit;
  State<T> state = {T(0), T(0)};
  if (thread.has_unit) state = {run.state_h[here], run.state_c ? run.state_c[here] : T(0)};

  const Part &one = layout.first, &two = layout.second;
  load_weights<First>(memory, one, run.first_weights);
  for (int i = index; i < kRows * one.depth4; i += threads) {
    const int64_t row = first_row + i / one.depth4;
    memory[one.operand + i] =
        first_operand(row < run.batch ? run.operand : nullptr, run.drop, run.h, row, i % one.depth4);
  }
  if constexpr (kTwoPhases<Second>) {
    load_weights<Second>(memory, two, run.second_weights);
    for (int i = index; i < kRows * two.depth4; i += threads) memory[two.operand + i] = {};
  }

  const RowFeed<T, decltype(memory)> feed = {memory, one.operand + thread.row * one.depth4,
                                             two.operand + thread.row * two.depth4};
  // What comes from global memory is on its way a step ahead.
  typename First::Input next_first = {};
  typename Second::Input next_second = {};
  const auto fetch = [&](int64_t s) {
    if (!thread.has_unit || s >= run.first.count()) return;
    next_first = run.first.load(thread.at, run.first.step(s));
    if constexpr (kTwoPhases<Second>) next_second = run.second.load(thread.at, run.first.step(s));
  };
  fetch(0);
  for (int64_t s = 0; s < run.first.count(); ++s) {
    const Step step = run.first.step(s);
    const typename First::Input first_input = next_first;
    const typename Second::Input second_input = next_second;
    fetch(s + 1);
    run_phase<kRows>(memory, one, layout.sums, run.first, thread, step, first_input, state, feed);
    if constexpr (kTwoPhases<Second>) {
      if (!step.finished)
        run_phase<kRows>(memory, two, layout.sums, run.second, thread, step, second_input, state, feed);
    }
  }
  if (!thread.has_unit) return;
  run.state_h[here] = state.h;
  if (run.state_c) run.state_c[here] = state.c;
}

/// Whether u is small enough. The same for any batch, and so are a row's bits.
template <class T, class First, class Second>
bool fits_rows(const Run<T, First, Second>& run) {
  constexpr int kLargest = 4096;  // beyond it nothing fits, and sizes within it are integers
  if (run.h > kLargest) return false;
  const RowLayout layout = RowLayout::of(run, 4);
  return layout.threads <= First::kRowThreads && layout.bytes(sizeof(Vector4<T>)) <= 98 * 1024;
}

template <int kRows, class T, class First, class Second>
void launch_rows(Context& ctx, const Run<T, First, Second>& run) {
  const RowLayout layout = RowLayout::of(run, kRows);
  launch(row_kernel<T, kRows, First, Second>, ceil_div(run.batch, kRows), {static_cast<unsigned>(layout.threads)},
         layout.bytes(sizeof(Vector4<T>)), ctx.stream, run, layout);
}

template <class T, class First, class Second>
void run_rows(Context& ctx, const Run<T, First, Second>& run) {
  // A row to a block while that does not make more blocks than run at once; then each read of u serves four.
  if (run.batch <= 128)
    launch_rows<1>(ctx, run);
  else
    launch_rows<4>(ctx, run);
}

}  // namespace mica::kernels::MICA_CUDA_BACKEND::recurrent_unit
