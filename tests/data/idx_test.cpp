// What an IDX file may hold, raw and gzipped, and what is said of one that breaks the rules.
#include "mica/data/idx.h"

#include <doctest/doctest.h>

#include <bit>
#include <numeric>

#include "mica/core/memory.h"
#include "support/error_text.h"
#include "support/gzip.h"
#include "support/temp_dir.h"

using namespace mica;
using mica::test::contains;
using mica::test::error_text;
using mica::test::gzip;
using mica::test::TempDir;

namespace {

template <class T>
std::string big_endian(T value) {
  std::string bytes(reinterpret_cast<const char*>(&value), sizeof value);
  return {bytes.rbegin(), bytes.rend()};
}

// An IDX file of this element type and these sizes, then `data`.
std::string idx(uint8_t type, const std::vector<uint32_t>& sizes, const std::string& data) {
  std::string bytes = {'\0', '\0', static_cast<char>(type), static_cast<char>(sizes.size())};
  for (const uint32_t size : sizes) bytes += big_endian(size);
  return bytes + data;
}

Tensor loaded(const std::string& bytes) {
  const TempDir folder;
  return data::load_idx(folder.write("file", bytes));
}

// The error of loading these bytes, without "[load_idx] <path>: ", which every error must begin with.
std::string rejection(const std::string& bytes) {
  const TempDir folder;
  const std::string path = folder.write("images.idx", bytes);
  const std::string text = error_text<FileError>([&] { data::load_idx(path); });
  const std::string start = "[load_idx] " + path + ": ";
  return text.compare(0, start.size(), start) == 0 ? text.substr(start.size()) : text;
}

std::string counting(size_t size) {
  std::string bytes(size, '\0');
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i * 7 + i / 251);
  return bytes;
}

}  // namespace

TEST_CASE("idx: bytes, of any rank from 1 to 8, raw and gzipped") {
  for (const std::vector<uint32_t>& sizes :
       {std::vector<uint32_t>{5}, {2, 3}, {2, 3, 4}, {1, 1, 1, 1, 1, 1, 2, 3}, {0}, {2, 0, 28}, {4000, 28, 28}}) {
    const auto count = std::accumulate(sizes.begin(), sizes.end(), size_t{1}, std::multiplies<>());
    const std::string data = counting(count), file = idx(0x08, sizes, data);
    const std::vector<int64_t> expected(sizes.begin(), sizes.end());
    for (const std::string& bytes : {file, gzip(file)}) {
      const Tensor x = loaded(bytes);
      CHECK(x.dtype() == uint8);
      CHECK(x.shape() == Shape(std::span<const int64_t>(expected)));
      CHECK(std::string(static_cast<const char*>(x.raw()), x.bytes()) == data);
    }
  }
}

TEST_CASE("idx: int32, float32 and float64 are big-endian in the file") {
  const Tensor i = loaded(idx(0x0c, {3}, big_endian(1) + big_endian(-2) + big_endian(INT32_MAX)));
  CHECK(i.dtype() == int32);
  CHECK(i.at({0}) == 1);
  CHECK(i.at({1}) == -2);
  CHECK(i.at({2}) == INT32_MAX);
  const Tensor f = loaded(idx(0x0d, {2, 1}, big_endian(1.5f) + big_endian(-0.1f)));
  CHECK(f.dtype() == float32);
  CHECK(f.at({0, 0}) == 1.5);
  CHECK(f.at({1, 0}) == -0.1f);
  const Tensor d = loaded(gzip(idx(0x0e, {2}, big_endian(0.1) + big_endian(-1e300))));
  CHECK(d.dtype() == float64);
  CHECK(d.at({0}) == 0.1);
  CHECK(d.at({1}) == -1e300);
}

TEST_CASE("idx: gzip is told by its content, not by the name") {
  const TempDir folder;
  const std::string file = idx(0x08, {3}, "abc");
  CHECK(data::load_idx(folder.write("raw.gz", file)).dim(0) == 3);
  CHECK(data::load_idx(folder.write("packed.idx", gzip(file))).dim(0) == 3);
}

