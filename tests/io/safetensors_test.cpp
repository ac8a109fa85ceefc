// What a safetensors file may hold, how one is written, and what is said of one that breaks the rules.
#include "mica/io/safetensors.h"

#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <filesystem>
#include <limits>

#include "mica/core/memory.h"
#include "support/error_text.h"
#include "support/temp_dir.h"

using namespace mica;
using mica::test::contains;
using mica::test::error_text;
using mica::test::TempDir;

namespace {

std::string length_bytes(uint64_t length) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes;
}

// A file of this header and `data` bytes of data.
std::string file_of(const std::string& header, size_t data = 0) {
  return length_bytes(header.size()) + header + std::string(data, '\x01');
}

// The error of loading these bytes, without "[load_safetensors] <path>: ", which every error must begin with.
std::string rejection(const std::string& bytes) {
  const TempDir folder;
  const std::string path = folder.write("model.safetensors", bytes);
  const std::string text = error_text<FileError>([&] { io::load_safetensors(path); });
  const std::string start = "[load_safetensors] " + path + ": ";
  if (text.compare(0, start.size(), start) != 0) return text;
  return text.substr(start.size());
}

io::SafetensorsFile loaded(const std::string& bytes) {
  const TempDir folder;
  return io::load_safetensors(folder.write("model.safetensors", bytes));
}

void check_same(const Tensor& a, const Tensor& b) {
  CHECK(a.shape() == b.shape());
  REQUIRE(a.dtype() == b.dtype());
  REQUIRE(a.bytes() == b.bytes());
  if (a.bytes() > 0) CHECK(std::memcmp(a.raw(), b.raw(), a.bytes()) == 0);
}

io::NamedTensors samples() {
  const float inf = std::numeric_limits<float>::infinity();
  const std::vector<BFloat16> halves = {BFloat16(1.5f), BFloat16(-0.0f), BFloat16(inf)};
  return {
      {"uint8", tensor(std::vector<uint8_t>{0, 1, 255}, {3})},
      {"float32", tensor(std::vector<float>{0.f, -1.5f, inf, std::nanf(""), 1e-45f, 3.f}, {2, 3})},
      {"float64", tensor(std::vector<double>{0.1, -1e308}, {2, 1})},
      {"bfloat16", tensor(halves, {1, 3})},
      {"int32", tensor(std::vector<int32_t>{INT32_MIN, INT32_MAX}, {2})},
      {"int64", tensor(std::vector<int64_t>{INT64_MIN, INT64_MAX}, {1, 1, 2})},
      {"scalar", tensor(std::vector<double>{0.25}, {})},
      {"nothing", empty({2, 0, 3})},
      {"rank 8", tensor(std::vector<uint8_t>{1, 2, 3, 4}, {1, 2, 1, 1, 2, 1, 1, 1})},
  };
}

}  // namespace

TEST_CASE("safetensors: what is saved is what is loaded, bit for bit and in order") {
  const TempDir folder;
  const std::string path = folder.file("model.safetensors");
  const io::NamedTensors tensors = samples();
  const io::Metadata metadata = {{"format", "mica"}, {"empty", ""}, {"a", "later"}};
  io::save_safetensors(path, tensors, metadata);
  const io::SafetensorsFile file = io::load_safetensors(path);
  CHECK(file.path == path);
  CHECK(file.metadata == metadata);
  REQUIRE(file.tensors.size() == tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    CAPTURE(tensors[i].first);
    CHECK(file.tensors[i].first == tensors[i].first);
    check_same(file.tensors[i].second, tensors[i].second);
  }
  CHECK(folder.size() == 1);
}

TEST_CASE("safetensors: a file may be empty of tensors, of metadata, or of both") {
  const TempDir folder;
  const std::string path = folder.file("model.safetensors");
  io::save_safetensors(path, {});
  CHECK(io::load_safetensors(path).tensors.empty());
  io::save_safetensors(path, {}, {{"only", "metadata"}});
  CHECK(*io::load_safetensors(path).find_metadata("only") == "metadata");
  CHECK(loaded(file_of("{}")).tensors.empty());
  CHECK(loaded(file_of("{\"__metadata__\":{}}")).metadata.empty());
}

