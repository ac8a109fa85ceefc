// What a .npy file may hold, how one is written, and what is said of one that breaks the rules. The files of
// tests/golden/npy were written by NumPy.
#include "mica/io/npy.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "mica/core/memory.h"
#include "support/damage.h"
#include "support/error_text.h"
#include "support/tensors.h"

using namespace mica;
using namespace mica::test;

namespace {

std::string golden_npy(const std::string& name) { return MICA_SOURCE_DIR "/tests/golden/npy/" + name + ".npy"; }

// A file of this format, with this dictionary and `data` bytes of data.
std::string npy(const std::string& dictionary, size_t data = 0, char major = 1) {
  std::string bytes("\x93NUMPY\0\0", 8);
  bytes[6] = major;
  const size_t length = dictionary.size();
  for (int i = 0; i < (major == 1 ? 2 : 4); ++i) bytes += static_cast<char>(length >> (8 * i));
  return bytes + dictionary + std::string(data, '\x01');
}

// The dictionary of such an array.
std::string described(const std::string& descr, const std::string& shape) {
  return "{'descr': '" + descr + "', 'fortran_order': False, 'shape': " + shape + ", }";
}

Tensor loaded_npy(const std::string& bytes) {
  const TempDir folder;
  return io::load_npy(folder.write("array.npy", bytes));
}

// The error of loading these bytes, without "[load_npy] <path>: ", which every error must begin with.
std::string npy_rejection(const std::string& bytes) {
  const TempDir folder;
  const std::string path = folder.write("array.npy", bytes);
  const std::string text = error_text<FileError>([&] { io::load_npy(path); });
  const std::string start = "[load_npy] " + path + ": ";
  return text.compare(0, start.size(), start) == 0 ? text.substr(start.size()) : text;
}

}  // namespace

TEST_CASE("npy: each dtype of NumPy's becomes one that holds its values exactly") {
  struct Row {
    const char* file;
    DType dtype;
    std::vector<double> values;
  };
  const double inf = std::numeric_limits<double>::infinity();
  const std::vector<Row> rows = {
      {"b1", uint8, {0, 1, 1}},
      {"u1", uint8, {0, 1, 255}},
      {"i2", int32, {-32768, 1, 32767}},
      {"u2", int32, {0, 1, 65535}},
      {"i4", int32, {INT32_MIN, 1, INT32_MAX}},
      {"u4", int64, {0, 1, 4294967295.0}},
      {"i8", int64, {-0x1p63, 1, 0x1p63}},  // 2^63 - 1 as a double
      {"f2", float32, {-1.5, 0.0999755859375, inf}},
      {"f4", float32, {-1.5, 0.1f, inf}},
      {"f8", float64, {-1.5, 0.1, inf}},
  };
  for (const Row& row : rows)
    for (const char* order : {"", "_big_endian"}) {
      if (order[0] && (row.file[1] == '1')) continue;  // one byte has no order
      CAPTURE(row.file);
      CAPTURE(order);
      const Tensor x = io::load_npy(golden_npy(std::string(row.file) + order));
      CHECK(x.dtype() == row.dtype);
      CHECK(x.shape() == Shape{3});
      CHECK(doubles(x) == row.values);
    }
  CHECK(io::load_npy(golden_npy("i8")).data<int64_t>()[2] == INT64_MAX);
}

TEST_CASE("npy: every float16 becomes the float32 of its value") {
  std::string bytes = npy(described("<f2", "(65536,)"));
  for (int bits = 0; bits < 65536; ++bits) bytes += {static_cast<char>(bits & 255), static_cast<char>(bits >> 8)};
  const Tensor x = loaded_npy(bytes);
  int wrong = 0;
  for (int bits = 0; bits < 65536; ++bits) {
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    const float magnitude = exponent == 31  ? (fraction ? std::nanf("") : HUGE_VALF)
                            : exponent == 0 ? std::ldexp(static_cast<float>(fraction), -24)
                                            : std::ldexp(static_cast<float>(1024 + fraction), exponent - 25);
    const float expected = bits >> 15 ? -magnitude : magnitude, actual = x.data<float>()[bits];
    const bool same = std::isnan(expected) ? std::isnan(actual) : expected == actual;
    wrong += !same || std::signbit(actual) != (bits >> 15 != 0);
  }
  CHECK(wrong == 0);
}

TEST_CASE("npy: a bool of any byte is 0 or 1") {
  CHECK(doubles(loaded_npy(npy(described("|b1", "(3,)")) + std::string("\0\x02\xff", 3))) ==
        std::vector<double>{0, 1, 1});
}

