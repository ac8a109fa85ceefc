// Mini-batches.
#include "mica/data/batches.h"

#include "data/loader.h"
#include "mica/core/error.h"

namespace MICA_EXPORT mica {
namespace data {

struct Batches::State {
  Loader loader;
  Tensors tensors;  // of the batch that is handed over

  State(std::vector<Column> columns, const BatchOptions& options) : loader(std::move(columns), options) {}
};

Batches::Batches(Column x, Column y, BatchOptions options) {
  check(x.defined() && x.values().rank() >= 1, "batches", "the inputs must have a first axis of examples");
  check(!y.defined() || y.size() == x.size(), "batches", "inputs and targets must be equal in number: ", x.size(),
        " and ", y.size());
  check(options.batch_size >= 1, "batches", "the batch size must be at least 1, got ", options.batch_size);
  check(options.batch >= 0, "batches", "the first batch must not be negative, got ", options.batch);
  std::vector<Column> columns{std::move(x)};
  if (y.defined()) columns.push_back(std::move(y));
  state_ = std::make_unique<State>(std::move(columns), options);
}

Batches::~Batches() = default;
Batches::Batches(Batches&&) noexcept = default;
Batches& Batches::operator=(Batches&&) noexcept = default;

bool Batches::next(Batch& batch) {
  batch = {};
  Tensors& tensors = state_->tensors;
  if (!state_->loader.next(tensors)) return false;
  batch.x = std::move(tensors[0]);
  if (tensors.size() > 1) batch.y = std::move(tensors[1]);
  return true;
}

int64_t Batches::per_epoch() const { return state_->loader.per_epoch(); }

}  // namespace data
}  // namespace mica
