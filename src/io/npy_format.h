// The npy format, in whatever holds it: a file, or a member of an archive.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "io/input_file.h"
#include "io/show.h"
#include "mica/core/tensor.h"

namespace mica::io {

/// A file, or a member of an archive in it: bytes that are read once, from the first to the last.
class ByteSource {
 public:
  /// `member` is empty for the file itself; both must outlive this.
  ByteSource(const InputFile& file, std::string_view member, int64_t size)
      : file_(file), member_(member), size_(size) {}
  virtual ~ByteSource() = default;
  ByteSource(const ByteSource&) = delete;
  ByteSource& operator=(const ByteSource&) = delete;

  /// How many bytes there are in all.
  int64_t size() const { return size_; }
  /// Reads exactly the next `bytes` bytes; throws where they are not there.
  virtual void read(void* to, size_t bytes) = 0;

  template <class... Parts>
  [[noreturn]] void fail(const Parts&... parts) const {
    if (member_.empty()) file_.fail(parts...);
    file_.fail("member ", quoted(member_), ": ", parts...);
  }

 protected:
  const InputFile& file_;

 private:
  std::string_view member_;
  int64_t size_;
};

/// How an element is stored.
enum class NpyType : uint8_t { boolean, uint8, int16, uint16, int32, uint32, int64, float16, float32, float64 };

struct NpyHeader {
  NpyType type{};
  DType dtype{};  // of the tensor
  bool big_endian = false;
  bool fortran_order = false;
  Shape shape;
  int64_t bytes = 0;  // of the elements, as stored
};

/// Reads the header and checks it, by itself and against the size of the source.
NpyHeader read_npy_header(ByteSource& source);

/// Reads an array, header and all. The source must hold nothing else.
Tensor read_npy(ByteSource& source);

/// The header that NumPy writes for such a tensor, format 1.0. Throws FileError("[op] path: ...") for bfloat16.
std::string npy_header(const char* op, const std::string& path, const Tensor& tensor);

}  // namespace mica::io
