// What a loader of files takes from the heap at most: twice the file and 1 MiB; of a compressed file, twice what it
// unpacks to and 1 MiB. A file that is refused takes no more than one that is not. (A table has rules of its own.)
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>
#include <zlib.h>

#include <filesystem>

#include "heap.h"
#include "mica/mica.h"
#include "support/temp_dir.h"

using namespace mica;
using mica::test::TempDir;

namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

// The most that `load` takes from the heap; errors of files are what it may throw.
template <class Load>
int64_t peak_of(const Load& load) {
  release_cached();
  test::reset_heap_peak();
  const int64_t before = test::heap_bytes();
  try {
    load();
  } catch (const FileError&) {
  }
  return test::heap_peak() - before;
}

template <class Load>
void check_bound(const std::string& path, const Load& load, int64_t unpacked = 0) {
  CAPTURE(path);
  const int64_t size = unpacked ? unpacked : static_cast<int64_t>(std::filesystem::file_size(path));
  CAPTURE(size);
  CHECK(peak_of([&] { load(path); }) <= 2 * size + kMiB);
}

std::string text_of(int number) { return std::to_string(number); }

// A safetensors file of `count` tensors of one byte each (none, where `bytes` is 0).
std::string tiny_tensors(int count, const char* name, int bytes) {
  std::string header = "{";
  for (int i = 0; i < count; ++i)
    header += (i ? ",\"" : "\"") + std::string(name) + (name[0] ? text_of(i) : "") + R"(":{"dtype":"U8","shape":[)" +
              (bytes ? "1" : "0") + R"(],"data_offsets":[)" + text_of(i * bytes) + "," + text_of((i + 1) * bytes) +
              "]}";
  header += "}";
  const uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), 8) + header +
         std::string(static_cast<size_t>(count * bytes), 'x');
}

void write_gzip(const std::string& path, const std::string& bytes) {
  const gzFile file = gzopen(path.c_str(), "wb");
  REQUIRE(gzwrite(file, bytes.data(), static_cast<unsigned>(bytes.size())) == static_cast<int>(bytes.size()));
  REQUIRE(gzclose(file) == Z_OK);
}

std::string idx_bytes(uint32_t claimed, size_t data) {
  std::string bytes("\0\0\x08\x01", 4);
  for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(claimed >> shift);
  return bytes + std::string(data, '\x05');
}

}  // namespace

TEST_CASE("the heap is measured") {
  const int64_t before = test::heap_bytes();
  CHECK(peak_of([] { zeros({kMiB}, {.dtype = uint8}); }) >= kMiB);
  CHECK(peak_of([] { std::string(3 * kMiB, 'x'); }) >= 3 * kMiB);
  release_cached();
  CHECK(test::heap_bytes() < before + kMiB / 4);
}

