// Reading IDX files.
#include "mica/data/idx.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "io/byte_source.h"
#include "io/element_count.h"
#include "io/input_file.h"
#include "io/show.h"

static_assert(std::endian::native == std::endian::little, "IDX files are big-endian: other hosts would not swap");

namespace MICA_EXPORT mica {
namespace data {

namespace {

constexpr const char* kOp = "load_idx";
constexpr size_t kMaxHeaderBytes = 4 + 4 * Shape::kMaxRank;
constexpr size_t kChunkBytes = size_t{1} << 20;

struct Header {
  DType dtype{};
  Shape shape;
  int64_t bytes = 0;  // of the elements
};

uint32_t big_endian(const unsigned char* bytes) {
  return uint32_t{bytes[0]} << 24 | uint32_t{bytes[1]} << 16 | uint32_t{bytes[2]} << 8 | uint32_t{bytes[3]};
}

DType element_type(const io::InputFile& file, unsigned char code) {
  switch (code) {
    case 0x08: return DType::uint8;
    case 0x0c: return DType::int32;
    case 0x0d: return DType::float32;
    case 0x0e: return DType::float64;
    case 0x09: file.fail("element type int8 (0x09) is not supported: uint8, int32, float32 and float64 are");
    case 0x0b: file.fail("element type int16 (0x0b) is not supported: uint8, int32, float32 and float64 are");
    default: file.fail("unknown element type 0x", io::hexadecimal({&code, 1}), " at byte 2");
  }
}

// Whether the sizes, read from the other end, ask for just the bytes that are there.
bool looks_little_endian(std::span<const int64_t> sizes, DType dtype, int64_t available) {
  std::vector<int64_t> swapped;
  for (const int64_t size : sizes) swapped.push_back(__builtin_bswap32(static_cast<uint32_t>(size)));
  return io::count_bytes(swapped, size_of(dtype)) == available;
}

template <class Source>
Header read_header(const io::InputFile& file, Source& source) {
  unsigned char bytes[kMaxHeaderBytes];
  size_t got = source.read(bytes, 4);
  if (got >= 2 && (bytes[0] != 0 || bytes[1] != 0))
    file.fail("not an IDX file: it begins with ", io::hexadecimal({bytes, got}), ", not with 00 00");
  if (got < 4) file.fail("cut short: ", uint64_t{got}, " of the 4 bytes that an IDX file begins with");
  Header header;
  header.dtype = element_type(file, bytes[2]);
  const int rank = bytes[3];
  if (rank < 1 || rank > Shape::kMaxRank) file.fail("rank ", rank, " at byte 3 is not from 1 to ", Shape::kMaxRank);
  const size_t size_bytes = size_t{4} * static_cast<size_t>(rank);
  got = source.read(bytes + 4, size_bytes);
  if (got < size_bytes)
    file.fail("cut short: ", uint64_t{got}, " of the ", uint64_t{size_bytes}, " bytes of the ", rank, " sizes");
  int64_t sizes[Shape::kMaxRank];
  for (int i = 0; i < rank; ++i) sizes[i] = big_endian(bytes + 4 + 4 * i);
  const std::span<const int64_t> all(sizes, static_cast<size_t>(rank));
  header.shape = Shape(all);
  header.bytes = io::count_bytes(all, size_of(header.dtype));
  if (header.bytes < 0) file.fail("the sizes ", header.shape, " are too large");
  const int64_t available = source.limit() - static_cast<int64_t>(4 + size_bytes);
  if (header.bytes > available)
    file.fail("sizes ", header.shape, " of ", header.dtype, " need ", header.bytes, " bytes, but ",
              source.limit() == file.size() ? "" : "at most ", available, " follow",
              looks_little_endian(all, header.dtype, available) ? " (the sizes look little-endian)" : "");
  return header;
}

void swap_elements(Tensor& tensor) {
  const auto swap = [&](auto word) {
    auto* bytes = static_cast<unsigned char*>(tensor.mutable_raw());
    for (int64_t i = 0; i < tensor.elements(); ++i, bytes += sizeof word) {
      std::memcpy(&word, bytes, sizeof word);
      if constexpr (sizeof word == 4) word = __builtin_bswap32(word);
      if constexpr (sizeof word == 8) word = __builtin_bswap64(word);
      std::memcpy(bytes, &word, sizeof word);
    }
  };
  if (size_of(tensor.dtype()) == 4) swap(uint32_t{});
  if (size_of(tensor.dtype()) == 8) swap(uint64_t{});
}

// What is left of the file, which is known to be there.
Tensor read_elements(const io::InputFile&, io::RawSource& source, const Header& header) {
  Tensor tensor = empty(header.shape, {header.dtype, Device::cpu()});
  source.read(tensor.mutable_raw(), tensor.bytes());
  return tensor;
}

// A small file may claim 1,032 times its size. So most of it must be there before the tensor is: seven eighths, kept in
// chunks meanwhile. With the eighth by which the allocator may round up, that is twice the data.
Tensor read_elements(const io::InputFile& file, io::GzipSource& source, const Header& header) {
  const auto bytes = static_cast<size_t>(header.bytes);
  size_t done = 0;
  const auto read = [&](char* to, size_t wanted) {
    const size_t got = source.read(to, wanted);
    done += got;
    if (got < wanted)
      file.fail("cut short: sizes ", header.shape, " of ", header.dtype, " need ", header.bytes, " bytes, but ",
                uint64_t{done}, " follow");
  };
  std::vector<std::unique_ptr<char[]>> chunks;
  while (done + kChunkBytes <= bytes / 8 * 7) {
    chunks.emplace_back(new char[kChunkBytes]);
    read(chunks.back().get(), kChunkBytes);
  }
  Tensor tensor = empty(header.shape, {header.dtype, Device::cpu()});
  auto* to = static_cast<char*>(tensor.mutable_raw());
  for (auto& chunk : chunks) {
    std::memcpy(to, chunk.get(), kChunkBytes);
    to += kChunkBytes;
    chunk.reset();
  }
  while (done < bytes) {
    const size_t wanted = std::min(bytes - done, kChunkBytes);
    read(to, wanted);
    to += wanted;
  }
  return tensor;
}

template <class Source>
Tensor load(const io::InputFile& file, Source&& source) {
  const Header header = read_header(file, source);
  Tensor tensor = read_elements(file, source, header);
  char extra;
  if (source.read(&extra, 1) != 0)
    file.fail("more bytes follow the ", header.bytes, " that sizes ", header.shape, " of ", header.dtype, " need");
  swap_elements(tensor);
  return tensor;
}

}  // namespace

Tensor load_idx(const std::string& path) {
  const io::InputFile file(kOp, path);
  if (file.size() == 0) file.fail("the file is empty");
  return io::is_gzip(file) ? load(file, io::GzipSource(file)) : load(file, io::RawSource(file));
}

}  // namespace data
}  // namespace mica
