// Folds: each example is tested once, and classes are spread evenly.
#include "mica/data/kfold.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "support/wrong_use.h"

using namespace mica;
using mica::data::Fold;
using mica::data::kfold;

namespace {

// Each of n examples is tested in one fold and trained on in the others, in ascending order.
void check_folds(const std::vector<Fold>& folds, int64_t n) {
  std::vector<int> tested(static_cast<size_t>(n));
  for (const Fold& fold : folds) {
    CHECK(std::is_sorted(fold.train.begin(), fold.train.end()));
    CHECK(std::is_sorted(fold.test.begin(), fold.test.end()));
    std::vector<int64_t> all(fold.train);
    all.insert(all.end(), fold.test.begin(), fold.test.end());
    std::sort(all.begin(), all.end());
    CHECK(static_cast<int64_t>(all.size()) == n);
    CHECK(std::adjacent_find(all.begin(), all.end()) == all.end());
    for (const int64_t i : fold.test) ++tested[static_cast<size_t>(i)];
  }
  CHECK(tested == std::vector<int>(static_cast<size_t>(n), 1));
}

}  // namespace

TEST_CASE("kfold: folds differ by one example at most") {
  for (const int64_t n : {2, 5, 17, 100}) {
    const int64_t count = std::min<int64_t>(n, 5);
    const auto folds = kfold(n, {.folds = count, .seed = 3});
    CHECK(static_cast<int64_t>(folds.size()) == count);
    check_folds(folds, n);
    for (const Fold& fold : folds) {
      CHECK(static_cast<int64_t>(fold.test.size()) >= n / count);
      CHECK(static_cast<int64_t>(fold.test.size()) <= (n + count - 1) / count);
    }
  }
}

TEST_CASE("kfold: the seed decides") {
  CHECK(kfold(50, {.seed = 1})[0].test == kfold(50, {.seed = 1})[0].test);
  CHECK(kfold(50, {.seed = 1})[0].test != kfold(50, {.seed = 2})[0].test);
}

TEST_CASE("kfold: with labels, each fold has its share of each class, and folds are still of one size") {
  std::vector<int64_t> labels;
  for (int64_t i = 0; i < 103; ++i) labels.push_back(i % 10 < 6 ? 0 : i % 10 < 9 ? 1 : 7);
  const Tensor all = tensor(labels, {103});
  for (const Tensor& given : {all, all.to(int32), all.to(uint8)}) {
    const auto folds = kfold(given, {.folds = 4});
    check_folds(folds, 103);
    for (const int64_t label : {0, 1, 7}) {
      const auto total = std::count(labels.begin(), labels.end(), label);
      for (const Fold& fold : folds) {
        CHECK(fold.test.size() >= 25);
        CHECK(fold.test.size() <= 26);
        const auto here = std::count_if(fold.test.begin(), fold.test.end(),
                                        [&](int64_t i) { return labels[static_cast<size_t>(i)] == label; });
        CHECK(here >= total / 4);
        CHECK(here <= (total + 3) / 4);
      }
    }
  }
}

TEST_CASE("kfold: with labels, the seed decides which examples of each class a fold has") {
  std::vector<int64_t> labels;
  for (int64_t i = 0; i < 90; ++i) labels.push_back(i % 3);
  const auto first_of = [&](uint64_t seed, int64_t label) {  // the first fold's examples of a class
    std::vector<int64_t> examples = kfold(tensor(labels, {90}), {.seed = seed})[0].test;
    std::erase_if(examples, [&](int64_t i) { return labels[static_cast<size_t>(i)] != label; });
    return examples;
  };
  for (const int64_t label : {0, 1, 2}) {
    CHECK(first_of(1, label).size() == 6);
    CHECK(first_of(1, label) == first_of(1, label));
    CHECK(first_of(1, label) != first_of(2, label));
  }
}

TEST_CASE("kfold: what is said of wrong use") {
  test::check_wrong_use({
      {"[kfold] there must be at least 2 folds, got 1", [] { kfold(10, {.folds = 1}); }},
      {"[kfold] there are 5 folds, but 4 examples", [] { kfold(4); }},
      {"[kfold] the labels must have one axis, shape [3,1]",
       [] {
         kfold(zeros({3, 1}, {int64}));
       }},
      {"[kfold] the labels must be integers, got float32", [] { kfold(zeros({9})); }},
  });
}