TEST_CASE("safetensors: tensors and metadata are found by name") {
  const TempDir folder;
  const std::string path = folder.file("model.safetensors");
  io::save_safetensors(path, {{"w", full({2}, 3)}}, {{"k", "v"}});
  const auto file = io::load_safetensors(path);
  CHECK(file.at("w").at({1}) == 3);
  CHECK(file.find("w")->at({0}) == 3);
  CHECK(!file.find("b"));
  CHECK(file.tensors.index("w") == 0);
  CHECK(file.tensors.index("b") == 1);
  CHECK(*file.find_metadata("k") == "v");
  CHECK(file.find_metadata("w") == nullptr);
  CHECK(error_text<FileError>([&] { file.at("b"); }) == "[load_safetensors] " + path + ": no tensor \"b\"");
}

TEST_CASE("safetensors: tensors are read when they are asked for, from the file that was opened") {
  const TempDir folder;
  const std::string path = folder.file("model.safetensors");
  io::save_safetensors(path, {{"w", full({2}, 3)}, {"n", arange(0, 4, 1, {.dtype = int64})}});
  const auto file = io::load_safetensors(path);
  CHECK(file.tensors.name(1) == "n");
  CHECK(file.tensors.shape(1) == Shape{4});
  CHECK(file.tensors.dtype(1) == int64);
  CHECK(!file.at("w").shares_storage_with(file.at("w")));
  SUBCASE("one that was saved since is another file") {
    io::save_safetensors(path, {{"w", full({2}, 5)}});
    CHECK(file.at("w").at({0}) == 3);
    CHECK(io::NamedTensors(file.tensors).size() == 2);
  }
  SUBCASE("one that was cut short since is named") {
    REQUIRE(::truncate(path.c_str(), 164) == 0);
    CHECK(error_text<FileError>([&] { file.at("w"); }) ==
          "[load_safetensors] " + path + ": the file ends at byte 164, where more was expected");
  }
  CHECK(io::StoredTensors().empty());
  CHECK(error_text([&] { file.tensors[2]; }) == "[StoredTensors] tensor 2 is outside of the 2 of the file");
  CHECK(error_text([&] { io::StoredTensors().name(0); }) == "[StoredTensors] tensor 0 is outside of the 0 of the file");
}

TEST_CASE("safetensors: names and metadata are any UTF-8, escaped as JSON") {
  const TempDir folder;
  const std::string path = folder.file("model.safetensors");
  const std::string odd("quote \" slash \\ newline \n nul \0 \x7f é 漢 \xf0\x9f\x99\x82", 46);
  io::save_safetensors(path, {{odd, Tensor(1.0)}, {"", Tensor(2.0)}}, {{odd, odd}, {"", ""}});
  const auto file = io::load_safetensors(path);
  CHECK(file.at(odd).item() == 1);
  CHECK(file.at("").item() == 2);
  CHECK(*file.find_metadata(odd) == odd);
}

