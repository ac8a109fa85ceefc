// Checkpoints: a folder, its lock, and the files in it.
#include "mica/io/checkpoint.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <system_error>

#include "mica/core/error.h"

namespace MICA_EXPORT mica {
namespace io {

namespace fs = std::filesystem;

namespace {

constexpr const char* kOp = "checkpoints";
constexpr const char* kChecksumKey = "mica.crc32";
constexpr std::string_view kPrefix = "checkpoint-", kSuffix = ".safetensors";

// CRC-32 of all that a checkpoint says: names, dtypes, shapes and values, in order.
std::string checksum(const NamedTensors& tensors) {
  uLong crc = ::crc32(0, nullptr, 0);
  const auto add = [&](const void* data, size_t bytes) {
    crc = ::crc32_z(crc, static_cast<const Bytef*>(data), bytes);
  };
  for (const auto& [name, tensor] : tensors) {
    const std::string head = mica::detail::concat(name, '\0', tensor.dtype(), tensor.shape());
    add(head.data(), head.size());
    if (tensor.elements() > 0) add(tensor.raw(), tensor.bytes());
  }
  char text[16];
  std::snprintf(text, sizeof text, "%08lx", crc);
  return text;
}

std::string file_name(int64_t number) {
  char digits[24];
  std::snprintf(digits, sizeof digits, "%012lld", static_cast<long long>(number));
  return std::string(kPrefix) + digits + std::string(kSuffix);
}

// The number in a checkpoint's name, or -1 for another file's.
int64_t number_of(std::string_view name) {
  if (!name.starts_with(kPrefix) || !name.ends_with(kSuffix) || name.size() <= kPrefix.size() + kSuffix.size())
    return -1;
  name.remove_prefix(kPrefix.size());
  name.remove_suffix(kSuffix.size());
  int64_t number = -1;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  return error == std::errc() && end == name.data() + name.size() ? number : -1;
}

// What a process that was killed left of a file that it was writing.
bool unfinished(std::string_view name) {
  return name.starts_with(kPrefix) && name.find(std::string(kSuffix) + ".tmp-") != name.npos;
}

Checkpoint read(int64_t number, const std::string& path) {
  const SafetensorsFile file = load_safetensors(path);
  const std::string* stored = file.find_metadata(kChecksumKey);
  if (!stored) fail<FileError>(kOp, path, ": the file is no checkpoint (no \"", kChecksumKey, "\" in its metadata)");
  Checkpoint checkpoint{number, path, file.tensors};
  const std::string found = checksum(checkpoint.tensors);
  check<FileError>(found == *stored, kOp, path, ": the file is damaged: its checksum is ", found, ", not ", *stored);
  return checkpoint;
}

}  // namespace

struct Checkpoints::State {
  std::string folder;
  int descriptor = -1;
  std::string previous;  // the file that was saved or read last
  int64_t number = -1;   // its number

  ~State() {
    if (descriptor >= 0) ::close(descriptor);  // and the lock is gone
  }

  [[noreturn]] void fail_code(const char* action, const std::error_code& code) const {
    fail<FileError>(kOp, folder, ": ", action, ": ", code.message());
  }

  // The names in the folder.
  std::vector<std::string> names() const {
    std::vector<std::string> all;
    std::error_code code;
    fs::directory_iterator at(folder, code);
    for (; !code && at != fs::directory_iterator(); at.increment(code)) all.push_back(at->path().filename().string());
    if (code) fail_code("cannot read the folder", code);
    return all;
  }
  std::string path(const std::string& name) const { return folder + "/" + name; }
};

Checkpoints::Checkpoints(std::string folder) : state_(std::make_unique<State>()) {
  State& s = *state_;
  check(!folder.empty(), kOp, "the folder has no name");
  s.folder = std::move(folder);
  std::error_code code;
  fs::create_directories(s.folder, code);
  if (code) s.fail_code("cannot make the folder", code);
  s.descriptor = ::open(s.folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (s.descriptor < 0) s.fail_code("cannot open the folder", {errno, std::generic_category()});
  // Some file systems have no locks, and need none.
  check<FileError>(::flock(s.descriptor, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK, kOp, s.folder,
                   ": the folder is in use by another training");
  for (const std::string& name : s.names())
    if (unfinished(name)) fs::remove(s.path(name), code);
}

Checkpoints::~Checkpoints() = default;
Checkpoints::Checkpoints(Checkpoints&&) noexcept = default;
Checkpoints& Checkpoints::operator=(Checkpoints&&) noexcept = default;

const std::string& Checkpoints::folder() const { return state_->folder; }

std::optional<Checkpoint> Checkpoints::last() {
  State& s = *state_;
  std::vector<std::pair<int64_t, std::string>> files;
  for (std::string& name : s.names())
    if (const int64_t number = number_of(name); number >= 0) files.emplace_back(number, std::move(name));
  std::sort(files.rbegin(), files.rend());
  std::exception_ptr broken;  // the newest's error
  for (const auto& [number, name] : files) {
    try {
      Checkpoint checkpoint = read(number, s.path(name));
      s.previous = name;
      s.number = number;
      return checkpoint;
    } catch (const FileError&) {
      if (!broken) broken = std::current_exception();
    }
  }
  if (broken) std::rethrow_exception(broken);
  return std::nullopt;
}

void Checkpoints::save(int64_t number, const NamedTensors& tensors) {
  State& s = *state_;
  check(number >= 0, kOp, "the number must not be negative, got ", number);
  int64_t last_number = s.number;
  if (s.previous.empty())
    for (const std::string& name : s.names()) last_number = std::max(last_number, number_of(name));
  check(number > last_number, kOp, s.folder, ": there is a checkpoint ", last_number,
        " already, and the next must have a larger number, got ", number);
  NamedTensors on_cpu = tensors;
  for (auto& [name, tensor] : on_cpu) tensor = tensor.to(Device::cpu());
  const std::string name = file_name(number);
  save_safetensors(s.path(name), on_cpu, {{kChecksumKey, checksum(on_cpu)}});
  std::error_code ignored;  // a file too many does no harm
  for (const std::string& other : s.names())
    if (number_of(other) >= 0 && other != name && other != s.previous) fs::remove(s.path(other), ignored);
  s.previous = name;
  s.number = number;
}

}  // namespace io
}  // namespace mica