TEST_CASE("idx: a gzip file may have several members") {
  const std::string file = idx(0x08, {6}, "abcdef");
  CHECK(loaded(gzip(file.substr(0, 3)) + gzip("") + gzip(file.substr(3))).at({5}) == 'f');
}

TEST_CASE("idx: files that are no IDX files") {
  CHECK(rejection("") == "the file is empty");
  CHECK(rejection("PK\x03\x04....") == "not an IDX file: it begins with 50 4b 03 04, not with 00 00");
  CHECK(rejection(gzip("text")) == "not an IDX file: it begins with 74 65 78 74, not with 00 00");
  CHECK(rejection(std::string("\x03\x08\0\0", 4)) == "not an IDX file: it begins with 03 08 00 00, not with 00 00");
  CHECK(rejection(std::string("\0", 1)) == "cut short: 1 of the 4 bytes that an IDX file begins with");
  CHECK(rejection(gzip("")) == "cut short: 0 of the 4 bytes that an IDX file begins with");
  CHECK(contains(rejection(gzip(gzip(idx(0x08, {1}, "a")))), "not an IDX file: it begins with 1f 8b"));
}

TEST_CASE("idx: element types") {
  CHECK(rejection(idx(0x09, {1}, "a")) ==
        "element type int8 (0x09) is not supported: uint8, int32, float32 and float64 are");
  CHECK(rejection(idx(0x0b, {1}, "aa")) ==
        "element type int16 (0x0b) is not supported: uint8, int32, float32 and float64 are");
  for (const int type : {0x00, 0x07, 0x0a, 0x0f, 0xff})
    CHECK(contains(rejection(idx(static_cast<uint8_t>(type), {1}, "a")), "unknown element type 0x"));
  CHECK(rejection(idx(0xff, {1}, "a")) == "unknown element type 0xff at byte 2");
}

TEST_CASE("idx: ranks") {
  CHECK(rejection(idx(0x08, {}, "a")) == "rank 0 at byte 3 is not from 1 to 8");
  CHECK(rejection(idx(0x08, std::vector<uint32_t>(9, 1), "a")) == "rank 9 at byte 3 is not from 1 to 8");
  CHECK(rejection(idx(0x08, std::vector<uint32_t>(255, 1), "a")) == "rank 255 at byte 3 is not from 1 to 8");
}

TEST_CASE("idx: sizes and data must agree") {
  CHECK(rejection(idx(0x08, {2, 3}, "abcde")) == "sizes [2,3] of uint8 need 6 bytes, but 5 follow");
  CHECK(rejection(idx(0x08, {2, 3}, "abcdefg")) == "more bytes follow the 6 that sizes [2,3] of uint8 need");
  CHECK(rejection(idx(0x0e, {2}, "abcdefgh")) == "sizes [2] of float64 need 16 bytes, but 8 follow");
  CHECK(rejection(idx(0x08, {0}, "a")) == "more bytes follow the 0 that sizes [0] of uint8 need");
  CHECK(rejection(idx(0x08, {4294967295u}, "a")) == "sizes [4294967295] of uint8 need 4294967295 bytes, but 1 follow");
  CHECK(rejection(gzip(idx(0x08, {2, 3}, "abcde"))) == "cut short: sizes [2,3] of uint8 need 6 bytes, but 5 follow");
  CHECK(rejection(gzip(idx(0x08, {2, 3}, "abcdefg"))) == "more bytes follow the 6 that sizes [2,3] of uint8 need");
  CHECK(rejection(idx(0x08, {0x0a000000}, "0123456789")) ==
        "sizes [167772160] of uint8 need 167772160 bytes, but 10 follow (the sizes look little-endian)");
}

