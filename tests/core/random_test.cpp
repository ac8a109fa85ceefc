// Philox: the published numbers, and streams that differ.
#include "mica/core/random.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "mica/core/tensor.h"
#include "mica/io/safetensors.h"

using namespace mica;

TEST_CASE("random: philox gives the published numbers, and those of an independent implementation") {
  const auto file = io::load_safetensors(MICA_SOURCE_DIR "/tests/golden/random.safetensors");
  for (const std::string name : {"known", "drawn"}) {
    const Tensor &counter = file.at(name + ".counter"), &key = file.at(name + ".key"), &y = file.at(name + ".y");
    const auto word = [](const Tensor& t, int64_t row, int64_t i) {
      return static_cast<uint64_t>(t.data<int64_t>()[row * t.dim(1) + i]);
    };
    for (int64_t row = 0; row < counter.dim(0); ++row) {
      CAPTURE(name);
      CAPTURE(row);
      // Mica's block is the counter's lower half, its step the upper one.
      const RandomKey at{.stream = word(key, row, 0) | word(key, row, 1) << 32,
                         .step = word(counter, row, 2) | word(counter, row, 3) << 32};
      const Philox4 words = philox(at, word(counter, row, 0) | word(counter, row, 1) << 32);
      for (int64_t i = 0; i < 4; ++i) CHECK(words.v[i] == word(y, row, i));
    }
  }
}

TEST_CASE("random: to_unit is in [0, 1), in steps of 2^-24") {
  CHECK(to_unit(0) == 0.0f);
  CHECK(to_unit(255) == 0.0f);
  CHECK(to_unit(256) == 0x1p-24f);
  CHECK(to_unit(0x80000000u) == 0.5f);
  CHECK(to_unit(0xffffffffu) == 1 - 0x1p-24f);
}

TEST_CASE("random: each seed and each name has a stream of its own") {
  std::set<uint64_t> streams;
  for (uint64_t seed = 0; seed < 100; ++seed)
    for (const char* name : {"", "a", "b", "ab", "ba", "dense.kernel", "dense_1.kernel"})
      streams.insert(random_stream(seed, name));
  CHECK(streams.size() == 700);
  CHECK(random_stream(7, "dense.kernel") == random_stream(7, "dense.kernel"));
}

TEST_CASE("random: streams, steps and blocks all change the numbers") {
  std::set<uint32_t> seen;
  for (uint64_t stream = 0; stream < 4; ++stream)
    for (uint64_t step = 0; step < 4; ++step)
      for (uint64_t block = 0; block < 4; ++block)
        for (const uint32_t word : philox({stream, step}, block).v) seen.insert(word);
  CHECK(seen.size() == 256);
}

TEST_CASE("random: the process's seed is what set_seed said") {
  const uint64_t before = seed();
  set_seed(42);
  CHECK(seed() == 42);
  set_seed(before);
}

TEST_CASE("random: uniform numbers fill [low, high) evenly") {
  const Tensor x = random_uniform({100'000}, -2, 3, {.stream = 1});
  double sum = 0, squares = 0, least = 9, most = -9;
  for (const float v : x.values<float>()) {
    sum += v;
    squares += double{v} * v;
    least = std::min<double>(least, v);
    most = std::max<double>(most, v);
  }
  const double mean = sum / 100'000, variance = squares / 100'000 - mean * mean;
  CHECK(mean == doctest::Approx(0.5).epsilon(0.02));
  CHECK(variance == doctest::Approx(25.0 / 12).epsilon(0.02));
  CHECK(least >= -2);
  CHECK(most < 3);
  CHECK(least < -1.99);
  CHECK(most > 2.99);
}

TEST_CASE("random: normal numbers have the mean, deviation and tails that they should") {
  const Tensor x = random_normal({100'000}, 1, 2, {.stream = 1});
  double sum = 0, squares = 0;
  int beyond = 0;
  for (const float v : x.values<float>()) {
    sum += v;
    squares += double{v} * v;
    beyond += v > 1 + 2 * 1.959964 || v < 1 - 2 * 1.959964;
  }
  const double mean = sum / 100'000, variance = squares / 100'000 - mean * mean;
  CHECK(mean == doctest::Approx(1).epsilon(0.02));
  CHECK(variance == doctest::Approx(4).epsilon(0.02));
  CHECK(beyond == doctest::Approx(5000).epsilon(0.06));
}

TEST_CASE("random: an element depends on its position alone, not on how many there are") {
  const RandomKey key{.stream = 5, .step = 3};
  const Tensor few = random_uniform({7}, 0, 1, key), many = random_uniform({10, 100}, 0, 1, key).reshape({-1});
  const Tensor few_normal = random_normal({7}, 0, 1, key), many_normal = random_normal({1000}, 0, 1, key);
  for (int64_t i = 0; i < 7; ++i) {
    CHECK(few.at({i}) == many.at({i}));
    CHECK(few_normal.at({i}) == many_normal.at({i}));
  }
  CHECK(few.at({0}) != random_uniform({7}, 0, 1, {.stream = 5, .step = 4}).at({0}));
  CHECK(random_uniform({0}, 0, 1, key).elements() == 0);
}

TEST_CASE("random: a permutation has each number once, decided by the key") {
  const auto permutation = [](int64_t n, RandomKey key) {
    const Tensor order = random_permutation(n, key);
    return std::vector<int64_t>(order.values<int64_t>().begin(), order.values<int64_t>().end());
  };
  for (const int64_t n : {0, 1, 2, 3, 10, 1000}) {
    std::vector<int64_t> order = permutation(n, {.stream = 3});
    CHECK(order == permutation(n, {.stream = 3}));
    if (n > 3) CHECK(order != permutation(n, {.stream = 4}));
    if (n > 3) CHECK(order != permutation(n, {.stream = 3, .step = 1}));
    std::sort(order.begin(), order.end());
    for (int64_t i = 0; i < n; ++i) CHECK(order[static_cast<size_t>(i)] == i);
  }
  std::map<std::vector<int64_t>, int> counts;  // each of the orders of four is as likely as another
  for (uint64_t step = 0; step < 24'000; ++step) ++counts[permutation(4, {.stream = 9, .step = step})];
  CHECK(counts.size() == 24);
  for (const auto& [order, count] : counts) {
    CHECK(count > 850);
    CHECK(count < 1150);
  }
}

TEST_CASE("random: bernoulli numbers are 1 as often as they should, and never or always at the ends") {
  for (const double p : {0.1, 0.5, 0.9}) {
    double total = 0;
    const Tensor x = random_bernoulli({100'000}, p, {.stream = 5}, {uint8});
    for (const uint8_t v : x.values<uint8_t>()) {
      CHECK((v == 0 || v == 1));
      total += v;
    }
    CHECK(total / 100'000 == doctest::Approx(p).epsilon(0.05));
  }
  const Tensor never = random_bernoulli({1000}, 0, {}), always = random_bernoulli({1000}, 1, {});
  for (const float v : never.values<float>()) CHECK(v == 0);
  for (const float v : always.values<float>()) CHECK(v == 1);
}
