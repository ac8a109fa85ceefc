// Batches: order, sizes, epochs, and the thread that prepares them.
#include "mica/data/batches.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <set>
#include <thread>

#include "core/stream_state.h"
#include "core/tensor_access.h"
#include "mica/core/stream.h"
#include "support/devices.h"
#include "support/error_text.h"

using namespace mica;
using mica::test::error_text;

namespace {

using Rows = std::vector<std::vector<int64_t>>;

Tensor counting(int64_t n) { return arange(0, static_cast<double>(n), 1, {int64}); }

// The examples of each batch; x and y must go together.
Rows rows_of(data::Batches batches) {
  Rows rows;
  for (auto [x, y] : batches) {
    const auto values = x.values<int64_t>();
    rows.emplace_back(values.begin(), values.end());
    for (int64_t i = 0; i < x.elements(); ++i) CHECK(y.at({i}) == -10 * x.at({i}));
  }
  return rows;
}

Rows rows_of(int64_t n, data::BatchOptions options) {
  Tensor y = empty({n}, {int64});
  for (int64_t i = 0; i < n; ++i) y.mutable_data<int64_t>()[i] = -10 * i;
  return rows_of(data::batches(counting(n), y, options));
}

std::vector<int64_t> flat(const Rows& rows) {
  std::vector<int64_t> all;
  for (const auto& row : rows) all.insert(all.end(), row.begin(), row.end());
  return all;
}

}  // namespace

TEST_SUITE_BEGIN("threads");

TEST_CASE("batches: in order, the last one with what is left") {
  CHECK(rows_of(7, {.batch_size = 3}) == Rows{{0, 1, 2}, {3, 4, 5}, {6}});
  CHECK(rows_of(6, {.batch_size = 3}) == Rows{{0, 1, 2}, {3, 4, 5}});
  CHECK(rows_of(2, {.batch_size = 100}) == Rows{{0, 1}});
  CHECK(rows_of(2, {.batch_size = INT64_MAX}) == Rows{{0, 1}});
  CHECK(rows_of(2, {.batch_size = 1}) == Rows{{0}, {1}});
  CHECK(rows_of(0, {.batch_size = 3}).empty());
}

TEST_CASE("batches: drop_last leaves out a batch that is not full") {
  CHECK(rows_of(7, {.batch_size = 3, .drop_last = true}) == Rows{{0, 1, 2}, {3, 4, 5}});
  CHECK(rows_of(6, {.batch_size = 3, .drop_last = true}) == Rows{{0, 1, 2}, {3, 4, 5}});
  CHECK(rows_of(2, {.batch_size = 3, .drop_last = true}).empty());
}

TEST_CASE("batches: per_epoch says how many there will be") {
  const Tensor x = counting(7);
  CHECK(data::batches(x, {}, {.batch_size = 3}).per_epoch() == 3);
  CHECK(data::batches(x, {}, {.batch_size = 3, .drop_last = true}).per_epoch() == 2);
  CHECK(data::batches(x, {}, {.batch_size = 3, .epochs = 5}).per_epoch() == 3);
}

TEST_CASE("batches: shuffled, each example comes once an epoch, x and y together") {
  const Rows rows = rows_of(100, {.batch_size = 7, .shuffle = true});
  CHECK(rows.size() == 15);
  CHECK(rows.back().size() == 2);
  std::vector<int64_t> all = flat(rows);
  CHECK_FALSE(std::is_sorted(all.begin(), all.end()));
  std::sort(all.begin(), all.end());
  CHECK(all == flat(rows_of(100, {})));
}

TEST_CASE("batches: the order is a function of seed and epoch alone") {
  const auto order = [](uint64_t seed, int64_t epoch, int64_t batch_size = 4) {
    return flat(rows_of(30, {.batch_size = batch_size, .shuffle = true, .seed = seed, .epoch = epoch}));
  };
  CHECK(order(1, 0) == order(1, 0));
  CHECK(order(1, 0) == order(1, 0, 30));
  CHECK(order(1, 0) != order(2, 0));
  CHECK(order(1, 0) != order(1, 1));
}

TEST_CASE("batches: several epochs are those one after another") {
  const Rows both = rows_of(10, {.batch_size = 4, .shuffle = true, .seed = 5, .epochs = 2});
  Rows one = rows_of(10, {.batch_size = 4, .shuffle = true, .seed = 5});
  const Rows two = rows_of(10, {.batch_size = 4, .shuffle = true, .seed = 5, .epoch = 1});
  one.insert(one.end(), two.begin(), two.end());
  CHECK(both == one);
  CHECK(rows_of(10, {.epochs = 0}).empty());
}

TEST_CASE("batches: without targets y is undefined") {
  for (auto [x, y] : data::batches(counting(3), {})) {
    CHECK(x.dim(0) == 3);
    CHECK_FALSE(y.defined());
  }
}

