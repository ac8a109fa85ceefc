// Folds for cross-validation.
#pragma once

#include <cstdint>
#include <vector>

#include "mica/core/random.h"
#include "mica/core/tensor.h"

namespace MICA_EXPORT mica {
namespace data {

struct KFoldOptions {
  int64_t folds = 5;
  uint64_t seed = mica::seed();
};

/// The examples to train on and those to test on, in ascending order.
struct Fold {
  std::vector<int64_t> train, test;
};

/// Each of n examples is in the test of one fold, drawn under the seed; folds differ by one example at most. Throws
/// Error for fewer than 2 folds, and for more folds than examples.
std::vector<Fold> kfold(int64_t n, KFoldOptions options = {});
/// The same with an example for each of the integer labels [n]: of each class, too, folds have as many as can be,
/// differing by one at most (stratified).
std::vector<Fold> kfold(const Tensor& labels, KFoldOptions options = {});

}  // namespace data
}  // namespace mica