TEST_CASE("npy: arrays in Fortran order become row-major") {
  const Tensor expected = counting({2, 3, 4}, float32);
  for (const char* name : {"c_order", "fortran_order", "fortran_order_big_endian", "fortran_order_float16"}) {
    CAPTURE(name);
    CHECK(same_bits(io::load_npy(golden_npy(name)), expected));
  }
  CHECK(io::load_npy(golden_npy("fortran_order_empty")).shape() == Shape{2, 0, 3});
  // More than one buffer of it.
  const std::string header = "{'descr': '<u4', 'fortran_order': True, 'shape': (300, 257), }";
  std::string bytes = npy(header);
  for (uint32_t column = 0; column < 257; ++column)
    for (uint32_t row = 0; row < 300; ++row) {
      const uint32_t value = row * 257 + column;
      bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
    }
  CHECK(same_bits(loaded_npy(bytes), counting({300, 257}, int64)));
}

TEST_CASE("npy: formats 2.0 and 3.0, scalars, empty arrays, rank 8") {
  CHECK(same_bits(io::load_npy(golden_npy("format_2")), counting({2, 3, 4}, float32)));
  CHECK(same_bits(io::load_npy(golden_npy("format_3")), counting({2, 3, 4}, float32)));
  CHECK(io::load_npy(golden_npy("scalar")).shape() == Shape{});
  CHECK(io::load_npy(golden_npy("scalar")).item() == 0.25);
  CHECK(io::load_npy(golden_npy("empty")).shape() == Shape{2, 0, 3});
  CHECK(io::load_npy(golden_npy("rank_8")).shape() == Shape{1, 2, 1, 1, 2, 1, 1, 1});
}

TEST_CASE("npy: a header as others write it") {
  const auto shape = [](const std::string& dictionary, size_t data) {
    return loaded_npy(npy(dictionary, data)).shape();
  };
  CHECK(shape(R"({"shape":(2,3),"fortran_order":False,"descr":"|u1"})", 6) == Shape{2, 3});
  CHECK(shape("{ 'shape' : ( 2L , 3L , ) ,\n'fortran_order' : True , 'descr' : 'u1' } \n", 6) == Shape{2, 3});
  CHECK(shape(described("=i4", "()"), 4) == Shape{});
}

TEST_CASE("npy: a saved file is NumPy's, byte for byte") {
  const TempDir folder;
  const std::string path = folder.file("array.npy");
  for (const char* name : {"u1", "i4", "i8", "f4", "f8", "c_order", "scalar", "empty", "rank_8"}) {
    CAPTURE(name);
    io::save_npy(path, io::load_npy(golden_npy(name)));
    CHECK(read_file(path) == read_file(golden_npy(name)));
  }
}

TEST_CASE("npy: a header is padded as NumPy pads it, whatever its length") {
  const TempDir folder;
  const std::string path = folder.file("array.npy");
  // Sizes of 1 to 7 digits, so that the dictionary takes many lengths around a multiple of 64.
  for (int64_t ones = 0; ones <= 7; ++ones)
    for (const int64_t size : {1, 12, 123, 1234, 12345, 123456, 1234567}) {
      std::vector<int64_t> sizes(static_cast<size_t>(ones), 1);
      sizes.insert(sizes.end(), size);
      const Shape shape{std::span<const int64_t>(sizes)};
      io::save_npy(path, zeros(shape, {.dtype = uint8}));
      const std::string bytes = read_file(path);
      const size_t header = bytes.size() - static_cast<size_t>(size);
      CHECK(header % 64 == 0);
      CHECK(bytes[header - 1] == '\n');
      CHECK(bytes[header - 2] == ' ');
      CHECK(io::load_npy(path).shape() == shape);
    }
}

TEST_CASE("npy: a slice is saved as what it shows; saving over a file replaces it whole") {
  const TempDir folder;
  const std::string path = folder.write("array.npy", "old");
  io::save_npy(path, tensor({{1, 2}, {3, 4}, {5, 6}}).slice(1, 3));
  CHECK(same_bits(io::load_npy(path), tensor({{3, 4}, {5, 6}})));
  CHECK(folder.size() == 1);
}

