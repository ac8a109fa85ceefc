// CPU kernels of comparisons and logic.
#include "cpu/strided.h"

namespace mica::kernels::cpu::MICA_CPU_LEVEL {

void compare(Context& ctx, CompareOp op, DType dtype, const StridedDims& dims, const void* a, const void* b,
             uint8_t* y) {
  for_number(dtype, [&](auto t) {
    using T = decltype(t);
    rows_of_two(ctx, dims, static_cast<const T*>(a), static_cast<const T*>(b),
                [=](int64_t first, int64_t n, const T* p, const T* q) {
                  uint8_t* out = y + first;
                  for_comparison(op, [=](auto f) {
                    for (int64_t i = 0; i < n; ++i) out[i] = f.test(p[i], q[i]);
                  });
                });
  });
}

}  // namespace mica::kernels::cpu::MICA_CPU_LEVEL
