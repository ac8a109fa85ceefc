// Columns, and MNIST as it lies in the repository.
#include "mica/data/dataset.h"

#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>

#include "mica/data/batches.h"
#include "support/error_text.h"
#include "support/temp_dir.h"

using namespace mica;
using namespace mica::test;

namespace {

// An IDX file of bytes.
std::string idx(const std::vector<unsigned char>& sizes, size_t elements) {
  std::string bytes = {'\0', '\0', '\x08', static_cast<char>(sizes.size())};
  for (const unsigned char size : sizes) bytes += {'\0', '\0', '\0', static_cast<char>(size)};
  for (size_t i = 0; i < elements; ++i) bytes += static_cast<char>(i % 10);
  return bytes;
}

// A folder of the four files, small.
void write_small(const TempDir& folder) {
  folder.write("train-images-idx3-ubyte", idx({6, 2, 3}, 36));
  folder.write("train-labels-idx1-ubyte", idx({6}, 6));
  folder.write("t10k-images-idx3-ubyte", idx({2, 2, 3}, 12));
  folder.write("t10k-labels-idx1-ubyte", idx({2}, 2));
}

Tensor all_bytes() {
  std::vector<uint8_t> values(256);
  for (size_t i = 0; i < 256; ++i) values[i] = static_cast<uint8_t>(i);
  return tensor(values, {256});
}

}  // namespace

TEST_CASE("column: bytes are scaled in float32: all 256 exactly, and with an offset to within rounding") {
  const data::Column pixels(all_bytes(), 1.0 / 255), shifted(all_bytes(), 2.0 / 255, -1);
  CHECK(pixels.dtype() == float32);
  CHECK(pixels.size() == 256);
  CHECK(pixels.values().dtype() == uint8);
  const Tensor x = pixels, y = shifted;
  for (int64_t i = 0; i < 256; ++i) {
    const float value = static_cast<float>(i);
    CHECK(x.at({i}) == value * static_cast<float>(1.0 / 255));
    CHECK(std::fabs(y.at({i}) - (static_cast<double>(i) * (2.0 / 255) - 1)) < 2.4e-7);
  }
  CHECK(x.at({0}) == 0);
  CHECK(x.at({255}) == 1);
}

TEST_CASE("column: without a scale values are as they are stored, and rows are views") {
  const Tensor labels = tensor({5, 0, 4, 1}, {uint8});
  const data::Column column = labels;
  CHECK(column.dtype() == uint8);
  CHECK(column.rows(1, 3).shares_storage_with(labels));
  CHECK(column.rows(1, 3).at({1}) == 4);
  CHECK(Tensor(column).shares_storage_with(labels));
}

TEST_CASE("column: gather takes examples in any order, some twice, and converts them") {
  const Tensor values = arange(0, 12, 1, {uint8}).reshape({4, 3});
  const std::vector<int64_t> indices = {3, 0, 3};
  const Tensor plain = data::Column(values).gather(indices), scaled = data::Column(values, 0.5, 1).gather(indices);
  CHECK(plain.dtype() == uint8);
  CHECK(plain.shape() == Shape{3, 3});
  CHECK(plain.at({0, 0}) == 9);
  CHECK(plain.at({1, 2}) == 2);
  CHECK(plain.at({2, 1}) == 10);
  CHECK(scaled.dtype() == float32);
  CHECK(scaled.at({0, 1}) == 6);
  CHECK(scaled.at({1, 0}) == 1);
  CHECK(data::Column(values).gather(std::vector<int64_t>{}).shape() == Shape{0, 3});
  CHECK(data::Column(zeros({4, 0})).gather(indices).shape() == Shape{3, 0});
}

TEST_CASE("column: rows and gather give the same numbers") {
  const data::Column column(all_bytes().reshape({64, 4}), 1.0 / 255, 0.1);
  std::vector<int64_t> indices(64);
  for (int64_t i = 0; i < 64; ++i) indices[static_cast<size_t>(i)] = i;
  const Tensor rows = column.rows(0, 64), gathered = column.gather(indices);
  for (int64_t i = 0; i < 256; ++i) CHECK(rows.data<float>()[i] == gathered.data<float>()[i]);
}

TEST_CASE("column: a slice is a column that shares the storage") {
  const data::Column column(all_bytes(), 0.5);
  const data::Column part = column.slice(10, 20);
  CHECK(part.size() == 10);
  CHECK(part.dtype() == float32);
  CHECK(part.values().shares_storage_with(column.values()));
  CHECK(Tensor(part).at({3}) == 6.5);
}

