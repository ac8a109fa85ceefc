// FuzzFile: the bytes of a fuzz input as a file with a path, in memory; and what a loader of it may do.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "mica/core/error.h"
#include "mica/core/memory.h"

namespace mica::fuzz {

class FuzzFile {
 public:
  FuzzFile(const void* bytes, size_t count) : descriptor_(::memfd_create("fuzz", MFD_CLOEXEC)) {
    if (descriptor_ < 0 || ::write(descriptor_, bytes, count) != static_cast<ssize_t>(count)) std::abort();
  }
  ~FuzzFile() { ::close(descriptor_); }
  FuzzFile(const FuzzFile&) = delete;
  FuzzFile& operator=(const FuzzFile&) = delete;

  std::string path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

 private:
  int descriptor_;
};

/// A loader gives what it has read, or throws a FileError that names the file; all else is a finding.
template <class Load>
void load_or_refuse(const void* bytes, size_t count, const Load& load) {
  const FuzzFile file(bytes, count);
  const std::string path = file.path();
  const int64_t before = memory_statistics().in_use;
  try {
    load(path);
  } catch (const FileError& error) {
    if (std::string(error.what()).find(path + ": ") == std::string::npos) {
      std::fprintf(stderr, "an error that does not name the file: %s\n", error.what());
      std::abort();
    }
  }
  if (memory_statistics().in_use != before) std::abort();
}

}  // namespace mica::fuzz
