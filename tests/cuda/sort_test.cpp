// Sorting on CUDA devices against the CPU's: rows of a fraction of a tile, of one and of several, as many results as
// elements and fewer.
#include "support/kernel_calls.h"

using namespace mica;
using namespace mica::kernels;
using namespace mica::test;

TEST_CASE("positions in order are the CPU's: equals keep theirs, NaN is the largest") {
  const int64_t cases[][4] = {{5, 1, 1, 1},      {700, 7, 1, 7},       {9, 100, 1, 13}, {3, 2048, 1, 2048},
                              {2, 2049, 1, 100}, {1, 20011, 1, 20011}, {3, 9000, 1, 5}, {2, 9000, 1, 3000},
                              {2, 40, 37, 11},   {1, 5000, 3, 5000},   {2, 3, 300, 2},  {1, 9, 1, 0}};
  for (const auto& sizes : cases)
    for (const DType dtype : {float32, float64, int32, int64, uint8})
      for (const bool descending : {false, true}) {
        const int64_t outer = sizes[0], n = sizes[1], inner = sizes[2], k = sizes[3];
        CAPTURE(outer);
        CAPTURE(n);
        CAPTURE(inner);
        CAPTURE(k);
        CAPTURE(dtype);
        CAPTURE(descending);
        std::vector<double> x = whole_numbers(outer * n * inner);
        for (size_t i = 0; i < x.size(); ++i) {
          if (dtype == uint8)
            x[i] += 9;
          else if (is_floating(dtype) && i % 50 == 7)
            x[i] = i % 3 ? -0.0 : i % 4 ? NAN : -INFINITY;
          else if (i % 2)
            x[i] = x[i] * 1000 + static_cast<double>(i % 997);
        }
        const ReduceArgs args{.dtype = dtype, .outer = outer, .n = n, .inner = inner};
        check_call({values(dtype, x)}, {values(int64, std::vector<double>(outer * k * inner, -1))}, [&](Call& call) {
          call.kernels.argsort(call.context, args, descending, k, call.in(0), static_cast<int64_t*>(call.out(0)));
        });
      }
}
