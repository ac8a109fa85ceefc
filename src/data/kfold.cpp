// Folds for cross-validation.
#include "mica/data/kfold.h"

#include <algorithm>

#include "mica/core/error.h"

namespace MICA_EXPORT mica {
namespace data {

namespace {

std::vector<int64_t> shuffled(int64_t n, const KFoldOptions& options) {
  check(options.folds >= 2, "kfold", "there must be at least 2 folds, got ", options.folds);
  check(n >= options.folds, "kfold", "there are ", options.folds, " folds, but ", n, " examples");
  const Tensor order = random_permutation(n, {random_stream(options.seed, "kfold"), 0});
  return {order.data<int64_t>(), order.data<int64_t>() + n};
}

// Deals the examples out in this order.
std::vector<Fold> deal(const std::vector<int64_t>& order, int64_t folds) {
  std::vector<int64_t> fold_of(order.size());
  for (size_t i = 0; i < order.size(); ++i) fold_of[static_cast<size_t>(order[i])] = static_cast<int64_t>(i) % folds;
  std::vector<Fold> result(static_cast<size_t>(folds));
  for (int64_t fold = 0; fold < folds; ++fold)
    for (size_t i = 0; i < fold_of.size(); ++i) {
      Fold& f = result[static_cast<size_t>(fold)];
      (fold_of[i] == fold ? f.test : f.train).push_back(static_cast<int64_t>(i));
    }
  return result;
}

}  // namespace

std::vector<Fold> kfold(int64_t n, KFoldOptions options) { return deal(shuffled(n, options), options.folds); }

std::vector<Fold> kfold(const Tensor& labels, KFoldOptions options) {
  check(labels.defined() && labels.rank() == 1, "kfold", "the labels must have one axis, shape ", labels.shape());
  check(labels.dtype() == int64 || labels.dtype() == int32 || labels.dtype() == uint8, "kfold",
        "the labels must be integers, got ", labels.dtype());
  std::vector<int64_t> order = shuffled(labels.dim(0), options);
  const Tensor wide = labels.to(Device::cpu()).to(int64);
  const int64_t* label = wide.data<int64_t>();
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return label[a] < label[b]; });
  return deal(order, options.folds);
}

}  // namespace data
}  // namespace mica
