// 100,000 predictions take no more memory than a few.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include <thread>
#include <vector>

#include "heap.h"
#include "mica/mica.h"

using namespace mica;

namespace {

nn::Functional make_model() {
  const nn::Symbol amounts = nn::Input({6}), kind = nn::Input(Shape{}, int64);
  const nn::Symbol both = nn::Concatenate()({amounts, nn::Embedding(5, 3)(kind)});
  const nn::Symbol hidden = nn::BatchNorm()(nn::Dense(16, {.activation = relu})(both));
  return nn::Functional({amounts, kind}, nn::Dense(1, {.activation = sigmoid})(nn::Dropout(0.5)(hidden)));
}

// As servers have them: each request on a thread of its own, of any size.
void predict(const nn::Model& model, int threads, int each) {
  std::vector<std::thread> callers;
  for (int t = 0; t < threads; ++t)
    callers.emplace_back([&model, t, each] {
      for (int i = 0; i < each; ++i) {
        const int64_t n = 1 + (t + i) % 7;
        model.predict({ones({n, 6}), zeros({n}, {int64})}, {.threads = 1});
      }
    });
  for (std::thread& caller : callers) caller.join();
}

}  // namespace

TEST_CASE("100,000 predictions, on threads that come and go, leave the memory as it was") {
  const nn::Functional model = make_model();
  for (int round = 0; round < 10; ++round) predict(model, 4, 250);
  const int64_t heap = test::heap_bytes();
  const MemoryStatistics before = memory_statistics();
  for (int round = 0; round < 100; ++round) predict(model, 4, 250);
  const MemoryStatistics after = memory_statistics();
  CHECK(after.in_use == before.in_use);
  constexpr int64_t kMiB = 1 << 20;  // 11 bytes a prediction, and room for threads that meet by chance
  CHECK(after.cached <= before.cached + kMiB);
  CHECK(test::heap_bytes() <= heap + kMiB);
}
