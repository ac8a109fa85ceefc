// Reading files that may be gzipped.
#include "io/byte_source.h"

#include <algorithm>
#include <new>

namespace mica::io {

namespace {
// No deflate stream expands more (zlib, "Technical details", maximum compression factor).
constexpr int64_t kMaxDeflateRatio = 1032;
}  // namespace

size_t RawSource::read(void* to, size_t bytes) {
  const size_t count = std::min(bytes, static_cast<size_t>(std::max<int64_t>(file_.size() - position_, 0)));
  file_.read_at(position_, to, count);
  position_ += static_cast<int64_t>(count);
  return count;
}

GzipSource::GzipSource(const InputFile& file) : file_(file) {
  constexpr int kGzipOnly = 15 + 16;
  if (inflateInit2(&stream_, kGzipOnly) != Z_OK) throw std::bad_alloc();
}

int64_t GzipSource::limit() const {
  return file_.size() > INT64_MAX / kMaxDeflateRatio ? INT64_MAX : file_.size() * kMaxDeflateRatio;
}

size_t GzipSource::read(void* to, size_t bytes) {
  stream_.next_out = static_cast<Bytef*>(to);
  stream_.avail_out = static_cast<uInt>(bytes);
  while (stream_.avail_out > 0) {
    if (stream_.avail_in == 0) refill();
    if (stream_.avail_in == 0) {
      if (!between_members_) file_.fail("the gzip data ends too early, at byte ", position_);
      break;
    }
    between_members_ = false;
    const int result = inflate(&stream_, Z_NO_FLUSH);
    if (result == Z_STREAM_END) {
      between_members_ = true;
      inflateReset(&stream_);
    } else if (result == Z_MEM_ERROR) {
      throw std::bad_alloc();
    } else if (result != Z_OK && result != Z_BUF_ERROR) {
      file_.fail("corrupt gzip data before byte ", position_ - stream_.avail_in, ": ",
                 stream_.msg ? stream_.msg : "it needs a dictionary");
    }
  }
  return bytes - stream_.avail_out;
}

void GzipSource::refill() {
  const int64_t left = std::max<int64_t>(file_.size() - position_, 0);
  const auto count = static_cast<size_t>(std::min<int64_t>(left, sizeof input_));
  file_.read_at(position_, input_, count);
  position_ += static_cast<int64_t>(count);
  stream_.next_in = input_;
  stream_.avail_in = static_cast<uInt>(count);
}

bool is_gzip(const InputFile& file) {
  unsigned char magic[2] = {};
  file.read_at(0, magic, static_cast<size_t>(std::min<int64_t>(sizeof magic, file.size())));
  return magic[0] == 0x1f && magic[1] == 0x8b;
}

std::unique_ptr<ByteSource> byte_source(const InputFile& file) {
  if (is_gzip(file)) return std::make_unique<GzipSource>(file);
  return std::make_unique<RawSource>(file);
}

}  // namespace mica::io
