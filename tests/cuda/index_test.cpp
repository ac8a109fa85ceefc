// Gather and scatter_add on CUDA devices against the CPU's: words of each width, few and many entries, one place that
// most of them go to.
#include "support/kernel_calls.h"

using namespace mica;
using namespace mica::kernels;
using namespace mica::test;

namespace {

// Places within [0, n), every other one of them the same.
std::vector<double> places(int64_t count, int64_t n) {
  std::vector<double> all = whole_numbers(count, 3);
  for (size_t i = 0; i < all.size(); ++i)
    all[i] = static_cast<double>(i % 2 ? n / 2 : (static_cast<int64_t>(all[i]) + 9 + static_cast<int64_t>(i / 7)) % n);
  return all;
}

template <class F>
void for_each_case(const F& f) {
  const int64_t cases[][4] = {{1, 3, 1, 1},     {2, 5, 7, 3},   {1, 40, 1100, 1}, {3, 11, 17, 5},
                              {1, 9, 700, 8},   {2, 6, 33, 64}, {1, 1, 5000, 2},  {2, 3, 0, 4},
                              {1, 50, 300, 12}, {70, 4, 20, 1}, {1, 2, 16, 4},    {1, 2000, 257, 6}};
  for (const auto& sizes : cases)
    for (const bool shared : {false, true})
      for (const int64_t shift : {0, 1}) {
        const int64_t outer = sizes[0], n = sizes[1], m = sizes[2], inner = sizes[3];
        CAPTURE(outer);
        CAPTURE(n);
        CAPTURE(m);
        CAPTURE(inner);
        CAPTURE(shared);
        CAPTURE(shift);
        f(GatherArgs{.outer = outer, .n = n, .m = m, .inner = inner, .shared = shared}, shift);
      }
}

Values index_of(const GatherArgs& args) {
  return values(int64, places(args.shared ? args.m : args.outer * args.m * args.inner, args.n));
}

}  // namespace

TEST_CASE("gathered elements are the CPU's") {
  for (const DType dtype : {float32, float64, int64, uint8})
    for_each_case([&](GatherArgs args, int64_t shift) {
      args.dtype = dtype;
      std::vector<double> x = whole_numbers(args.outer * args.n * args.inner);
      for (double& v : x) v += 9;
      check_call({values(dtype, x, shift), index_of(args)},
                 {values(dtype, std::vector<double>(args.outer * args.m * args.inner))}, [&](Call& call) {
                   call.kernels.gather(call.context, args, call.in(0), static_cast<const int64_t*>(call.in(1)),
                                       call.out(0));
                 });
    });
}

TEST_CASE("what is added to places is the CPU's") {
  for (const DType dtype : {float32, float64})
    for_each_case([&](GatherArgs args, int64_t shift) {
      args.dtype = dtype;
      check_call({values(dtype, whole_numbers(args.outer * args.m * args.inner), shift), index_of(args)},
                 {values(dtype, whole_numbers(args.outer * args.n * args.inner, 5), shift)}, [&](Call& call) {
                   call.kernels.scatter_add(call.context, args, call.in(0), static_cast<const int64_t*>(call.in(1)),
                                            call.out(0));
                 });
    });
}
