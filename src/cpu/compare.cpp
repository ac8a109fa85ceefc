// CPU kernels of comparisons and logic.
#include "cpu/strided.h"

namespace mica::kernels::cpu::MICA_CPU_LEVEL {

namespace {

// Calls f with the functor of a comparison.
template <class F>
[[gnu::always_inline]] inline void for_comparison(CompareOp op, const F& f) {
  switch (op) {
#define MICA_CASE(function, Functor) \
  case CompareOp::function: return f(scalar::Functor{});
    MICA_COMPARE_OPS(MICA_CASE)
#undef MICA_CASE
  }
}

}  // namespace

void compare(Context& ctx, CompareOp op, DType dtype, const StridedDims& dims, const void* a, const void* b,
             uint8_t* y) {
  for_number(dtype, [&](auto t) {
    using T = decltype(t);
    const int last = dims.rank - 1;
    for_comparison(op, [&](auto f) {
      for_rows(ctx, dims, [&](int64_t ao, int64_t bo, int64_t first, int64_t n) {
        uint8_t* out = y + first;
        row_of_two(static_cast<const T*>(a) + ao, dims.a_stride[last], static_cast<const T*>(b) + bo,
                   dims.b_stride[last], n, [&](int64_t i, T p, T q) { out[i] = f.test(p, q); });
      });
    });
  });
}

}  // namespace mica::kernels::cpu::MICA_CPU_LEVEL
