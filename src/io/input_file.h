// InputFile: a regular file that is read at given places.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "mica/core/error.h"

namespace mica::io {

/// Opened for reading; its size is known. Errors are FileErrors that begin "[op] path: ".
class InputFile {
 public:
  /// Throws where the path cannot be opened or is no regular file. `op` must outlive this.
  InputFile(const char* op, const std::string& path);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  int64_t size() const { return size_; }

  /// Reads exactly `bytes` bytes from `position` on.
  void read_at(int64_t position, void* to, size_t bytes) const;

  template <class... Parts>
  [[noreturn]] void fail(const Parts&... parts) const {
    mica::fail<FileError>(op_, path_, ": ", parts...);
  }

 private:
  const char* op_;
  std::string path_;
  int descriptor_ = -1;
  int64_t size_ = 0;
};

}  // namespace mica::io