TEST_CASE("safetensors: large tensors, many tiny ones, names and texts that are most of the file") {
  const TempDir folder;
  io::save_safetensors(folder.file("large"), {{"a", zeros({5'000'000})}, {"b", zeros({3'000'001}, {.dtype = uint8})}});
  folder.write("tiny", tiny_tensors(100'000, "t", 1));
  folder.write("tiny_empty", tiny_tensors(100'000, "t", 0));
  folder.write("same_name", tiny_tensors(100'000, "", 0));  // refused
  io::save_safetensors(folder.file("metadata"), {}, {{"a", std::string(5'000'000, 'x')}, {"b", "c"}});
  io::Metadata many;
  for (int i = 0; i < 4096; ++i) many.emplace_back(text_of(i), "");
  io::save_safetensors(folder.file("many_texts"), {}, many);
  for (const char* name : {"large", "tiny", "tiny_empty", "same_name", "metadata", "many_texts"})
    check_bound(folder.file(name), io::load_safetensors);
}

TEST_CASE("a model whose graph is as large as may be: 12 MiB more") {
  const TempDir folder;
  for (const char* value : {"[],", "{\"\":0},", "["}) {
    std::string graph = "[";
    const int64_t count = std::string(value).size() == 1 ? 99'999 : 49'990;
    for (int64_t i = 0; i < count; ++i) graph += value;
    io::save_safetensors(folder.file("graph"), {}, {{"mica.graph", graph}});
    const auto size = static_cast<int64_t>(std::filesystem::file_size(folder.file("graph")));
    CAPTURE(value);
    CHECK(peak_of([&] { nn::Model::load(folder.file("graph")); }) <= 2 * size + 12 * kMiB);
  }
}

TEST_CASE("idx, raw and gzipped") {
  const TempDir folder;
  check_bound(folder.write("raw", idx_bytes(30'000'000, 30'000'000)), data::load_idx);
  check_bound(folder.write("claims", idx_bytes(30'000'000, 29'999'999)), data::load_idx);
  // 33,600,000 bytes are where the allocator of tensors wastes the most.
  for (const int size : {3'000'000, 33'600'000}) {
    const std::string file = folder.file(text_of(size));
    write_gzip(file, idx_bytes(static_cast<uint32_t>(size), static_cast<size_t>(size)));
    check_bound(file, data::load_idx, size);
  }
  write_gzip(folder.file("claims_more"), idx_bytes(30'000'000, 3'000'000));
  check_bound(folder.file("claims_more"), data::load_idx, 3'000'000);
  write_gzip(folder.file("claims_less"), idx_bytes(10, 30'000'000));
  check_bound(folder.file("claims_less"), data::load_idx, 10);
}

TEST_CASE("csv: 8 bytes a value, the texts and 1 MiB; 1 MiB for a file that is refused") {
  const TempDir folder;
  std::string numbers = "a,b\n", texts = "a\n";
  for (int i = 0; i < 300'000; ++i) {
    numbers += "1,2\n";
    texts += "text\n";
  }
  const auto load = [](const std::string& path) { data::load_csv(path); };
  const std::string wide = folder.write("numbers", numbers), narrow = folder.write("texts", texts);
  CHECK(peak_of([&] { load(wide); }) <= 600'000 * 8 + kMiB);
  CHECK(peak_of([&] { load(narrow); }) <= 300'000 * (8 + 4) + kMiB);
  const std::string refused = folder.write("refused", numbers + "3\n"), bomb = folder.file("bomb");
  CHECK(peak_of([&] { load(refused); }) <= kMiB);
  write_gzip(bomb, numbers + std::string(30'000'000, '\0'));
  CHECK(peak_of([&] { load(bomb); }) <= kMiB);
}

TEST_CASE("npy, as it is and converted") {
  const TempDir folder;
  const auto save = [&](const char* name, const std::string& descr, const char* order, int64_t elements,
                        int64_t element) {
    std::string header = "{'descr': '" + descr + "', 'fortran_order': " + order + ", 'shape': (" +
                         std::to_string(elements / 1000) + ", 1000), }\n";
    std::string bytes("\x93NUMPY\1\0", 8);
    bytes += {static_cast<char>(header.size()), '\0'};
    return folder.write(name, bytes + header + std::string(static_cast<size_t>(elements * element), '\0'));
  };
  for (const char* order : {"False", "True"}) {
    check_bound(save("plain", "<f4", order, 8'000'000, 4), io::load_npy);
    check_bound(save("swapped", ">f8", order, 4'000'000, 8), io::load_npy);
    // float32 of float16 is twice the file by itself, and the allocator rounds it up by an eighth at most.
    const std::string half = save("half", "<f2", order, 8'000'000, 2);
    CHECK(peak_of([&] { io::load_npy(half); }) <= 32'000'000 / 8 * 9 + kMiB);
  }
}

TEST_CASE("npz: large arrays and as many tiny ones as may be, stored and compressed") {
  const TempDir folder;
  io::NamedTensors tiny;
  for (int i = 0; i < 2048; ++i) tiny.emplace_back("t" + text_of(i), zeros({1}, {.dtype = uint8}));
  const io::NamedTensors large = {{"a", zeros({5'000'000})}, {"b", random_uniform({2'000'000}, 0, 1, {.stream = 1})}};
  const std::string path = folder.file("arrays.npz");
  try {
    io::save_npz(path, {});
  } catch (const FileError&) {
    throw;
  } catch (const Error&) {
    return;  // built without libzip
  }
  for (const bool compress : {false, true}) {
    io::save_npz(path, large, {.compress = compress});
    check_bound(path, io::load_npz, 28'000'000);
    io::save_npz(path, tiny, {.compress = compress});
    check_bound(path, io::load_npz, 2048 * 129);
  }
}
