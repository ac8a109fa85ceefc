// Reading and writing npz files: npy files in a zip archive, which libzip reads and writes.
#include <algorithm>
#include <string_view>
#include <vector>

#include "mica/io/npy.h"

#ifdef MICA_HAS_LIBZIP
#include <zip.h>

#include <cstring>
#include <memory>
#include <new>

#include "io/atomic_file.h"
#include "io/input_file.h"
#include "io/npy_format.h"
#include "io/utf8.h"

namespace mica::io {

namespace {

constexpr const char* kSave = "save_npz";
constexpr std::string_view kSuffix = ".npy";
// libzip and the tensors take some 500 bytes a member.
constexpr uint64_t kMaxMembers = 2048;
// No deflate stream expands more (zlib, "Technical details", maximum compression factor).
constexpr uint64_t kMaxDeflateRatio = 1032;
// Members that claim more than this times their compressed size are inflated once as a proof.
constexpr uint64_t kProofRatio = 8;
// An archive without members, which libzip does not write.
constexpr char kEmptyArchive[22] = {'P', 'K', 5, 6};

struct Discard {
  void operator()(zip_t* archive) const { zip_discard(archive); }
};
using Archive = std::unique_ptr<zip_t, Discard>;

template <class T>
T little_endian(const char* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

// The number of members that the archive's end claims. libzip makes room for as many before it has seen them, so this
// looks first, at the same record: the one whose comment reaches just to the end of the file.
uint64_t claimed_members(const InputFile& file) {
  constexpr int64_t kEnd = 22, kMaxComment = 65535, kLocator = 20, kEnd64 = 56;
  const auto tail_bytes = static_cast<size_t>(std::min(file.size(), kEnd + kMaxComment + kLocator));
  std::string tail(tail_bytes, '\0');
  file.read_at(file.size() - static_cast<int64_t>(tail_bytes), tail.data(), tail_bytes);
  const char* end = nullptr;
  for (size_t at = tail.find("PK\5\6"); at != tail.npos; at = tail.find("PK\5\6", at + 1)) {
    if (tail.size() - at < kEnd || little_endian<uint16_t>(&tail[at + 20]) != tail.size() - at - kEnd) continue;
    if (end) file.fail("the zip archive has two ends");
    end = &tail[at];
  }
  if (!end) file.fail("not a zip archive: it has no end of central directory");
  uint64_t members = std::max(little_endian<uint16_t>(end + 8), little_endian<uint16_t>(end + 10));
  if (end - tail.data() >= kLocator && std::memcmp(end - kLocator, "PK\6\7", 4) == 0) {
    char end64[kEnd64];
    const auto at = little_endian<uint64_t>(end - kLocator + 8);
    if (file.size() < kEnd64 || at > static_cast<uint64_t>(file.size() - kEnd64))
      file.fail("the end of central directory (zip64) is said to be at byte ", at, ", beyond the file");
    file.read_at(static_cast<int64_t>(at), end64, sizeof end64);
    members = std::max(little_endian<uint64_t>(end64 + 24), little_endian<uint64_t>(end64 + 32));
  }
  return members;
}

Archive open_archive(const InputFile& file, const std::string& path) {
  const uint64_t members = claimed_members(file);
  if (members > kMaxMembers) file.fail(members, " members are more than ", kMaxMembers);
  int code = 0;
  Archive archive(zip_open(path.c_str(), ZIP_RDONLY | ZIP_CHECKCONS, &code));
  if (!archive) {
    zip_error_t error;
    zip_error_init_with_code(&error, code);
    const std::string reason = zip_error_strerror(&error);
    zip_error_fini(&error);
    file.fail("the zip archive cannot be read: ", reason);
  }
  return archive;
}

// A member of the archive, being inflated.
class MemberSource final : public ByteSource {
 public:
  MemberSource(const InputFile& file, zip_t* archive, uint64_t index, const zip_stat_t& status)
      : ByteSource(file, status.name, static_cast<int64_t>(status.size)),
        member_(zip_fopen_index(archive, index, 0), &zip_fclose) {
    if (!member_) fail(zip_strerror(archive));
  }

  void read(void* to, size_t bytes) override {
    auto* next = static_cast<char*>(to);
    while (bytes > 0) {
      const size_t got = read_some(next, bytes);
      if (got == 0) fail("ends after ", position_, " of the ", size(), " bytes that the archive claims");
      next += got;
      bytes -= got;
    }
  }

  // To be called after the last byte: there must be no more, and the checksum must be right.
  void finish() {
    char extra;
    if (read_some(&extra, 1) != 0) fail("has more than the ", size(), " bytes that the archive claims");
  }

  // Reads all of it, and keeps nothing.
  void prove() {
    std::vector<char> buffer(size_t{1} << 16);
    for (int64_t left = size(); left > 0;) {
      const auto bytes = static_cast<size_t>(std::min(left, static_cast<int64_t>(buffer.size())));
      read(buffer.data(), bytes);
      left -= static_cast<int64_t>(bytes);
    }
    finish();
  }

 private:
  size_t read_some(char* to, size_t bytes) {
    const zip_int64_t got = zip_fread(member_.get(), to, bytes);
    if (got < 0) fail("corrupt after byte ", position_, ": ", zip_file_strerror(member_.get()));
    position_ += got;
    return static_cast<size_t>(got);
  }

  std::unique_ptr<zip_file_t, int (*)(zip_file_t*)> member_;
  int64_t position_ = 0;
};

// Checks what the archive says of its members, before any is read.
std::vector<zip_stat_t> check_members(const InputFile& file, zip_t* archive) {
  const zip_int64_t count = zip_get_num_entries(archive, 0);
  if (count > static_cast<zip_int64_t>(kMaxMembers)) file.fail(int64_t{count}, " members are more than ", kMaxMembers);
  std::vector<zip_stat_t> members(static_cast<size_t>(count));
  const auto file_bytes = static_cast<uint64_t>(file.size());
  uint64_t packed = 0;
  for (size_t i = 0; i < members.size(); ++i) {
    zip_stat_t& member = members[i];
    constexpr zip_uint64_t kNeeded =
        ZIP_STAT_NAME | ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD | ZIP_STAT_ENCRYPTION_METHOD;
    if (zip_stat_index(archive, i, 0, &member) != 0 || (member.valid & kNeeded) != kNeeded)
      file.fail("member ", uint64_t{i}, " cannot be read: ", zip_strerror(archive));
    const auto refuse = [&](const auto&... parts) { file.fail("member ", quoted(member.name), ": ", parts...); };
    if (!std::string_view(member.name).ends_with(kSuffix)) refuse("is no .npy file");
    if (member.encryption_method != ZIP_EM_NONE) refuse("is encrypted");
    if (member.comp_method != ZIP_CM_STORE && member.comp_method != ZIP_CM_DEFLATE)
      refuse("is compressed by method ", int64_t{member.comp_method}, ": stored and deflated ones are read");
    const uint64_t most = member.comp_method == ZIP_CM_STORE ? 1 : kMaxDeflateRatio;
    if (member.comp_size > file_bytes || (packed += member.comp_size) > file_bytes)
      refuse("the members' compressed sizes exceed the file, which has ", file_bytes, " bytes");
    if (member.size > member.comp_size * most)
      refuse("claims ", uint64_t{member.size}, " bytes, more than ", uint64_t{member.comp_size},
             " compressed ones can hold");
  }
  return members;
}

void check_arguments(const std::string& path, const NamedTensors& tensors) {
  constexpr size_t kMaxName = 65535 - kSuffix.size();
  check<FileError>(tensors.size() <= kMaxMembers, kSave, path, ": more than ", kMaxMembers, " tensors");
  std::vector<std::string_view> names;
  for (const auto& [name, tensor] : tensors) {
    check<FileError>(is_utf8(name), kSave, path, ": tensor ", quoted(name), " is not UTF-8");
    check<FileError>(!name.empty() && name.size() <= kMaxName && name.find('\0') == name.npos, kSave, path,
                     ": a tensor's name must have 1 to ", uint64_t{kMaxName}, " bytes, none of them 0: ", quoted(name));
    check<FileError>(tensor.defined(), kSave, path, ": tensor ", quoted(name), " is undefined");
    names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end()) fail<FileError>(kSave, path, ": tensor ", quoted(*twice), " comes twice");
}

// A member's bytes, where they lie until the archive is closed.
struct Member {
  Tensor tensor;  // on the CPU
  std::string header;
};

void write_archive(const std::string& path, const std::string& temporary, const NamedTensors& tensors,
                   const std::vector<Member>& members, bool compress) {
  int code = 0;
  Archive archive(zip_open(temporary.c_str(), ZIP_CREATE | ZIP_TRUNCATE, &code));
  const auto need = [&](bool ok) {
    if (!ok) fail<FileError>(kSave, path, ": cannot write: ", archive ? zip_strerror(archive.get()) : "no archive");
  };
  need(archive != nullptr);
  for (size_t i = 0; i < members.size(); ++i) {
    const Member& m = members[i];
    const auto bytes = [](const void* data) { return static_cast<zip_uint8_t*>(const_cast<void*>(data)); };
    const zip_buffer_fragment_t parts[] = {{bytes(m.header.data()), m.header.size()},
                                           {bytes(m.tensor.raw()), m.tensor.bytes()}};
    zip_source_t* source = zip_source_buffer_fragment(archive.get(), parts, m.tensor.bytes() > 0 ? 2 : 1, 0);
    need(source != nullptr);
    const std::string name = tensors[i].first + std::string(kSuffix);
    const zip_int64_t at = zip_file_add(archive.get(), name.c_str(), source, ZIP_FL_ENC_UTF_8);
    if (at < 0) zip_source_free(source);
    need(at >= 0);
    const auto index = static_cast<zip_uint64_t>(at);
    need(zip_set_file_compression(archive.get(), index, compress ? ZIP_CM_DEFLATE : ZIP_CM_STORE, 0) == 0);
    // 1 January 1980, as NumPy has it: the time would be in the file.
    constexpr zip_uint16_t kDate = 1 << 5 | 1;
    need(zip_file_set_dostime(archive.get(), index, 0, kDate, 0) == 0);
  }
  need(zip_close(archive.get()) == 0);
  (void)archive.release();
}

}  // namespace

}  // namespace mica::io
#endif

namespace MICA_EXPORT mica {
namespace io {

#ifdef MICA_HAS_LIBZIP

NamedTensors load_npz(const std::string& path) {
  const InputFile file("load_npz", path);
  const Archive archive = open_archive(file, path);
  const std::vector<zip_stat_t> members = check_members(file, archive.get());
  NamedTensors tensors;
  tensors.reserve(members.size());
  for (size_t i = 0; i < members.size(); ++i) {
    const zip_stat_t& member = members[i];
    if (member.size / kProofRatio > member.comp_size) MemberSource(file, archive.get(), i, member).prove();
    MemberSource source(file, archive.get(), i, member);
    Tensor tensor = read_npy(source);
    source.finish();
    std::string_view name = member.name;
    name.remove_suffix(kSuffix.size());
    tensors.emplace_back(name, std::move(tensor));
  }
  return tensors;
}

void save_npz(const std::string& path, const NamedTensors& tensors, NpzOptions options) {
  check_arguments(path, tensors);
  std::vector<Member> members;
  for (const auto& [name, tensor] : tensors) {
    std::string header = npy_header(kSave, path, tensor);
    members.push_back({tensor.to(Device::cpu()), std::move(header)});
  }
  AtomicFile file(kSave, path);
  if (members.empty()) {
    file.write(kEmptyArchive, sizeof kEmptyArchive);
  } else {
    write_archive(path, file.temporary(), tensors, members, options.compress);
    file.reopen();
  }
  file.commit();
}

#else

namespace {

constexpr std::string_view kMissing =
    ".npz files need libzip, and this Mica was built without it: install libzip-dev and configure again "
    "(-DMICA_LIBZIP=ON says what is missing)";

}  // namespace

NamedTensors load_npz(const std::string&) { fail("load_npz", kMissing); }
void save_npz(const std::string&, const NamedTensors&, NpzOptions) { fail("save_npz", kMissing); }

#endif

}  // namespace io
}  // namespace mica