TEST_CASE("safetensors: the header as others write it") {
  SUBCASE("spaces between all tokens, keys in any order") {
    const auto file =
        loaded(file_of("{ \"a\"\n:\t{ \"data_offsets\" : [ 0 , 2 ] , \"shape\" : [ 2 ] ,\r\"dtype\" : \"U8\" } } ", 2));
    CHECK(file.at("a").shape() == Shape{2});
  }
  SUBCASE("tensors in another order than their data") {
    const auto file =
        loaded(file_of("{\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[4,7]},"
                       "\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}",
                       7));
    CHECK(file.tensors[0].first == "b");
    CHECK(file.tensors[1].first == "a");
  }
  SUBCASE("empty tensors between others") {
    const auto file =
        loaded(file_of("{\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                       "\"a\":{\"dtype\":\"F32\",\"shape\":[0,4],\"data_offsets\":[1,1]},"
                       "\"e\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]},"
                       "\"c\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
                       2));
    CHECK(file.tensors.size() == 4);
  }
  SUBCASE("escapes") {
    const auto file =
        loaded(file_of(R"({"__metadata__":{"\u0061\/\b\f\n\r\t\"\\":"\u00e9\u6f22\uD83D\ude42\u0000."}})"));
    CHECK(*file.find_metadata("a/\b\f\n\r\t\"\\") == std::string("é漢\xf0\x9f\x99\x82\0.", 11));
  }
  SUBCASE("100,000 tensors") {
    std::string header = "{";
    for (int i = 0; i < 100'000; ++i) {
      const auto at = [](int k) { return std::to_string(k); };
      header += (i ? ",\"t" : "\"t") + at(i) + R"(":{"dtype":"U8","shape":[1],"data_offsets":[)" + at(i) + "," +
                at(i + 1) + "]}";
    }
    CHECK(loaded(file_of(header + "}", 100'000)).tensors.size() == 100'000);
  }
}

TEST_CASE("safetensors: data begins at a multiple of 64, each tensor at a multiple of its element") {
  const TempDir folder;
  const std::string path = folder.file("model.safetensors");
  for (size_t name = 0; name < 70; ++name) {
    io::save_safetensors(
        path, {{std::string(name, 'x') + "a", zeros({1}, {.dtype = uint8})}, {"b", full({1}, 1, {.dtype = float64})}});
    const std::string bytes = test::read_file(path);
    uint64_t length = 0;
    std::memcpy(&length, bytes.data(), 8);
    CHECK((length + 8) % 64 == 0);
    CHECK(bytes.size() == length + 8 + 9);
    double first = 0;
    std::memcpy(&first, bytes.data() + 8 + length, 8);
    CHECK(first == 1);  // the float64 lies before the uint8
  }
}

TEST_CASE("safetensors: a slice is saved as what it shows") {
  const TempDir folder;
  const std::string path = folder.file("model.safetensors");
  const Tensor rows = tensor({{1, 2}, {3, 4}, {5, 6}});
  io::save_safetensors(path, {{"row", rows[1]}, {"rows", rows.slice(1, 3)}});
  check_same(io::load_safetensors(path).at("row"), tensor({3, 4}));
  check_same(io::load_safetensors(path).at("rows"), tensor({{3, 4}, {5, 6}}));
}

TEST_CASE("safetensors: files that are too short") {
  CHECK(rejection("") == "has 0 bytes, not even the 8 of the header's length");
  CHECK(rejection("1234567") == "has 7 bytes, not even the 8 of the header's length");
}

TEST_CASE("safetensors: header lengths that cannot be") {
  CHECK(rejection(length_bytes(0) + "{}") == "header length 0: an object has at least the 2 bytes {}");
  CHECK(rejection(length_bytes(1) + "{}") == "header length 1: an object has at least the 2 bytes {}");
  CHECK(rejection(length_bytes(3) + "{}") == "header length 3 goes beyond the file, which has 10 bytes");
  CHECK(rejection(length_bytes(100'000'000) + "{}") ==
        "header length 100000000 goes beyond the file, which has 10 bytes");
  CHECK(rejection(length_bytes(100'000'001) + "{}") ==
        "header length 100000001 is above the format's limit of 100000000 bytes");
  CHECK(contains(rejection(length_bytes(~uint64_t{0}) + "{}"), "header length 18446744073709551615 is above"));
  CHECK(contains(rejection(length_bytes(uint64_t{1} << 63) + "{}"), "is above the format's limit"));
  CHECK(contains(rejection(std::string("\0\0\0\0\0\0\0\x02{}", 10)), "is above the format's limit"));  // big-endian
}

TEST_CASE("safetensors: headers that are no JSON object") {
  CHECK(rejection(file_of("[]")) == "header byte 0: expected '{', found '['");
  CHECK(rejection(file_of(" {}")) == "header byte 0: expected '{', found ' '");
  CHECK(rejection(file_of("null")) == "header byte 0: expected '{', found 'n'");
  CHECK(rejection(file_of("{} x")) == "header byte 3: expected nothing but spaces after the object, found 'x'");
  CHECK(rejection(file_of("{}{}")) == "header byte 2: expected nothing but spaces after the object, found '{'");
  CHECK(rejection(file_of("{a:1}")) == "header byte 1: expected '\"', found 'a'");
  CHECK(rejection(file_of("{\"a\" 1}")) == "header byte 5: expected ':', found '1'");
  CHECK(rejection(file_of("{\"a\":")) == "tensor \"a\": expected an object, found the end of the header");
  CHECK(rejection(file_of("{\"a\":1}")) == "tensor \"a\": expected an object, found '1'");
  CHECK(rejection(file_of("{,}")) == "header byte 1: expected '\"', found ','");
  CHECK(rejection(file_of("{\"__metadata__\":{},}")) == "header byte 19: expected '\"', found '}'");
  CHECK(rejection(file_of(std::string("{\0}", 3))) == "header byte 1: expected '\"', found '?'");
}

TEST_CASE("safetensors: deep JSON costs no stack") {
  CHECK(contains(rejection(file_of(std::string(1'000'000, '{'))), "header byte 1: expected '\"'"));
  CHECK(contains(rejection(file_of("{\"a\":" + std::string(1'000'000, '['))), "tensor \"a\": expected an object"));
  CHECK(
      contains(rejection(file_of("{\"a\":{\"shape\":" + std::string(1'000'000, '['))), "shape must be whole numbers"));
  std::string nested = "{";
  for (int i = 0; i < 100'000; ++i) nested += "\"a\":{";
  CHECK(contains(rejection(file_of(nested)), "tensor \"a\": unknown key \"a\""));
}

TEST_CASE("safetensors: strings that are wrong") {
  const auto key = [](const std::string& text) { return rejection(file_of("{\"" + text + "\":{}}")); };
  for (const char* bad : {"\x80", "\xc0\xaf", "\xc1\xbf", "\xc3", "\xc3(", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xe2\x82",
                          "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "ab\xfe"}) {
    CAPTURE(std::string(bad).size());
    CHECK(contains(key(bad), "a string is not UTF-8"));
  }
  CHECK(key("a\nb") == "header byte 3: a control character in a string");
  CHECK(key("a\\xb") == "header byte 3: an unknown escape in a string");
  CHECK(key("\\u12G4") == "header byte 2: \\u needs four hexadecimal digits");
  CHECK(contains(key("\\ud800"), "half of a surrogate pair"));
  CHECK(contains(key("\\ud800\\u0041"), "half of a surrogate pair"));
  CHECK(contains(key("\\udc00"), "half of a surrogate pair"));
  CHECK(rejection(file_of("{\"abc")) == "header byte 5: a string has no end");
  CHECK(rejection(file_of("{\"abc\\")) == "header byte 5: an unknown escape in a string");
  CHECK(rejection(file_of("{\"abc\\u12")) == "header byte 5: \\u needs four hexadecimal digits");
}

TEST_CASE("safetensors: metadata maps texts to texts") {
  CHECK(rejection(file_of("{\"__metadata__\":{\"epoch\":3}}")) == "metadata \"epoch\" must be a string");
  CHECK(rejection(file_of("{\"__metadata__\":{\"a\":{\"b\":\"c\"}}}")) == "metadata \"a\" must be a string");
  CHECK(rejection(file_of("{\"__metadata__\":null}")) == "header byte 16: expected '{', found 'n'");
  CHECK(rejection(file_of("{\"__metadata__\":{\"a\":\"1\",\"b\":\"\",\"\\u0061\":\"2\"}}")) ==
        "metadata \"a\" comes twice");
  CHECK(rejection(file_of("{\"__metadata__\":{},\"__metadata__\":{}}")) == "the header has \"__metadata__\" twice");
  std::string many = "{\"__metadata__\":{\"x\":\"\"";
  for (int i = 0; i < 4096; ++i) many += ",\"" + std::to_string(i) + "\":\"\"";
  CHECK(rejection(file_of(many + "}}")) == "more than 4096 metadata entries");
}

TEST_CASE("safetensors: a tensor that is described wrongly is named, with what is wrong") {
  const auto entry = [](const std::string& fields, size_t data = 48) {
    return rejection(file_of("{\"dense.kernel\":{" + fields + "}}", data));
  };
  const std::string start = "tensor \"dense.kernel\": ";
  const auto shape = [&](const std::string& sizes) {
    return entry("\"dtype\":\"F32\",\"shape\":" + sizes + ",\"data_offsets\":[0,48]");
  };
  const auto offsets = [&](const std::string& range) {
    return entry("\"dtype\":\"F32\",\"shape\":[4,3],\"data_offsets\":" + range);
  };

  SUBCASE("sizes that do not fit the bytes") {
    CHECK(entry("\"dtype\":\"F32\",\"shape\":[4,3],\"data_offsets\":[0,64]", 64) ==
          start + "data_offsets [0,64] hold 64 bytes but shape [4,3] of F32 needs 48");
    CHECK(shape("[4,0]") == start + "data_offsets [0,48] hold 48 bytes but shape [4,0] of F32 needs 0");
    CHECK(shape("[]") == start + "data_offsets [0,48] hold 48 bytes but shape [] of F32 needs 4");
  }
  SUBCASE("a key is missing, unknown, or there twice") {
    CHECK(entry("") == start + "\"dtype\" is missing");
    CHECK(entry("\"dtype\":\"F32\",\"data_offsets\":[0,48]") == start + "\"shape\" is missing");
    CHECK(entry("\"dtype\":\"F32\",\"shape\":[12]") == start + "\"data_offsets\" is missing");
    CHECK(entry("\"strides\":[1]") == start + "unknown key \"strides\"");
    CHECK(entry("\"dtype\":\"F32\",\"dtype\":\"F32\"") == start + "\"dtype\" comes twice");
  }
  SUBCASE("dtypes") {
    CHECK(entry("\"dtype\":\"F16\"") == start + "dtype F16 is not supported: F32, F64, BF16, I32, I64 and U8 are");
    for (const char* other : {"BOOL", "I8", "I16", "U16", "U32", "U64", "F8_E4M3", "F8_E5M2", "C64"})
      CHECK(contains(entry("\"dtype\":\"" + std::string(other) + "\""), "is not supported"));
    CHECK(entry("\"dtype\":\"float32\"") == start + "unknown dtype \"float32\"");
    CHECK(entry("\"dtype\":\"\"") == start + "unknown dtype \"\"");
    CHECK(contains(entry("\"dtype\":32"), "expected '\"', found '3'"));
  }
  SUBCASE("shapes") {
    CHECK(contains(shape("[-4,3]"), start + "shape must not be negative, at header byte 40"));
    CHECK(contains(shape("[4.0,3]"), "shape must be whole numbers"));
    CHECK(contains(shape("[4e0,3]"), "shape must be whole numbers"));
    CHECK(contains(shape("[04,3]"), "shape must be whole numbers"));
    CHECK(contains(shape("[\"4\",3]"), "shape must be whole numbers"));
    CHECK(contains(shape("[4,]"), "shape must be whole numbers"));
    CHECK(contains(shape("[4 3]"), "expected ']', found '3'"));
    CHECK(contains(shape("12"), "expected '[', found '1'"));
    CHECK(contains(shape("[1,1,1,1,1,1,1,4,3]"), start + "a rank above 8"));
    std::string rank255 = "[1";
    for (int i = 1; i < 255; ++i) rank255 += ",1";
    CHECK(contains(shape(rank255 + "]"), "a rank above 8"));
  }
  SUBCASE("products and numbers that overflow") {
    CHECK(contains(shape("[4294967296,4294967296]"), start + "the sizes of the shape are too large"));
    CHECK(contains(shape("[4294967296,4294967296,0]"), "the sizes of the shape are too large"));
    CHECK(contains(shape("[0,9223372036854775807,2]"), "the sizes of the shape are too large"));
    CHECK(contains(shape("[4611686018427387904]"), start + "the sizes of the shape are too large"));
    CHECK(contains(shape("[9223372036854775808]"), start + "shape beyond 2^63 - 1"));
    CHECK(contains(shape("[99999999999999999999999999]"), "shape beyond 2^63 - 1"));
    CHECK(contains(offsets("[0,18446744073709551616]"), "data_offsets beyond 2^63 - 1"));
  }
  SUBCASE("offsets") {
    CHECK(offsets("[48,0]") == start + "data_offsets [48,0] end before they begin");
    CHECK(contains(offsets("[-48,0]"), "data_offsets must not be negative"));
    CHECK(contains(offsets("[0,-1]"), "data_offsets must not be negative"));
    CHECK(offsets("[0,49]") == start + "data_offsets [0,49] go beyond the data, of which the file has 48 bytes");
    CHECK(contains(offsets("[9223372036854775759,9223372036854775807]"), "go beyond the data"));
    CHECK(contains(offsets("[0]"), "expected ',', found ']'"));
    CHECK(contains(offsets("[0,24,48]"), "expected ']', found ','"));
    CHECK(contains(offsets("[0.0,48]"), "data_offsets must be whole numbers"));
    CHECK(contains(offsets("48"), "expected '[', found '4'"));
  }
}

TEST_CASE("safetensors: tensors cover the data, each byte once") {
  const auto of = [](const std::string& a, const std::string& b, size_t data) {
    const std::string start = "\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":";
    return rejection(file_of("{\"a" + start + a + "},\"b" + start + b + "}}", data));
  };
  CHECK(of("[0,4]", "[4,8]", 8) == "no error");
  CHECK(of("[0,4]", "[2,6]", 6) == "tensors \"a\" and \"b\" overlap: data_offsets [0,4] and [2,6]");
  CHECK(of("[0,4]", "[0,4]", 4) == "tensors \"a\" and \"b\" overlap: data_offsets [0,4] and [0,4]");
  CHECK(of("[0,4]", "[5,9]", 9) == "bytes 4 to 5 of the data belong to no tensor");
  CHECK(of("[5,9]", "[1,5]", 9) == "bytes 0 to 1 of the data belong to no tensor");
  CHECK(of("[4,8]", "[0,4]", 11) == "bytes 8 to 11 of the data belong to no tensor");
  CHECK(rejection(file_of("{}", 1)) == "bytes 0 to 1 of the data belong to no tensor");
}

TEST_CASE("safetensors: no name comes twice") {
  const std::string value = ":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}";
  CHECK(rejection(file_of("{\"a\"" + value + ",\"b\"" + value + ",\"a\"" + value + "}")) == "tensor \"a\" comes twice");
  CHECK(rejection(file_of("{\"a\"" + value + ",\"\\u0061\"" + value + "}")) == "tensor \"a\" comes twice");
}

TEST_CASE("safetensors: names in errors are cut and printable") {
  const std::string text = rejection(file_of("{\"" + std::string(1000, 'n') + "\":{}}"));
  CHECK(text == "tensor \"" + std::string(80, 'n') + "...\": \"dtype\" is missing");
  CHECK(rejection(file_of("{\"a\\u001b[31m\":{}}")) == "tensor \"a?[31m\": \"dtype\" is missing");
  CHECK(contains(rejection(file_of("{\"" + std::string(79, 'n') + "é...\":{}}")), std::string(79, 'n') + "...\""));
}

TEST_CASE("safetensors: a file cut at any byte is rejected, and so is one with a byte more") {
  const TempDir folder;
  const std::string path = folder.file("model.safetensors");
  io::save_safetensors(path, {{"a", full({3, 2}, 1)}, {"b", Tensor(1.0)}}, {{"k", "v"}});
  const std::string bytes = test::read_file(path);
  for (size_t size = 0; size < bytes.size(); ++size) {
    folder.write("cut", bytes.substr(0, size));
    CAPTURE(size);
    CHECK_THROWS_AS(io::load_safetensors(folder.file("cut")), FileError);
  }
  folder.write("more", bytes + '\0');
  CHECK(contains(error_text<FileError>([&] { io::load_safetensors(folder.file("more")); }), "belong to no tensor"));
}

TEST_CASE("safetensors: a header with any bit flipped is rejected or loaded, never more") {
  const TempDir folder;
  const std::string path = folder.file("model.safetensors");
  io::save_safetensors(path, {{"a\n", full({3, 2}, 1)}, {"é", Tensor(1.0)}, {"c", empty({0})}}, {{"k", "v"}});
  std::string bytes = test::read_file(path);
  const size_t header = bytes.size() - 28;
  int rejected = 0;
  for (size_t bit = 0; bit < header * 8; ++bit) {
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << (bit % 8)));
    folder.write("flipped", bytes);
    try {
      io::load_safetensors(folder.file("flipped"));
    } catch (const FileError&) {
      ++rejected;
    }
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << (bit % 8)));
  }
  CHECK(rejected > 1000);
}

