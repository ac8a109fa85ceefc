// Loops over axes with strides: what broadcasts, transposed copies and comparisons share.
#pragma once

#include "cpu/common.h"

namespace mica::kernels::cpu::MICA_CPU_LEVEL {

// Runs row(a_offset, b_offset, first, count) for the innermost axis of the broadcast, outer axes cut over the threads.
// `work`: elements behind each.
template <class Row>
void for_rows(Context& ctx, const StridedDims& dims, const Row& row, int64_t work = 1) {
  const int last = dims.rank - 1;
  const int64_t inner = dims.size[last];
  int64_t outer = 1;
  for (int i = 0; i < last; ++i) outer *= dims.size[i];
  if (outer == 0 || inner == 0) return;
  if (outer == 1) {  // one long row: cut it
    parallel::ranges(ctx.threads, inner, max(1, kGrain / work), [&](int64_t begin, int64_t end, int) {
      row(begin * dims.a_stride[last], begin * dims.b_stride[last], begin, end - begin);
    });
    return;
  }
  parallel::ranges(ctx.threads, outer, max(1, kGrain / (inner * work)), [&](int64_t begin, int64_t end, int) {
    int64_t index[kMaxDims] = {}, a = 0, b = 0;
    for (int64_t rest = begin, i = last - 1; i >= 0; --i) {
      index[i] = rest % dims.size[i];
      rest /= dims.size[i];
      a += index[i] * dims.a_stride[i];
      b += index[i] * dims.b_stride[i];
    }
    for (int64_t o = begin; o < end; ++o) {
      row(a, b, o * inner, inner);
      for (int i = last - 1; i >= 0; --i) {
        a += dims.a_stride[i];
        b += dims.b_stride[i];
        if (++index[i] < dims.size[i]) break;
        a -= dims.size[i] * dims.a_stride[i];
        b -= dims.size[i] * dims.b_stride[i];
        index[i] = 0;
      }
    }
  });
}

// count elements of x from number `first`, side by side: where they lie, if they do, else copied into the buffer. One
// that is repeated is there since the first block.
template <class T>
const T* side_by_side(const T* x, int64_t stride, int64_t first, int64_t count, T* buffer) {
  if (stride == 1) return x + first;
  if (stride != 0 || first == 0)
    for (int64_t i = 0; i < count; ++i) buffer[i] = x[(first + i) * stride];
  return buffer;
}

// f(first, count, p, q) for runs of the result: its elements number first to first + count, and both operands' side by
// side. One loop for each function then does for all broadcasts, and vectorises.
template <class T, class F>
void rows_of_two(Context& ctx, const StridedDims& dims, const T* a, const T* b, const F& f) {
  const int last = dims.rank - 1;
  const int64_t a_stride = dims.a_stride[last], b_stride = dims.b_stride[last];
  for_rows(ctx, dims, [=](int64_t ao, int64_t bo, int64_t row, int64_t n) {
    constexpr int64_t kBlock = 512;
    T a_buffer[kBlock], b_buffer[kBlock];
    const int64_t block = a_stride == 1 && b_stride == 1 ? n : kBlock;
    for (int64_t first = 0; first < n; first += block) {
      const int64_t count = min(block, n - first);
      f(row + first, count, side_by_side(a + ao, a_stride, first, count, a_buffer),
        side_by_side(b + bo, b_stride, first, count, b_buffer));
    }
  });
}

}  // namespace mica::kernels::cpu::MICA_CPU_LEVEL
