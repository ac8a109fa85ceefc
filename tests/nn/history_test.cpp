// Histories and logs in files.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "mica/nn/callbacks.h"
#include "mica/nn/sequential.h"
#include "mica/ops/reduce.h"
#include "mica/optim/sgd.h"
#include "nn/helpers.h"
#include "support/error_text.h"
#include "support/temp_dir.h"

using namespace mica;
using namespace mica::test;

namespace {

// Says 0.1, NaN, infinity, 1e-300, ... in the epochs of a fit.
struct Awkward {
  static constexpr const char* kName = "a \"b\", c";
  std::shared_ptr<int> epoch = std::make_shared<int>(-1);
  void reset() { ++*epoch; }
  void update(const Tensor&, const Tensor&) {}
  double result() const {
    const double values[] = {0.1, -std::nan(""), std::numeric_limits<double>::infinity(), 1e-300, 1.0 / 3};
    return values[*epoch];
  }
};

nn::History awkward(std::vector<std::shared_ptr<nn::Callback>> callbacks = {}) {
  nn::Sequential model{nn::Input({2}), nn::Dense(1)};
  model.compile({.optimizer = optim::SGD({.learning_rate = 0}),
                 .loss = [](const Tensor& p, const Tensor&) { return sum(p) * 0.0 + 0.5; },
                 .metrics = {Awkward()}});
  return model.fit(ones({2, 2}), ones({2, 1}), {.epochs = 5, .callbacks = std::move(callbacks)});
}

const char* const kCsv =
    "epoch,loss,\"a \"\"b\"\", c\"\n1,0.5,0.1\n2,0.5,nan\n3,0.5,inf\n4,0.5,1e-300\n5,0.5,0.3333333333333333\n";

}  // namespace

TEST_CASE("a history is saved as CSV, in the shortest digits that read back the same") {
  TempDir dir;
  const std::string path = dir.file("h.csv");
  awkward().save(path);
  CHECK(read_file(path) == kCsv);
  nn::History().save(path);
  CHECK(read_file(path) == "epoch\n");
  CHECK(dir.size() == 1);
}

TEST_CASE("a history is saved as JSON, with null for NaN and infinity") {
  TempDir dir;
  const std::string path = dir.file("h.json");
  const nn::History history = awkward();
  history.save(path);
  CHECK(read_file(path) ==
        "{\n \"loss\": [0.5, 0.5, 0.5, 0.5, 0.5],\n \"a \\\"b\\\", c\": [0.1, null, null, 1e-300, "
        "0.3333333333333333]\n}\n");
  const auto json = nlohmann::json::parse(read_file(path));
  CHECK(json["a \"b\", c"][4].get<double>() == history[Awkward::kName][4]);
  nn::History().save(path);
  CHECK(nlohmann::json::parse(read_file(path)).empty());
}

TEST_CASE("a history is not saved under other names, nor where it cannot be written; what was there stays") {
  TempDir dir;
  CHECK(error_text([&] { nn::History().save("h.txt"); }) ==
        "[history] the file's name must end in .csv or .json: h.txt");
  const std::string path = dir.file("none/h.csv");
  CHECK(error_text<FileError>([&] { nn::History().save(path); }) ==
        "[history] " + path + ": cannot create the file: No such file or directory");
}

TEST_CASE("the CSV logger writes each epoch as it ends, and begins anew with each fit") {
  TempDir dir;
  const std::string path = dir.file("log.csv");
  const callbacks::CSVLogger logger(path);
  struct Reader : nn::Callback {
    std::string path;
    std::vector<std::string> seen;
    void on_epoch_end(const nn::Progress&) override { seen.push_back(read_file(path)); }
  };
  const auto reader = std::make_shared<Reader>();
  reader->path = path;
  awkward({logger, reader});
  CHECK(reader->seen[0] == "epoch,loss,\"a \"\"b\"\", c\"\n1,0.5,0.1\n");
  CHECK(reader->seen[4] == kCsv);
  awkward({logger});
  CHECK(read_file(path) == kCsv);
  const std::string nowhere = dir.file("none/log.csv");
  CHECK(error_text<FileError>([&] { awkward({callbacks::CSVLogger(nowhere)}); }) ==
        "[csv_logger] " + nowhere + ": cannot create the file: No such file or directory");
}
