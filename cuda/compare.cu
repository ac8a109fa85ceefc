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

// Calls f with the functor of a comparison.
template <class F>
void for_comparison(CompareOp op, const F& f) {
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
    for_comparison(op, [&](auto f) {
      broadcast(ctx, dims, Test<decltype(f)>{}, static_cast<const T*>(a), static_cast<const T*>(b), y);
    });
  });
}

}  // namespace mica::kernels::MICA_CUDA_BACKEND
