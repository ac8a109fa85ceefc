// The memory of attention and its gradient grows as the length does, and not as its square.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include "mica/mica.h"

using namespace mica;

namespace {

// The most bytes that one forward and backward pass of `tokens` tokens holds at once, besides its input.
double peak_of(int64_t tokens) {
  Tensor qkv = random_uniform({1, tokens, 3 * 16}, -1, 1, {.stream = 1});
  const int64_t before = memory_statistics().in_use;
  Tape tape;
  tape.watch(qkv);
  const Tensor y = sum(self_attention(qkv, 1, {.causal = true}));
  CHECK(tape.gradient(y, {qkv})[0].shape() == qkv.shape());
  return static_cast<double>(memory_statistics().peak - before);  // the peak only grows: shorter ones come first
}

void check_linear(std::initializer_list<int64_t> lengths) {
  double last = 0;
  for (const int64_t tokens : lengths) {
    CAPTURE(tokens);
    const double peak = peak_of(tokens);
    CAPTURE(peak);
    if (last > 0)
      CHECK(peak <= 2.3 * last);  // for twice the tokens; one matrix of scores alone would be 4 times as much
    last = peak;
  }
}

}  // namespace

TEST_CASE("twice the tokens take twice the memory: 8,000, 16,000, 32,000") { check_linear({8'000, 16'000, 32'000}); }

// For `make test-full`.
TEST_CASE("twice the tokens take twice the memory: 64,000" * doctest::skip()) { check_linear({32'000, 64'000}); }