TEST_CASE("batches: in order and unscaled they are views, not copies") {
  const Tensor x = counting(8);
  for (auto [part, y] : data::batches(x, {}, {.batch_size = 3})) CHECK(part.shares_storage_with(x));
  for (auto [part, y] : data::batches(x, {}, {.batch_size = 3, .shuffle = true}))
    CHECK_FALSE(part.shares_storage_with(x));
}

TEST_CASE("batches: a batch stays as it is while others come") {
  Tensors kept;
  for (auto [x, y] : data::batches(counting(100), {}, {.batch_size = 5, .shuffle = true})) kept.push_back(x);
  std::set<int64_t> seen;
  for (const Tensor& x : kept)
    for (const int64_t v : x.values<int64_t>()) seen.insert(v);
  CHECK(seen.size() == 100);
}

TEST_CASE("batches: next says when there are no more, and keeps saying so") {
  data::Batches batches = data::batches(counting(3), {}, {.batch_size = 2});
  data::Batch batch;
  CHECK(batches.next(batch));
  CHECK(batches.next(batch));
  CHECK(batch.x.dim(0) == 1);
  CHECK_FALSE(batches.next(batch));
  CHECK_FALSE(batches.next(batch));
}

TEST_CASE("batches: left early, or never begun, the thread ends with the object") {
  const Tensor x = counting(100'000);
  for (int used = 0; used < 20; ++used) {
    data::Batches batches = data::batches(x, {}, {.batch_size = 10, .shuffle = true, .epochs = 1'000'000});
    data::Batch batch;
    for (int i = 0; i < used % 4; ++i) CHECK(batches.next(batch));
    data::Batches moved = std::move(batches);
    if (used % 2) CHECK(moved.next(batch));
    if (used % 5 == 0) moved = data::batches(x, {}, {.batch_size = 10});
  }
  // The data outlive what was lent of them, and no thread holds on to it: this would hang or crash otherwise.
  CHECK(x.at({99'999}) == 99'999);
}

TEST_CASE("batches: of columns on a device are made in the stream of who asks for them") {
  const Device device = test::emulated_device();
  const data::Column x(counting(9).to(uint8).to(device), 0.5);
  const StreamScope scope(Stream::create(device));
  for (const bool shuffle : {false, true}) {
    auto batches = data::batches(x, x, {.batch_size = 4, .shuffle = shuffle});
    data::Batch batch;
    REQUIRE(batches.next(batch));
    const uint64_t others = TensorAccess::streams(batch.x) & ~detail::current_state(device).bit();
    CHECK(others == 0);
  }
}

TEST_CASE("batches: several at once on one data set") {
  const Tensor x = counting(1000);
  std::vector<std::thread> threads;
  std::atomic<int64_t> sum = 0;
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&] {
      for (auto [part, y] : data::batches(x, {}, {.batch_size = 7, .shuffle = true}))
        for (const int64_t v : part.values<int64_t>()) sum += v;
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(sum == 8 * 999 * 1000 / 2);
}

TEST_CASE("batches: an error in the background arrives at next, once") {
  // Examples whose batch no machine could hold: made by hand, as no tensor of them could be.
  const Tensor huge = TensorAccess::view(zeros({1}), 0, {4, int64_t{1} << 45, 8});
  data::Batches batches = data::batches(huge, {}, {.batch_size = 2, .shuffle = true});
  data::Batch batch;
  CHECK(error_text([&] { batches.next(batch); }) == "[empty] too many elements: [2,35184372088832,8]");
  CHECK_FALSE(batches.next(batch));
  CHECK(error_text([&] {
          for (auto [x, y] : data::batches(huge, {}, {.shuffle = true})) CHECK(false);
        }) == "[empty] too many elements: [4,35184372088832,8]");
}

TEST_SUITE_END();

TEST_CASE("batches: wrong use") {
  const Tensor x = counting(4);
  CHECK(error_text([&] { data::batches(x, counting(3)); }) ==
        "[batches] inputs and targets must be equal in number: 4 and 3");
  CHECK(error_text([&] { data::batches(x, Tensor(1.0)); }) ==
        "[batches] inputs and targets must be equal in number: 4 and 0");
  CHECK(error_text([&] { data::batches(x, {}, {.batch_size = 0}); }) ==
        "[batches] the batch size must be at least 1, got 0");
  CHECK(error_text([&] { data::batches(x, {}, {.batch_size = -5}); }) ==
        "[batches] the batch size must be at least 1, got -5");
  CHECK(error_text([&] { data::batches(data::Column(), {}); }) ==
        "[batches] the inputs must have a first axis of examples");
  CHECK(error_text([&] { data::batches(Tensor(1.0), {}); }) ==
        "[batches] the inputs must have a first axis of examples");
}