TEST_CASE("npy: what cannot be saved is said before any file is touched") {
  const TempDir folder;
  const std::string path = folder.file("array.npy");
  CHECK(error_text<FileError>([&] { io::save_npy(path, Tensor()); }) ==
        "[save_npy] " + path + ": the tensor is undefined");
  CHECK(error_text<FileError>([&] { io::save_npy(path, zeros({2}, {.dtype = bfloat16})); }) ==
        "[save_npy] " + path + ": npy has no bfloat16: convert the tensor to float32");
  CHECK(folder.size() == 0);
}

TEST_CASE("npy: dtypes that no tensor has are refused by their names") {
  const auto refusal = [](const char* name) { return npy_rejection(read_file(golden_npy(name))); };
  const std::string list =
      " is not supported: bool, uint8, int16, uint16, int32, uint32, int64, float16, float32 and float64 are";
  CHECK(refusal("i1") == "dtype \"|i1\" (int8: convert it to int32)" + list);
  CHECK(refusal("u8") == "dtype \"<u8\" (uint64: convert it to int64)" + list);
  CHECK(refusal("u8_big_endian") == "dtype \">u8\" (uint64: convert it to int64)" + list);
  CHECK(refusal("c8") == "dtype \"<c8\" (complex)" + list);
  CHECK(refusal("U3") == "dtype \"<U3\" (text)" + list);
  CHECK(refusal("V2") == "dtype \"|V2\" (raw bytes, as of bfloat16)" + list);
  CHECK(refusal("objects") == "dtype \"|O\" holds pickled objects, which run code when they are read: refused");
  CHECK(refusal("structured") == "structured dtypes are not supported");
  CHECK(refusal("rank_9") == "header byte 75: a rank above 8");
  for (const char* other : {"", "<", "f", "<f3", "<f4 ", "f4<", "<<f4", "<f16", "<m8[ns]", "?", "d"}) {
    CAPTURE(other);
    CHECK(contains(npy_rejection(npy(described(other, "(1,)"), 1)), " is not supported"));
  }
}

TEST_CASE("npy: files that are no npy files") {
  CHECK(npy_rejection("") == "cut short: 0 of the 8 bytes that an npy file begins with");
  CHECK(npy_rejection("PK\3\4....") == "not an npy file: it begins with 50 4b 03 04 2e 2e, not with 93 4e 55 4d 50 59");
  CHECK(npy_rejection("\x93NUMPY\1") == "cut short: 7 of the 8 bytes that an npy file begins with");
  CHECK(npy_rejection(std::string("\x93NUMPY\1\0", 8)) == "cut short: 8 of the 10 bytes that an npy file begins with");
  CHECK(npy_rejection(std::string("\x93NUMPY\2\0\1\0", 10)) ==
        "cut short: 10 of the 12 bytes that an npy file begins with");
  CHECK(npy_rejection(std::string("\x93NUMPY\4\0\0\0", 10)) == "format 4.0 is unknown: 1.0, 2.0 and 3.0 are read");
  CHECK(npy_rejection(std::string("\x93NUMPY\1\1\0\0", 10)) == "format 1.1 is unknown: 1.0, 2.0 and 3.0 are read");
  CHECK(npy_rejection(std::string("\x93NUMPY\0\0\0\0", 10)) == "format 0.0 is unknown: 1.0, 2.0 and 3.0 are read");
}

TEST_CASE("npy: header lengths that cannot be") {
  CHECK(npy_rejection(std::string("\x93NUMPY\1\0\1\0", 10)) ==
        "header length 1 goes beyond the file, which has 10 bytes");
  CHECK(npy_rejection(std::string("\x93NUMPY\1\0\0\0", 10)) ==
        "header byte 0: expected \"{\", found the end of the header");
  CHECK(npy_rejection(std::string("\x93NUMPY\2\0\xff\xff\xff\xff", 12)) == "header length 4294967295 is above 65535");
  CHECK(npy_rejection(npy(described("|u1", "(3,)") + std::string(65536, ' '), 3, 2)) ==
        "header length 65593 is above 65535");
}

