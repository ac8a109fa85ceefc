// The bytes of a file from its beginning on, as they are or unpacked.
#pragma once

#include <zlib.h>

#include <cstddef>
#include <cstdint>
#include <memory>

#include "io/input_file.h"

namespace mica::io {

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  /// The most bytes that can come.
  virtual int64_t limit() const = 0;
  /// Reads up to `bytes`, at most 4 GiB; fewer only at the end.
  virtual size_t read(void* to, size_t bytes) = 0;
};

/// The bytes of the file as they are. `file` must outlive this.
class RawSource final : public ByteSource {
 public:
  explicit RawSource(const InputFile& file) : file_(file) {}
  int64_t limit() const override { return file_.size(); }
  size_t read(void* to, size_t bytes) override;

 private:
  const InputFile& file_;
  int64_t position_ = 0;
};

/// The bytes that a gzip file unpacks to. RFC 1952: members may follow one another. At the end the checksum has been
/// found right. `file` must outlive this.
class GzipSource final : public ByteSource {
 public:
  explicit GzipSource(const InputFile& file);
  ~GzipSource() override { inflateEnd(&stream_); }
  GzipSource(const GzipSource&) = delete;
  GzipSource& operator=(const GzipSource&) = delete;

  int64_t limit() const override;
  size_t read(void* to, size_t bytes) override;

 private:
  void refill();

  const InputFile& file_;
  z_stream stream_{};
  bool between_members_ = false;
  int64_t position_ = 0;
  unsigned char input_[size_t{1} << 16];
};

/// Whether the file begins as a gzip file does, whatever its name.
bool is_gzip(const InputFile& file);

/// The source that the file's first bytes ask for.
std::unique_ptr<ByteSource> byte_source(const InputFile& file);

}  // namespace mica::io
