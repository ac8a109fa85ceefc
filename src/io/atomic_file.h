// AtomicFile: a file that appears under its name whole, or not at all.
#pragma once

#include <cstddef>
#include <string>

namespace mica::io {

/// Writes to a temporary name in the folder of `path`. commit() makes the data safe on the disk and renames it to
/// `path`, replacing what was there; without it, the destructor removes the temporary and `path` stays as it was. At
/// any moment, a crash included, `path` names the old file or the new one, whole. Errors are FileErrors "[op] path:
/// ...".
class AtomicFile {
 public:
  /// Throws where the temporary cannot be created, or `path` names something other than a regular file. A symbolic link
  /// is followed. `op` must outlive this.
  AtomicFile(const char* op, const std::string& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* from, size_t bytes);

  /// For a library that writes by itself: the name that it shall write to (or replace), and what to call once it has.
  const std::string& temporary() const { return temporary_; }
  void reopen();

  /// To be called once, last.
  void commit();

 private:
  void keep_mode() const;
  void write_through(const char* from, size_t bytes);
  [[noreturn]] void fail_errno(const char* action) const;

  const char* op_;
  std::string path_;
  std::string target_;     // path_, symbolic links resolved
  std::string temporary_;  // empty once committed
  std::string buffer_;     // gathers small writes
  int descriptor_ = -1;
  int mode_ = -1;  // of the file that is replaced
};

}  // namespace mica::io