TEST_CASE("npy: dictionaries that are wrong") {
  const auto text = [](const std::string& dictionary) { return npy_rejection(npy(dictionary, 3)); };
  CHECK(text("[]") == "header byte 0: expected \"{\", found \"[\"");
  CHECK(text("{") == "header byte 1: expected a string, found the end of the header");
  CHECK(text("{}") == "the header lacks the key \"descr\"");
  CHECK(text("{'descr': '|u1', 'shape': (3,)}") == "the header lacks the key \"fortran_order\"");
  CHECK(text("{'descr': '|u1', 'fortran_order': False}") == "the header lacks the key \"shape\"");
  CHECK(text("{'descr': '|u1', 'descr': '|u1'}") == "the header has the key \"descr\" twice");
  CHECK(text("{'strides': 1}") == "the header has an unknown key \"strides\"");
  CHECK(text("{descr: 1}") == "header byte 1: expected a string, found \"d\"");
  CHECK(text("{'descr") == "header byte 7: a string has no end");
  CHECK(text("{'descr\"") == "header byte 8: a string has no end");
  CHECK(text("{'d\\x65scr'") == "header byte 3: an escape in a string");
  CHECK(text("{'descr' '|u1'") == "header byte 9: expected \":\", found \"'\"");
  CHECK(text("{'descr': 3") == "header byte 10: expected a string, found \"3\"");
  CHECK(text("{'descr': '|u1' 'shape'") == "header byte 16: expected \"}\", found \"'\"");
  CHECK(text("{'fortran_order': 0") == "header byte 18: expected True or False, found \"0\"");
  CHECK(text("{'fortran_order': Fals") == "header byte 18: expected True or False, found \"F\"");
  CHECK(text(described("|u1", "(3,)") + "{}") ==
        "header byte 57: expected nothing but spaces after the dictionary, found \"{\"");
  CHECK(text("{\x80") == "header byte 1: expected a string, found \"?\"");
}

TEST_CASE("npy: shapes that are wrong") {
  const auto shape = [](const std::string& sizes) { return npy_rejection(npy(described("|u1", sizes), 3)); };
  CHECK(shape("3") == "header byte 50: expected \"(\", found \"3\"");
  CHECK(shape("(3)") == "the header's shape is a number, not a tuple");
  CHECK(shape("[3]") == "header byte 50: expected \"(\", found \"[\"");
  CHECK(shape("(-3,)") == "header byte 51: a size must not be negative");
  CHECK(shape("(,)") == "header byte 51: expected a whole number, found \",\"");
  CHECK(shape("(3.0,)") == "header byte 52: expected \")\", found \".\"");
  CHECK(shape("(3,,)") == "header byte 53: expected a whole number, found \",\"");
  CHECK(contains(shape("(99999999999999999999,)"), "a size beyond 2^63 - 1"));
  CHECK(contains(shape("(4294967296, 4294967296)"), "the sizes [4294967296,4294967296] are too large"));
  CHECK(contains(shape("(0, 4294967296, 4294967296)"), "are too large"));
  CHECK(contains(shape("(9223372036854775807, 2)"), "are too large"));
  std::string rank255 = "(1";
  for (int i = 1; i < 255; ++i) rank255 += ", 1";
  CHECK(contains(shape(rank255 + ")"), "a rank above 8"));
  CHECK(contains(shape(std::string(60'000, '(')), "expected a whole number, found \"(\""));
}

TEST_CASE("npy: what the header claims must be there, and nothing more, before memory is asked for") {
  const int64_t before = memory_statistics().peak;
  CHECK(npy_rejection(npy(described("|u1", "(4,)"), 3)) == "shape [4] of 1-byte elements needs 4 bytes, but 3 follow");
  CHECK(npy_rejection(npy(described("<f8", "(4,)"), 33)) ==
        "shape [4] of 8-byte elements needs 32 bytes, but 33 follow");
  CHECK(npy_rejection(npy(described("<f4", "()"))) == "shape [] of 4-byte elements needs 4 bytes, but 0 follow");
  CHECK(npy_rejection(npy(described("<f2", "(1099511627776,)"), 8)) ==
        "shape [1099511627776] of 2-byte elements needs 2199023255552 bytes, but 8 follow");
  CHECK(memory_statistics().peak == before);
}

TEST_CASE("npy: a file cut at any byte is rejected, and one with any bit of its header flipped never does more") {
  for (const char* name : {"c_order", "fortran_order_big_endian", "format_2", "b1"}) {
    const std::string bytes = read_file(golden_npy(name));
    check_every_cut(bytes, io::load_npy);
    CHECK(check_every_flip(bytes, 128, io::load_npy) > 400);
  }
}

TEST_CASE("npy: paths that cannot be read") {
  const TempDir folder;
  const std::string missing = folder.file("missing.npy");
  CHECK(error_text<FileError>([&] { io::load_npy(missing); }) ==
        "[load_npy] " + missing + ": cannot open the file: No such file or directory");
  CHECK(error_text<FileError>([&] { io::load_npy(folder.path().string()); }) ==
        "[load_npy] " + folder.path().string() + ": not a regular file");
}
