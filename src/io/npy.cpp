// Reading and writing npy files.
#include "mica/io/npy.h"

#include <bit>
#include <cstring>
#include <vector>

#include "core/tensor_access.h"
#include "io/atomic_file.h"
#include "io/input_file.h"
#include "io/npy_format.h"

static_assert(std::endian::native == std::endian::little, "'<' is read as it stands");

namespace mica::io {

namespace {

// float16, and bool, as they are stored.
struct Half {
  uint16_t bits;
};
struct Bool {
  uint8_t byte;
};

uint8_t swapped(uint8_t v) { return v; }
Bool swapped(Bool v) { return v; }
uint16_t swapped(uint16_t v) { return __builtin_bswap16(v); }
int16_t swapped(int16_t v) { return static_cast<int16_t>(__builtin_bswap16(static_cast<uint16_t>(v))); }
Half swapped(Half v) { return {__builtin_bswap16(v.bits)}; }
uint32_t swapped(uint32_t v) { return __builtin_bswap32(v); }
uint64_t swapped(uint64_t v) { return __builtin_bswap64(v); }

template <class To, class From>
To converted(From v) {
  return static_cast<To>(v);
}
template <>
uint8_t converted(Bool v) {
  return v.byte != 0;
}
// IEEE 754, binary16: 1 sign, 5 exponent (bias 15) and 10 fraction bits.
template <>
float converted(Half v) {
  const uint32_t sign = uint32_t{v.bits} >> 15 << 31, exponent = v.bits >> 10 & 31, fraction = v.bits & 1023;
  if (exponent == 0) {  // zero and subnormal numbers: fraction * 2^-24
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return std::bit_cast<float>(std::bit_cast<uint32_t>(magnitude) | sign);
  }
  const uint32_t wide = exponent == 31 ? 255 : exponent + (127 - 15);
  return std::bit_cast<float>(sign | wide << 23 | fraction << 13);
}

// Where the elements of a file go in a row-major tensor, one after the other.
class Places {
 public:
  Places(const Shape& shape, bool fortran_order) : shape_(shape), fortran_order_(fortran_order) {
    int64_t stride = 1;
    for (int axis = shape.rank() - 1; axis >= 0; --axis) {
      strides_[axis] = stride;
      stride *= shape[axis];
    }
  }
  int64_t next() {
    const int64_t place = place_;
    if (!fortran_order_) {
      ++place_;
      return place;
    }
    for (int axis = 0; axis < shape_.rank(); ++axis) {  // the first index runs fastest
      place_ += strides_[axis];
      if (++index_[axis] < shape_[axis]) break;
      place_ -= strides_[axis] * shape_[axis];
      index_[axis] = 0;
    }
    return place;
  }

 private:
  const Shape shape_;
  const bool fortran_order_;
  int64_t strides_[Shape::kMaxRank] = {};
  int64_t index_[Shape::kMaxRank] = {};
  int64_t place_ = 0;
};

template <class From, class To>
void read_elements(ByteSource& source, const NpyHeader& header, void* to) {
  constexpr int64_t kElements = (1 << 16) / static_cast<int64_t>(sizeof(From));
  auto* out = static_cast<To*>(to);
  Places places(header.shape, header.fortran_order);
  int64_t left = header.bytes / static_cast<int64_t>(sizeof(From));
  std::vector<From> buffer(static_cast<size_t>(std::min(left, kElements)));
  while (left > 0) {
    const auto count = static_cast<size_t>(std::min(left, kElements));
    source.read(buffer.data(), count * sizeof(From));
    for (size_t i = 0; i < count; ++i)
      out[places.next()] = converted<To>(header.big_endian ? swapped(buffer[i]) : buffer[i]);
    left -= static_cast<int64_t>(count);
  }
}

void read_elements(ByteSource& source, const NpyHeader& header, void* to) {
  switch (header.type) {
    case NpyType::boolean: return read_elements<Bool, uint8_t>(source, header, to);
    case NpyType::int16: return read_elements<int16_t, int32_t>(source, header, to);
    case NpyType::uint16: return read_elements<uint16_t, int32_t>(source, header, to);
    case NpyType::uint32: return read_elements<uint32_t, int64_t>(source, header, to);
    case NpyType::float16: return read_elements<Half, float>(source, header, to);
    default: break;
  }
  // What a tensor holds as it is stored, but for the order.
  if (!header.big_endian && !header.fortran_order) return source.read(to, static_cast<size_t>(header.bytes));
  switch (size_of(header.dtype)) {
    case 1: return read_elements<uint8_t, uint8_t>(source, header, to);
    case 4: return read_elements<uint32_t, uint32_t>(source, header, to);
    default: return read_elements<uint64_t, uint64_t>(source, header, to);
  }
}

class FileSource final : public ByteSource {
 public:
  explicit FileSource(const InputFile& file) : ByteSource(file, {}, file.size()) {}
  void read(void* to, size_t bytes) override {
    file_.read_at(position_, to, bytes);
    position_ += static_cast<int64_t>(bytes);
  }

 private:
  int64_t position_ = 0;
};

}  // namespace

Tensor read_npy(ByteSource& source) {
  const NpyHeader header = read_npy_header(source);
  Tensor tensor = empty(header.shape, {header.dtype, Device::cpu()});
  if (header.bytes > 0) read_elements(source, header, TensorAccess::data(tensor));
  return tensor;
}

}  // namespace mica::io

namespace MICA_EXPORT mica {
namespace io {

Tensor load_npy(const std::string& path) {
  const InputFile file("load_npy", path);
  FileSource source(file);
  return read_npy(source);
}

void save_npy(const std::string& path, const Tensor& tensor) {
  constexpr const char* kOp = "save_npy";
  check<FileError>(tensor.defined(), kOp, path, ": the tensor is undefined");
  const std::string header = npy_header(kOp, path, tensor);
  const Tensor here = tensor.to(Device::cpu());
  AtomicFile file(kOp, path);
  file.write(header.data(), header.size());
  file.write(here.raw(), here.bytes());
  file.commit();
}

}  // namespace io
}  // namespace mica
