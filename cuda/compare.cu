// Kernels of comparisons and logic.
#include "cuda/strided.h"

namespace mica::kernels::MICA_CUDA_BACKEND {

namespace {

template <class Functor>
struct Test {
  template <class T>
  MICA_HD uint8_t operator()(T a, T b) const {
    return Functor::test(a, b);
  }
};

}  // namespace

void compare(Context& ctx, CompareOp op, DType dtype, const StridedDims& dims, const void* a, const void* b,
             uint8_t* y) {
  for_number(dtype, [&](auto t) {
    using T = decltype(t);
    for_comparison(op, [&](auto f) {
      broadcast(ctx, dims, Test<decltype(f)>{}, static_cast<const T*>(a), static_cast<const T*>(b), y);
    });
  });
}

}  // namespace mica::kernels::MICA_CUDA_BACKEND