TEST_CASE("idx: products that overflow") {
  const uint32_t most = 0xffffffffu;
  CHECK(rejection(idx(0x08, {most, most, most}, "a")) == "the sizes [4294967295,4294967295,4294967295] are too large");
  CHECK(contains(rejection(idx(0x08, std::vector<uint32_t>(8, most), "a")), "are too large"));
  CHECK(contains(rejection(idx(0x08, {0, most, most, most}, "")), "are too large"));
  CHECK(contains(rejection(idx(0x08, {most, most, most, 0}, "")), "are too large"));
  CHECK(contains(rejection(idx(0x08, {most, 15'794'176, 0, 0}, "")), "are too large"));
  CHECK(contains(rejection(idx(0x0e, {most, most}, "a")), "are too large"));
  CHECK(contains(rejection(gzip(idx(0x08, {most, most, most}, "a"))), "are too large"));
}

TEST_CASE("idx: a file cut at any byte is rejected") {
  const TempDir folder;
  for (const std::string& bytes : {idx(0x0d, {2, 3}, counting(24)), gzip(idx(0x0d, {2, 3}, counting(24)))})
    for (size_t size = 0; size < bytes.size(); ++size) {
      CAPTURE(size);
      folder.write("cut", bytes.substr(0, size));
      CHECK_THROWS_AS(data::load_idx(folder.file("cut")), FileError);
    }
}

TEST_CASE("idx: a file with any bit flipped is rejected or loaded, never more") {
  const TempDir folder;
  int rejected = 0;
  for (std::string bytes : {idx(0x08, {2, 3}, "abcdef"), gzip(idx(0x08, {2, 3}, "abcdef"))})
    for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
      bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << (bit % 8)));
      folder.write("flipped", bytes);
      try {
        data::load_idx(folder.file("flipped"));
      } catch (const FileError&) {
        ++rejected;
      }
      bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << (bit % 8)));
    }
  CHECK(rejected > 100);
}

TEST_CASE("idx: damaged gzip data is named with its place") {
  const std::string packed = gzip(idx(0x08, {1000}, counting(1000)));
  CHECK(contains(rejection(packed.substr(0, packed.size() - 9)), "the gzip data ends too early, at byte "));
  CHECK(contains(rejection(packed.substr(0, packed.size() - 1)), "the gzip data ends too early, at byte "));
  CHECK(rejection("\x1f\x8b") == "the gzip data ends too early, at byte 2");
  std::string checksum = packed;
  checksum[packed.size() - 8] ^= 1;
  CHECK(contains(rejection(checksum), "corrupt gzip data before byte "));
  CHECK(contains(rejection(checksum), ": incorrect data check"));
  std::string length = packed;
  length[packed.size() - 1] ^= 1;
  CHECK(contains(rejection(length), ": incorrect length check"));
  CHECK(contains(rejection(packed + "trailing"), ": incorrect header check"));
  CHECK(contains(rejection(packed + std::string(8, '\0')), ": incorrect header check"));
  std::string method = packed;
  method[2] = 7;
  CHECK(contains(rejection(method), ": unknown compression method"));
}

TEST_CASE("idx: gzip bombs") {
  const int64_t before = memory_statistics().peak;
  // The file claims more than deflate can hold.
  CHECK(contains(rejection(gzip(idx(0x08, {4000, 1000, 1000}, "a"))), " need 4000000000 bytes, but at most "));
  // It holds more than it claims: reading stops there.
  CHECK(rejection(gzip(idx(0x08, {10}, std::string(50'000'000, '\0')))) ==
        "more bytes follow the 10 that sizes [10] of uint8 need");
  // It claims what could be, but is not there.
  std::string noise(30'000, '\0');
  for (uint32_t state = 1; char& c : noise) c = static_cast<char>((state = state * 1664525u + 1013904223u) >> 24);
  CHECK(rejection(gzip(idx(0x08, {20'000'000}, noise))) ==
        "cut short: sizes [20000000] of uint8 need 20000000 bytes, but 30000 follow");
  CHECK(memory_statistics().peak == before);
}

TEST_CASE("idx: paths that cannot be read") {
  const TempDir folder;
  const std::string missing = folder.file("missing.idx");
  CHECK(error_text<FileError>([&] { data::load_idx(missing); }) ==
        "[load_idx] " + missing + ": cannot open the file: No such file or directory");
  CHECK(error_text<FileError>([&] { data::load_idx(folder.path().string()); }) ==
        "[load_idx] " + folder.path().string() + ": not a regular file");
}