TEST_CASE("safetensors: what a header claims allocates nothing") {
  const int64_t before = memory_statistics().peak;
  CHECK(rejection(
            file_of("{\"a\":{\"dtype\":\"U8\",\"shape\":[1099511627776],\"data_offsets\":[0,1099511627776]}}", 8)) ==
        "tensor \"a\": data_offsets [0,1099511627776] go beyond the data, of which the file has 8 bytes");
  CHECK(memory_statistics().peak == before);
}

TEST_CASE("safetensors: paths that cannot be read") {
  const TempDir folder;
  const std::string missing = folder.file("missing.safetensors");
  CHECK(error_text<FileError>([&] { io::load_safetensors(missing); }) ==
        "[load_safetensors] " + missing + ": cannot open the file: No such file or directory");
  CHECK(error_text<FileError>([&] { io::load_safetensors(folder.path().string()); }) ==
        "[load_safetensors] " + folder.path().string() + ": not a regular file");
  const std::string pipe = folder.file("pipe");
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  CHECK(contains(error_text<FileError>([&] { io::load_safetensors(pipe); }), "not a regular file"));
  CHECK(contains(error_text<FileError>([&] { io::load_safetensors(""); }), "cannot open the file"));
}

TEST_CASE("safetensors: what cannot be saved is said before any file is touched") {
  const TempDir folder;
  const std::string path = folder.file("model.safetensors");
  const auto refusal = [&](const io::NamedTensors& tensors, const io::Metadata& metadata = {}) {
    const std::string text = error_text<FileError>([&] { io::save_safetensors(path, tensors, metadata); });
    const std::string start = "[save_safetensors] " + path + ": ";
    return text.compare(0, start.size(), start) == 0 ? text.substr(start.size()) : text;
  };
  const Tensor one(1.0);
  CHECK(refusal({{"a", one}, {"b", one}, {"a", one}}) == "tensor \"a\" comes twice");
  CHECK(refusal({{"__metadata__", one}}) == "a tensor must not be called \"__metadata__\"");
  CHECK(refusal({{"a", Tensor()}}) == "tensor \"a\" is undefined");
  CHECK(refusal({{"a\xff", one}}) == "tensor \"a?\" is not UTF-8");
  CHECK(refusal({}, {{"k", "1"}, {"k", "2"}}) == "metadata \"k\" comes twice");
  CHECK(refusal({}, {{"k\xc0", "v"}}) == "metadata \"k?\" is not UTF-8");
  CHECK(refusal({}, {{"k", "v\xc0"}}) == "metadata \"k\" is not UTF-8");
  io::Metadata many;
  for (int i = 0; i <= 4096; ++i) many.emplace_back(std::to_string(i), "");
  CHECK(refusal({}, many) == "more than 4096 metadata entries");
  CHECK(refusal({}, {{"k", std::string(100'000'000, 'v')}}) ==
        "names and metadata need a header of 100000056 bytes, above the format's limit of 100000000");
  CHECK(folder.size() == 0);
}

