// Sums of squares and clipping on CUDA devices against the CPU's, and updates of memory that is not aligned.
#include "mica/core/tensor.h"
#include "support/kernel_calls.h"

using namespace mica;
using namespace mica::kernels;
using namespace mica::test;

TEST_CASE("sums of squares of any size are the CPU's; those of large float32 numbers are finite") {
  for (const DType dtype : {float32, float64})
    for (const int64_t n : {0, 1, 1023, 1025, 30011})
      for (const int64_t shift : {0, 1}) {
        const Values x = values(dtype, whole_numbers(n), shift), large = values(dtype, std::vector<double>(n, 1e30));
        double expected[2];
        for_each_device([&](Device device) {
          Call call(device, {x, large}, {values(float64, {-1, -1})});
          for (const size_t i : {0, 1})
            call.kernels.sum_squares(call.context, dtype, n, call.in(i), static_cast<double*>(call.out(0)) + i);
          double sums[2];
          std::memcpy(sums, call.results()[0].data(), sizeof sums);
          for (const size_t i : {0, 1}) {
            if (device == Device::cpu()) expected[i] = sums[i];
            CHECK(std::abs(sums[i] - expected[i]) <= 1e-14 * expected[i]);
          }
        });
      }
}

TEST_CASE("updates and clipping of any size, aligned or not, are the CPU's") {
  for (const DType dtype : {float32, float64})
    for (const int64_t n : {0, 3, 1024, 1027})
      for (const int64_t shift : {0, 1}) {
        CAPTURE(dtype);
        CAPTURE(n);
        CAPTURE(shift);
        // Numbers that make every step exact, whichever of them are fused.
        const Values g = values(dtype, whole_numbers(n), shift), w = values(dtype, whole_numbers(n, 1), shift);
        const Values zeros = values(dtype, std::vector<double>(n), shift);
        const Values ones = values(dtype, std::vector<double>(n, 1), shift);
        check_call({g}, {w, ones}, [&](Call& call) {
          for (const bool nesterov : {false, true}) {
            const SgdArgs args{dtype, n, 0.25, 0.5, 0.125, nesterov};
            call.kernels.sgd(call.context, args, call.in(0), call.out(0), call.out(1));
            call.kernels.sgd(call.context, args, call.in(0), call.out(0), nullptr);
          }
        });
        check_call({ones}, {w, zeros, zeros, ones}, [&](Call& call) {
          const AdamArgs args{.dtype = dtype, .n = n, .learning_rate = 0.25, .beta1 = 0.5, .beta2 = 0.75};
          call.kernels.adam(call.context, args, call.in(0), call.out(0), call.out(1), call.out(2));
          const RmspropArgs rms{.dtype = dtype, .n = n, .learning_rate = 0.5, .alpha = 0.75, .momentum = 0.5};
          call.kernels.rmsprop(call.context, rms, call.in(0), call.out(0), call.out(3), nullptr, nullptr);
          call.kernels.rmsprop(call.context, rms, call.in(0), call.out(0), call.out(3), nullptr, call.out(1));
        });
        std::vector<double> numbers = whole_numbers(n);
        for (size_t i = 0; i < numbers.size(); i += 5) numbers[i] = NAN;
        check_call({}, {values(dtype, numbers, shift)},
                   [&](Call& call) { call.kernels.clip(call.context, dtype, n, 0.5, 3, call.out(0)); });
      }
}
