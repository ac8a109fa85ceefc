// InputFile.
#include "io/input_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

namespace mica::io {

InputFile::InputFile(const char* op, const std::string& path) : op_(op), path_(path) {
  // Not to wait for a writer where the path is a pipe.
  descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor_ < 0) fail("cannot open the file: ", std::generic_category().message(errno));
  struct stat status;
  const bool regular = ::fstat(descriptor_, &status) == 0 && S_ISREG(status.st_mode);
  if (!regular) {
    ::close(descriptor_);
    fail("not a regular file");
  }
  size_ = status.st_size;
}

InputFile::~InputFile() { ::close(descriptor_); }

void InputFile::read_at(int64_t position, void* to, size_t bytes) const {
  constexpr size_t kStep = size_t{1} << 30;  // Linux reads at most 2 GiB at once
  auto* next = static_cast<char*>(to);
  while (bytes > 0) {
    const ssize_t got = ::pread(descriptor_, next, std::min(bytes, kStep), position);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail("cannot read at byte ", position, ": ", std::generic_category().message(errno));
    if (got == 0) fail("the file ends at byte ", position, ", where more was expected");
    next += got;
    position += got;
    bytes -= static_cast<size_t>(got);
  }
}

}  // namespace mica::io