TEST_CASE("safetensors: saving over a file replaces it whole and keeps its mode") {
  const TempDir folder;
  const std::string path = folder.write("model.safetensors", "old");
  REQUIRE(::chmod(path.c_str(), 0640) == 0);
  io::save_safetensors(path, {{"a", Tensor(2.0)}});
  CHECK(io::load_safetensors(path).at("a").item() == 2);
  CHECK(std::filesystem::status(path).permissions() == std::filesystem::perms{0640});
  CHECK(folder.size() == 1);
}

TEST_CASE("safetensors: saving through a symbolic link replaces what it points to") {
  const TempDir folder;
  const std::string path = folder.write("epoch_3.safetensors", "old");
  const std::string link = folder.file("latest.safetensors");
  std::filesystem::create_symlink("epoch_3.safetensors", link);
  io::save_safetensors(link, {{"a", Tensor(2.0)}});
  CHECK(std::filesystem::is_symlink(link));
  CHECK(io::load_safetensors(path).at("a").item() == 2);
}

TEST_CASE("safetensors: a save that fails leaves the old file and nothing else") {
  const TempDir folder;
  const std::string path = folder.file("model.safetensors");

  SUBCASE("a folder that is not there") {
    const std::string nowhere = folder.file("nowhere/model.safetensors");
    CHECK(error_text<FileError>([&] { io::save_safetensors(nowhere, {}); }) ==
          "[save_safetensors] " + nowhere + ": cannot create the file: No such file or directory");
    CHECK(folder.size() == 0);
  }
  SUBCASE("a folder in the file's place") {
    std::filesystem::create_directory(path);
    CHECK(error_text<FileError>([&] { io::save_safetensors(path, {}); }) ==
          "[save_safetensors] " + path + ": not a regular file");
    CHECK(folder.size() == 1);
  }
  SUBCASE("a device") {
    CHECK(error_text<FileError>([&] { io::save_safetensors("/dev/null", {}); }) ==
          "[save_safetensors] /dev/null: not a regular file");
  }
  SUBCASE("a folder that may not be written") {
    folder.write("model.safetensors", "old");
    std::filesystem::permissions(folder.path(), std::filesystem::perms{0500});
    const std::string text = error_text<FileError>([&] { io::save_safetensors(path, {}); });
    std::filesystem::permissions(folder.path(), std::filesystem::perms{0700});
    if (::geteuid() != 0) {  // nothing is forbidden to root
      CHECK(text == "[save_safetensors] " + path + ": cannot create the file: Permission denied");
      CHECK(test::read_file(path) == "old");
    }
  }
  SUBCASE("no room") {  // as a full disk does, a limit on the size of files lets writing fail half way
    folder.write("model.safetensors", "old");
    rlimit before{};
    REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
    const auto handler = std::signal(SIGXFSZ, SIG_IGN);
    for (const rlim_t room : {rlim_t{0}, rlim_t{100}, rlim_t{100'000}, rlim_t{400'000}}) {
      const rlimit limit{room, before.rlim_max};
      REQUIRE(::setrlimit(RLIMIT_FSIZE, &limit) == 0);
      const std::string text = error_text<FileError>([&] { io::save_safetensors(path, {{"a", zeros({100'000})}}); });
      REQUIRE(::setrlimit(RLIMIT_FSIZE, &before) == 0);
      CHECK(text == "[save_safetensors] " + path + ": cannot write: File too large");
      CHECK(test::read_file(path) == "old");
      CHECK(folder.size() == 1);
    }
    std::signal(SIGXFSZ, handler);
  }
}
