// What a .npz file may hold, how one is written, and what is said of one that breaks the rules or tries to harm. The
// files of tests/golden/npy were written by NumPy.
#include <doctest/doctest.h>

#include "mica/core/memory.h"
#include "mica/io/npy.h"
#include "support/damage.h"
#include "support/error_text.h"
#include "support/tensors.h"

using namespace mica;
using namespace mica::test;

#ifdef MICA_HAS_LIBZIP
#include <sys/resource.h>
#include <zlib.h>

#include <csignal>
#include <filesystem>

namespace {

std::string golden_npz(const std::string& name) { return MICA_SOURCE_DIR "/tests/golden/npy/" + name + ".npz"; }

// The bytes of a .npy file.
std::string npy_bytes(const Tensor& x) {
  const TempDir folder;
  io::save_npy(folder.file("a"), x);
  return read_file(folder.file("a"));
}

std::string deflated(const std::string& bytes) {
  z_stream stream{};
  REQUIRE(deflateInit2(&stream, 9, Z_DEFLATED, -15, 9, Z_DEFAULT_STRATEGY) == Z_OK);
  std::string packed(deflateBound(&stream, bytes.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  REQUIRE(deflate(&stream, Z_FINISH) == Z_STREAM_END);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

template <class T>
std::string little(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

// One member of an archive, and what the archive says of it.
struct Part {
  std::string name;
  std::string packed;
  uint16_t method = 0;
  uint32_t size = 0, checksum = 0;
  uint16_t flags = 0;
};

Part stored(const std::string& name, const std::string& bytes) {
  const auto checksum = crc32(0, reinterpret_cast<const Bytef*>(bytes.data()), static_cast<uInt>(bytes.size()));
  return {name, bytes, 0, static_cast<uint32_t>(bytes.size()), static_cast<uint32_t>(checksum)};
}

Part packed(const std::string& name, const std::string& bytes) {
  Part part = stored(name, bytes);
  part.packed = deflated(bytes);
  part.method = 8;
  return part;
}

std::string ending(size_t members, size_t directory, size_t at, const std::string& comment = "") {
  const auto count = little(static_cast<uint16_t>(members));
  return std::string("PK\5\6\0\0\0\0", 8) + count + count + little(static_cast<uint32_t>(directory)) +
         little(static_cast<uint32_t>(at)) + little(static_cast<uint16_t>(comment.size())) + comment;
}

// An archive of these members. PKWARE's APPNOTE.TXT, sections 4.3.7, 4.3.12 and 4.3.16.
std::string archive(const std::vector<Part>& parts) {
  std::string bytes, directory;
  for (const Part& p : parts) {
    const std::string common = little(p.flags) + little(p.method) + little(uint32_t{0x00210000}) + little(p.checksum) +
                               little(static_cast<uint32_t>(p.packed.size())) + little(p.size) +
                               little(static_cast<uint16_t>(p.name.size())) + little(uint16_t{0});
    directory += std::string("PK\1\2\x14\0\x14\0", 8) + common + std::string(10, '\0') +
                 little(static_cast<uint32_t>(bytes.size())) + p.name;
    bytes += std::string("PK\3\4\x14\0", 6) + common + p.name + p.packed;
  }
  return bytes + directory + ending(parts.size(), directory.size(), bytes.size());
}

// The error of loading these bytes, without "[load_npz] <path>: ", which every error must begin with.
std::string npz_rejection(const std::string& bytes) {
  const TempDir folder;
  const std::string path = folder.write("arrays.npz", bytes);
  const std::string text = error_text<FileError>([&] { io::load_npz(path); });
  const std::string start = "[load_npz] " + path + ": ";
  return text.compare(0, start.size(), start) == 0 ? text.substr(start.size()) : text;
}

io::NamedTensors loaded_npz(const std::string& bytes) {
  const TempDir folder;
  return io::load_npz(folder.write("arrays.npz", bytes));
}

io::NamedTensors npz_samples() {
  return {{"float32", counting({2, 3}, float32)},
          {"a/b", full({3}, 7, {.dtype = int64})},
          {"é", Tensor(0.25)},
          {"nothing", empty({2, 0})},
          {"slice", counting({4, 2}, float64).slice(1, 3)}};
}

}  // namespace

TEST_CASE("npz: archives that NumPy wrote, stored and compressed") {
  for (const char* name : {"arrays", "compressed"}) {
    CAPTURE(name);
    const io::NamedTensors arrays = io::load_npz(golden_npz(name));
    REQUIRE(arrays.size() >= 3);
    CHECK(arrays[0].first == "w");
    CHECK(same_bits(arrays[0].second, counting({2, 3, 4}, float32)));
    CHECK(arrays[1].first == "layer/b");
    CHECK(doubles(arrays[1].second) == std::vector<double>{1, 2});
    CHECK(arrays[1].second.dtype() == int32);
    CHECK(arrays[2].first == "é");
    CHECK(arrays[2].second.item() == 0.25);
  }
  CHECK(same_bits(io::load_npz(golden_npz("compressed"))[3].second, zeros({10000}, {.dtype = float64})));
  CHECK(io::load_npz(golden_npz("nothing")).empty());
}

TEST_CASE("npz: what is saved is what is loaded, bit for bit and in order; the same tensors make the same bytes") {
  const TempDir folder;
  for (const bool compress : {false, true}) {
    const std::string path = folder.file("arrays.npz"), again = folder.file("again.npz");
    const io::NamedTensors tensors = npz_samples();
    io::save_npz(path, tensors, {.compress = compress});
    const io::NamedTensors arrays = io::load_npz(path);
    REQUIRE(arrays.size() == tensors.size());
    for (size_t i = 0; i < arrays.size(); ++i) {
      CHECK(arrays[i].first == tensors[i].first);
      CHECK(same_bits(arrays[i].second, tensors[i].second));
    }
    io::save_npz(again, tensors, {.compress = compress});
    CHECK(read_file(path) == read_file(again));
  }
  CHECK(folder.size() == 2);
}

TEST_CASE("npz: an archive may hold nothing") {
  const TempDir folder;
  io::save_npz(folder.file("nothing.npz"), {});
  CHECK(read_file(folder.file("nothing.npz")) == read_file(golden_npz("nothing")));
}

TEST_CASE("npz: compression makes files smaller") {
  const TempDir folder;
  io::save_npz(folder.file("stored"), {{"a", zeros({10000})}});
  io::save_npz(folder.file("packed"), {{"a", zeros({10000})}}, {.compress = true});
  CHECK(read_file(folder.file("stored")).size() > 40000);
  CHECK(read_file(folder.file("packed")).size() < 1000);
}

TEST_CASE("npz: what cannot be saved is said before any file is touched") {
  const TempDir folder;
  const std::string path = folder.file("arrays.npz");
  const auto refusal = [&](const io::NamedTensors& tensors) {
    const std::string text = error_text<FileError>([&] { io::save_npz(path, tensors); });
    const std::string start = "[save_npz] " + path + ": ";
    return text.compare(0, start.size(), start) == 0 ? text.substr(start.size()) : text;
  };
  const Tensor one(1.0);
  CHECK(refusal({{"a", one}, {"b", one}, {"a", one}}) == "tensor \"a\" comes twice");
  CHECK(refusal({{"a", Tensor()}}) == "tensor \"a\" is undefined");
  CHECK(refusal({{"a\xff", one}}) == "tensor \"a?\" is not UTF-8");
  CHECK(refusal({{"", one}}) == "a tensor's name must have 1 to 65531 bytes, none of them 0: \"\"");
  CHECK(refusal({{std::string("a\0b", 3), one}}) ==
        "a tensor's name must have 1 to 65531 bytes, none of them 0: \"a?b\"");
  CHECK(contains(refusal({{std::string(65532, 'a'), one}}), "a tensor's name must have 1 to 65531 bytes"));
  CHECK(refusal({{"a", zeros({2}, {.dtype = bfloat16})}}) == "npy has no bfloat16: convert the tensor to float32");
  CHECK(refusal(io::NamedTensors(2049, {"a", one})) == "more than 2048 tensors");
  CHECK(folder.size() == 0);
}

TEST_CASE("npz: saving over a file, or through a symbolic link, replaces the file whole and keeps its mode") {
  const TempDir folder;
  const std::string path = folder.write("arrays.npz", "old"), link = folder.file("latest.npz");
  std::filesystem::permissions(path, std::filesystem::perms{0640});
  std::filesystem::create_symlink("arrays.npz", link);
  io::save_npz(link, {{"a", Tensor(2.0)}});
  CHECK(io::load_npz(path)[0].second.item() == 2);
  CHECK(std::filesystem::status(path).permissions() == std::filesystem::perms{0640});
  CHECK(std::filesystem::is_symlink(link));
  CHECK(folder.size() == 2);
}

TEST_CASE("npz: a save that fails leaves the old file and nothing else") {
  const TempDir folder;
  SUBCASE("no room") {  // as a full disk does, a limit on the size of files lets writing fail half way
    const std::string path = folder.write("arrays.npz", "old");
    rlimit before{};
    REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
    const auto handler = std::signal(SIGXFSZ, SIG_IGN);
    for (const rlim_t room : {rlim_t{0}, rlim_t{100}, rlim_t{100'000}, rlim_t{400'100}}) {
      const rlimit limit{room, before.rlim_max};
      REQUIRE(::setrlimit(RLIMIT_FSIZE, &limit) == 0);
      const std::string text = error_text<FileError>([&] { io::save_npz(path, {{"a", zeros({100'000})}}); });
      REQUIRE(::setrlimit(RLIMIT_FSIZE, &before) == 0);
      CHECK(contains(text, "[save_npz] " + path + ": cannot write: "));
      CHECK(read_file(path) == "old");
      CHECK(folder.size() == 1);
    }
    std::signal(SIGXFSZ, handler);
    return;
  }
  const std::string nowhere = folder.file("nowhere/arrays.npz");
  CHECK(error_text<FileError>([&] { io::save_npz(nowhere, npz_samples()); }) ==
        "[save_npz] " + nowhere + ": cannot create the file: No such file or directory");
  CHECK(error_text<FileError>([&] { io::save_npz("/dev/null", npz_samples()); }) ==
        "[save_npz] /dev/null: not a regular file");
  CHECK(folder.size() == 0);
}

TEST_CASE("npz: files that are no archives") {
  CHECK(npz_rejection("") == "not a zip archive: it has no end of central directory");
  CHECK(npz_rejection(npy_bytes(Tensor(1.0))) == "not a zip archive: it has no end of central directory");
  CHECK(npz_rejection(ending(1, 46, 0)) == "the zip archive cannot be read: Zip archive inconsistent");
  CHECK(npz_rejection(ending(0, 0, 0, ending(0, 0, 0))) == "the zip archive has two ends");
}

TEST_CASE("npz: members that are no arrays are named, with what is wrong") {
  const std::string one = npy_bytes(Tensor(1.0));
  CHECK(npz_rejection(archive({stored("readme.txt", "text")})) == "member \"readme.txt\": is no .npy file");
  CHECK(npz_rejection(archive({stored("a.npy", "text")})) ==
        "member \"a.npy\": not an npy file: it begins with 74 65 78 74, not with 93 4e 55 4d 50 59");
  CHECK(npz_rejection(archive({stored("a.npy", "")})) ==
        "member \"a.npy\": cut short: 0 of the 8 bytes that an npy file begins with");
  CHECK(npz_rejection(archive({stored("a.npy", one + "x")})) ==
        "member \"a.npy\": shape [] of 4-byte elements needs 4 bytes, but 5 follow");
  CHECK(npz_rejection(archive({stored("a.npy", one), stored("b.npy", one), stored("a.npy", one)})) ==
        "the zip archive cannot be read: File already exists");
  Part secret = stored("a.npy", one);
  secret.flags = 1;
  CHECK(npz_rejection(archive({secret})) == "member \"a.npy\": is encrypted");
  Part lzma = stored("a.npy", one);
  lzma.method = 14;
  CHECK(npz_rejection(archive({lzma})) ==
        "member \"a.npy\": is compressed by method 14: stored and deflated ones are read");
}

TEST_CASE("npz: pickled objects are refused") {
  CHECK(npz_rejection(read_file(golden_npz("objects"))) ==
        "member \"o.npy\": dtype \"|O\" holds pickled objects, which run code when they are read: refused");
}

TEST_CASE("npz: members that are damaged") {
  Part part = packed("a.npy", npy_bytes(counting({1000}, float32)));
  part.checksum ^= 1;
  CHECK(npz_rejection(archive({part})) == "member \"a.npy\": corrupt after byte 4128: CRC error");
  part = packed("a.npy", npy_bytes(counting({1000}, float32)));
  part.packed[part.packed.size() / 2] ^= 1;
  CHECK(contains(npz_rejection(archive({part})), "member \"a.npy\": "));
  part = packed("a.npy", npy_bytes(counting({1000}, float32)));
  part.size -= 4;
  CHECK(npz_rejection(archive({part})) ==
        "member \"a.npy\": shape [1000] of 4-byte elements needs 4000 bytes, but 3996 follow");
}

TEST_CASE("npz: bombs are refused before memory is asked for") {
  const int64_t before = memory_statistics().peak;
  const std::string header = npy_bytes(zeros({0}, {.dtype = uint8}));
  const auto array_of = [&](const std::string& size) {  // the beginning of an array of so many bytes
    std::string text = header;
    text.replace(text.find("(0,)"), 3 + size.size(), "(" + size + ",)");
    return text;
  };
  // More than deflate can hold.
  Part part = packed("a.npy", array_of("4000000000"));
  part.size = 4000000128u;
  CHECK(npz_rejection(archive({part})) == "member \"a.npy\": claims 4000000128 bytes, more than " +
                                              std::to_string(part.packed.size()) + " compressed ones can hold");
  // A stored member that claims to be larger than it is.
  part = stored("a.npy", array_of("4000"));
  part.size = 4128;
  CHECK(contains(npz_rejection(archive({part})), "more than 128 compressed ones can hold"));
  // What could be, but is not there.
  std::string noise(30'000, '\0');
  for (uint32_t state = 1; char& c : noise) c = static_cast<char>((state = state * 1664525u + 1013904223u) >> 24);
  part = packed("a.npy", array_of("20000000") + noise);
  part.size = 20000128;
  CHECK(npz_rejection(archive({part})) ==
        "member \"a.npy\": ends after 30128 of the 20000128 bytes that the archive claims");
  // It holds more than it claims.
  part = packed("a.npy", array_of("10") + std::string(50'000'000, '\0'));
  part.size = 138;
  CHECK(npz_rejection(archive({part})) == "member \"a.npy\": has more than the 138 bytes that the archive claims");
  CHECK(memory_statistics().peak <= before + 64);
}

TEST_CASE("npz: members that share their bytes are refused") {
  // As in D. Fifield, "A better zip bomb", WOOT 2019: many members, one compressed stream.
  const Part part = packed("0.npy", npy_bytes(zeros({10'000'000}, {.dtype = uint8})));
  const std::string whole = archive({part});
  const size_t at = whole.find("PK\1\2");
  const std::string entry = whole.substr(at, 46 + 5);
  std::string bytes = whole.substr(0, at), directory;
  for (char name = '0'; name <= '9'; ++name) {
    directory += entry;
    directory[directory.size() - 5] = name;
  }
  CHECK(
      contains(npz_rejection(bytes + directory + ending(10, directory.size(), at)), "the zip archive cannot be read"));
}

TEST_CASE("npz: more members than 2,048 are refused before any is read") {
  CHECK(npz_rejection(ending(2049, 0, 0)) == "2049 members are more than 2048");
  CHECK(npz_rejection(ending(65535, 0, 0)) == "65535 members are more than 2048");
  std::string end64 = std::string("PK\6\6", 4) + little(uint64_t{44}) + std::string(12, '\0');
  end64 += little(uint64_t{1} << 40) + little(uint64_t{1} << 40) + std::string(16, '\0');
  const std::string locator = std::string("PK\6\7\0\0\0\0", 8) + little(uint64_t{0}) + little(uint32_t{1});
  CHECK(npz_rejection(end64 + locator + ending(1, 0, 0)) == "1099511627776 members are more than 2048");
  CHECK(npz_rejection(locator + ending(1, 0, 0)) ==
        "the end of central directory (zip64) is said to be at byte 0, beyond the file");
  std::vector<Part> parts;
  for (int i = 0; i < 2048; ++i) parts.push_back(stored(std::to_string(i) + ".npy", npy_bytes(Tensor(i))));
  CHECK(loaded_npz(archive(parts)).size() == 2048);
}

TEST_CASE("npz: an archive cut at any byte is rejected, and one with any bit flipped never does more") {
  for (const char* name : {"arrays", "compressed"}) {
    const std::string bytes = read_file(golden_npz(name));
    check_every_cut(bytes, io::load_npz);
    CHECK(check_every_flip(bytes, bytes.size(), io::load_npz) > 1000);
  }
}

TEST_CASE("npz: paths that cannot be read") {
  const TempDir folder;
  const std::string missing = folder.file("missing.npz");
  CHECK(error_text<FileError>([&] { io::load_npz(missing); }) ==
        "[load_npz] " + missing + ": cannot open the file: No such file or directory");
}

#else

TEST_CASE("npz: without libzip, what is missing is said") {
  const std::string missing =
      ".npz files need libzip, and this Mica was built without it: install libzip-dev and configure again "
      "(-DMICA_LIBZIP=ON says what is missing)";
  CHECK(error_text([] { io::load_npz("a.npz"); }) == "[load_npz] " + missing);
  CHECK(error_text([] { io::save_npz("a.npz", {}); }) == "[save_npz] " + missing);
}

#endif
