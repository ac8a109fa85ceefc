// AtomicFile.
#include "io/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <system_error>

#include "mica/core/error.h"

namespace mica::io {

namespace {

constexpr size_t kBufferBytes = size_t{1} << 16;

std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

std::string resolved(const std::string& path) {
  const std::unique_ptr<char, decltype(&std::free)> real(::realpath(path.c_str(), nullptr), &std::free);
  return real ? std::string(real.get()) : path;
}

}  // namespace

AtomicFile::AtomicFile(const char* op, const std::string& path) : op_(op), path_(path), target_(resolved(path)) {
  struct stat old;
  const bool replaces = ::stat(target_.c_str(), &old) == 0;
  if (replaces) check<FileError>(S_ISREG(old.st_mode), op_, path_, ": not a regular file");

  // The name is unique among processes that live and threads; a leftover of a process that was killed is stepped over.
  static std::atomic<unsigned> count;
  do {
    temporary_ = detail::concat(target_, ".tmp-", int64_t{::getpid()}, "-", uint64_t{count.fetch_add(1)});
    descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  } while (descriptor_ < 0 && errno == EEXIST);
  if (descriptor_ < 0) {
    temporary_.clear();
    fail_errno("cannot create the file");
  }
  if (replaces) mode_ = static_cast<int>(old.st_mode & 07777);
  keep_mode();
}

void AtomicFile::keep_mode() const {
  if (mode_ >= 0) (void)::fchmod(descriptor_, static_cast<mode_t>(mode_));  // where it fails, it is the usual mode
}

void AtomicFile::reopen() {
  ::close(descriptor_);
  descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CLOEXEC);
  if (descriptor_ < 0) fail_errno("cannot open the written file");
  keep_mode();
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::write(const void* from, size_t bytes) {
  const char* data = static_cast<const char*>(from);
  if (buffer_.size() + bytes < kBufferBytes) {
    buffer_.append(data, bytes);
    return;
  }
  write_through(buffer_.data(), buffer_.size());
  buffer_.clear();
  write_through(data, bytes);
}

void AtomicFile::commit() {
  write_through(buffer_.data(), buffer_.size());
  buffer_.clear();
  if (::fsync(descriptor_) != 0) fail_errno("cannot write the file to the disk");
  const int closed = ::close(descriptor_);
  descriptor_ = -1;
  if (closed != 0) fail_errno("cannot close the file");
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) fail_errno("cannot rename the finished file");
  temporary_.clear();

  // The new name is on the disk when its folder is. Some file systems cannot sync a folder, and need not.
  const int folder = ::open(folder_of(target_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) return;  // a folder that may be written but not read
  const bool failed = ::fsync(folder) != 0 && errno != EINVAL && errno != ENOTSUP;
  const int error = errno;
  ::close(folder);
  errno = error;
  if (failed) fail_errno("cannot write the folder to the disk");
}

void AtomicFile::write_through(const char* from, size_t bytes) {
  constexpr size_t kStep = size_t{1} << 30;  // Linux writes at most 2 GiB at once
  while (bytes > 0) {
    const ssize_t put = ::write(descriptor_, from, std::min(bytes, kStep));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) fail_errno("cannot write");
    from += put;
    bytes -= static_cast<size_t>(put);
  }
}

void AtomicFile::fail_errno(const char* action) const {
  const std::string reason = std::generic_category().message(errno);
  fail<FileError>(op_, path_, ": ", action, ": ", reason);
}

}  // namespace mica::io