TEST_CASE("column: wrong use") {
  const data::Column column = zeros({4, 3});
  const auto gather = [&](int64_t i) { return error_text([&] { column.gather(std::vector<int64_t>{0, i}); }); };
  CHECK(gather(4) == "[gather] example 4 is outside of 0..3");
  CHECK(gather(-1) == "[gather] example -1 is outside of 0..3");
  CHECK(error_text([] { data::Column().gather(std::vector<int64_t>{}); }) == "[gather] the column is empty");
  CHECK(error_text([&] { column.rows(2, 5); }) == "[slice] rows [2, 5) are not within [4,3]");
  CHECK_FALSE(data::Column().defined());
  CHECK(data::Column().size() == 0);
  CHECK(data::Column(Tensor(1.0)).size() == 0);
}

TEST_CASE("mnist: 60,000 and 10,000 images of digits, in [0,1], with their labels") {
  const auto [train, test] = data::mnist(MICA_SOURCE_DIR "/examples/data/mnist");
  CHECK(train.size() == 60'000);
  CHECK(test.size() == 10'000);
  CHECK(train.images.example() == Shape{28, 28, 1});
  CHECK(train.images.dtype() == float32);
  CHECK(train.images.values().dtype() == uint8);
  CHECK(train.labels.dtype() == uint8);
  const std::vector<double> first = {5, 0, 4, 1, 9, 2, 1, 3, 1, 4}, first_test = {7, 2, 1, 0, 4, 1, 4, 9, 5, 9};
  for (int64_t i = 0; i < 10; ++i) {
    CHECK(train.labels.values().at({i}) == first[static_cast<size_t>(i)]);
    CHECK(test.labels.values().at({i}) == first_test[static_cast<size_t>(i)]);
  }
  // The mean and deviation of the pixels that everybody normalises with.
  double sum = 0, squares = 0;
  for (const uint8_t v : train.images.values().values<uint8_t>()) {
    sum += v / 255.0;
    squares += v / 255.0 * v / 255.0;
  }
  const double mean = sum / (60'000.0 * 784);
  CHECK(mean == doctest::Approx(0.1307).epsilon(1e-3));
  CHECK(std::sqrt(squares / (60'000.0 * 784) - mean * mean) == doctest::Approx(0.3081).epsilon(1e-3));
  for (auto [x, y] : data::batches(train, {.batch_size = 128, .shuffle = true})) {
    CHECK(x.shape() == Shape{128, 28, 28, 1});
    CHECK(y.shape() == Shape{128});
    break;
  }
}

TEST_CASE("mnist: any data set in its four files, raw as well") {
  const TempDir folder;
  write_small(folder);
  const auto [train, test] = data::mnist(folder.path().string());
  CHECK(train.images.example() == Shape{2, 3, 1});
  CHECK(train.size() == 6);
  CHECK(test.size() == 2);
  CHECK(Tensor(train.images).at({1, 0, 0, 0}) == 6 * static_cast<float>(1.0 / 255));
}

TEST_CASE("mnist: folders that hold something else") {
  const TempDir folder;
  const std::string path = folder.path().string();
  const auto refusal = [&] { return error_text<FileError>([&] { data::mnist(path); }); };
  CHECK(contains(refusal(), path + "/train-images-idx3-ubyte: cannot open the file: No such file or directory"));
  CHECK(contains(error_text<FileError>([&] { data::mnist(path + "/nowhere"); }),
                 path + "/nowhere/train-images-idx3-ubyte: cannot open the file"));
  write_small(folder);
  CHECK(refusal() == "no error");
  std::filesystem::remove(folder.file("t10k-labels-idx1-ubyte"));
  CHECK(contains(refusal(), path + "/t10k-labels-idx1-ubyte: cannot open the file"));
  folder.write("t10k-labels-idx1-ubyte", idx({3}, 3));
  CHECK(refusal() ==
        "[mnist] " + path + ": 2 images in t10k-images-idx3-ubyte, but 3 labels in t10k-labels-idx1-ubyte");
  folder.write("train-labels-idx1-ubyte", idx({6, 1}, 6));
  CHECK(refusal() == "[mnist] " + path + "/train-labels-idx1-ubyte: labels must be uint8 [n], got [6,1] uint8");
  folder.write("train-images-idx3-ubyte", idx({6, 6}, 36));
  CHECK(refusal() ==
        "[mnist] " + path + "/train-images-idx3-ubyte: images must be uint8 [n, height, width], got [6,6] uint8");
  folder.write("train-images-idx3-ubyte", "nonsense");
  CHECK(contains(refusal(), "[load_idx] " + path + "/train-images-idx3-ubyte: not an IDX file"));
}
