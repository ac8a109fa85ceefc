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

// y[i] = f(a[i], b[i], i) along a row, with the operands that stand still hoisted so that the loop vectorises.
template <class T, class F>
[[gnu::always_inline]] inline void row_of_two(const T* a, int64_t a_stride, const T* b, int64_t b_stride, int64_t n,
                                              const F& f) {
  if (a_stride == 1 && b_stride == 1) {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) f(i, a[i], b[i]);
  } else if (a_stride == 1 && b_stride == 0) {
    const T fixed = *b;
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) f(i, a[i], fixed);
  } else if (a_stride == 0 && b_stride == 1) {
    const T fixed = *a;
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) f(i, fixed, b[i]);
  } else {
    for (int64_t i = 0; i < n; ++i) f(i, a[i * a_stride], b[i * b_stride]);
  }
}

}  // namespace mica::kernels::cpu::MICA_CPU_LEVEL
