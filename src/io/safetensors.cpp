// Reading and writing safetensors files.
#include "mica/io/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>

#include "core/tensor_access.h"
#include "io/atomic_file.h"
#include "io/input_file.h"
#include "io/safetensors_header.h"
#include "io/show.h"
#include "io/utf8.h"

static_assert(std::endian::native == std::endian::little, "safetensors files are little-endian");

namespace MICA_EXPORT mica {
namespace io {

namespace {

constexpr const char* kSave = "save_safetensors";
constexpr int64_t kLengthBytes = 8;
// Where the data begins is a multiple of this, so that a file mapped into memory is aligned as tensors are.
constexpr size_t kDataAlignment = 64;

void append_json_string(std::string& json, std::string_view text) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  json += '"';
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20) {
      json.append("\\u00").append(1, kDigits[byte >> 4]).append(1, kDigits[byte & 15]);
    } else {
      if (c == '"' || c == '\\') json += '\\';
      json += c;
    }
  }
  json += '"';
}

// Names and keys: UTF-8, none twice.
void check_names(const std::string& path, const char* what, std::vector<std::string_view> names) {
  for (const auto name : names)
    check<FileError>(is_utf8(name), kSave, path, ": ", what, " ", quoted(name), " is not UTF-8");
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end()) fail<FileError>(kSave, path, ": ", what, " ", quoted(*twice), " comes twice");
}

void check_arguments(const std::string& path, const NamedTensors& tensors, const Metadata& metadata) {
  std::vector<std::string_view> names;
  for (const auto& [name, tensor] : tensors) {
    check<FileError>(name != kMetadataKey, kSave, path, ": a tensor must not be called ", quoted(name));
    check<FileError>(tensor.defined(), kSave, path, ": tensor ", quoted(name), " is undefined");
    names.push_back(name);
  }
  check_names(path, "tensor", std::move(names));
  std::vector<std::string_view> keys;
  for (const auto& [key, text] : metadata) {
    check<FileError>(is_utf8(text), kSave, path, ": metadata ", quoted(key), " is not UTF-8");
    keys.push_back(key);
  }
  check_names(path, "metadata", std::move(keys));
  check<FileError>(metadata.size() <= kMaxMetadataEntries, kSave, path, ": more than ", uint64_t{kMaxMetadataEntries},
                   " metadata entries");
}

// Which tensor's data comes when: the larger elements first, so that each tensor is aligned to its elements (PyTorch
// refuses others).
std::vector<size_t> data_order(const NamedTensors& tensors) {
  std::vector<size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto element = [&](size_t i) { return size_of(tensors[i].second.dtype()); };
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return element(a) > element(b); });
  return order;
}

// The JSON, padded with spaces up to the data.
std::string make_header(const NamedTensors& tensors, const Metadata& metadata, const std::vector<size_t>& order) {
  std::vector<uint64_t> begins(tensors.size());
  uint64_t end = 0;
  for (const size_t i : order) {
    begins[i] = end;
    end += tensors[i].second.bytes();
  }
  std::string json = "{";
  const auto separate = [&] {
    if (json.size() > 1) json += ',';
  };
  if (!metadata.empty()) {
    append_json_string(json, kMetadataKey);
    json += ":{";
    for (size_t i = 0; i < metadata.size(); ++i) {
      if (i > 0) json += ',';
      append_json_string(json, metadata[i].first);
      json += ':';
      append_json_string(json, metadata[i].second);
    }
    json += '}';
  }
  for (size_t i = 0; i < tensors.size(); ++i) {
    const auto& [name, tensor] = tensors[i];
    separate();
    append_json_string(json, name);
    json += detail::concat(":{\"dtype\":\"", format_name(tensor.dtype()), "\",\"shape\":", tensor.shape(),
                           ",\"data_offsets\":[", begins[i], ",", begins[i] + tensor.bytes(), "]}");
  }
  json += '}';
  json.resize((kLengthBytes + json.size() + kDataAlignment - 1) / kDataAlignment * kDataAlignment - kLengthBytes, ' ');
  return json;
}

}  // namespace

struct StoredTensors::State {
  explicit State(const std::string& path) : file("load_safetensors", path) {}

  InputFile file;
  int64_t data_begin = 0;
  SafetensorsHeader header;
};

const HeaderEntry& StoredTensors::entry(size_t i) const {
  check(i < size(), "StoredTensors", "tensor ", uint64_t{i}, " is outside of the ", uint64_t{size()}, " of the file");
  return state_->header.entries[i];
}

size_t StoredTensors::size() const { return state_ ? state_->header.entries.size() : 0; }

std::string_view StoredTensors::name(size_t i) const {
  const HeaderEntry& checked = entry(i);  // before the state is touched: there may be none
  return state_->header.name(checked);
}

Shape StoredTensors::shape(size_t i) const {
  const HeaderEntry& checked = entry(i);
  return state_->header.shape(checked);
}

DType StoredTensors::dtype(size_t i) const { return entry(i).dtype; }

size_t StoredTensors::index(std::string_view wanted) const {
  size_t i = 0;
  while (i < size() && name(i) != wanted) ++i;
  return i;
}

Tensor StoredTensors::read(size_t i) const {
  Tensor tensor = mica::empty(shape(i), {dtype(i), Device::cpu()});
  state_->file.read_at(state_->data_begin + entry(i).begin, TensorAccess::data(tensor), tensor.bytes());
  return tensor;
}

StoredTensors::operator NamedTensors() const {
  NamedTensors all;
  all.reserve(size());
  for (size_t i = 0; i < size(); ++i) all.emplace_back(name(i), read(i));
  return all;
}

std::optional<Tensor> SafetensorsFile::find(std::string_view name) const {
  const size_t i = tensors.index(name);
  if (i == tensors.size()) return std::nullopt;
  return tensors.read(i);
}

Tensor SafetensorsFile::at(std::string_view name) const {
  std::optional<Tensor> tensor = find(name);
  if (!tensor) fail<FileError>("load_safetensors", path, ": no tensor ", quoted(name));
  return *std::move(tensor);
}

const std::string* SafetensorsFile::find_metadata(std::string_view key) const {
  const auto found = std::find_if(metadata.begin(), metadata.end(), [&](const auto& m) { return m.first == key; });
  return found == metadata.end() ? nullptr : &found->second;
}

SafetensorsFile load_safetensors(const std::string& path) {
  const auto state = std::make_shared<StoredTensors::State>(path);
  const InputFile& file = state->file;
  if (file.size() < kLengthBytes) file.fail("has ", file.size(), " bytes, not even the 8 of the header's length");
  uint64_t header_bytes = 0;
  file.read_at(0, &header_bytes, sizeof header_bytes);
  if (header_bytes < 2) file.fail("header length ", header_bytes, ": an object has at least the 2 bytes {}");
  if (header_bytes > uint64_t{kMaxHeaderBytes})
    file.fail("header length ", header_bytes, " is above the format's limit of ", kMaxHeaderBytes, " bytes");
  const int64_t data_begin = kLengthBytes + static_cast<int64_t>(header_bytes);
  if (data_begin > file.size())
    file.fail("header length ", header_bytes, " goes beyond the file, which has ", file.size(), " bytes");

  std::string text(header_bytes, ' ');
  file.read_at(kLengthBytes, text.data(), text.size());
  state->header = parse_safetensors_header(path, std::move(text), file.size() - data_begin);
  state->data_begin = data_begin;
  SafetensorsFile result{path, {}, std::move(state->header.metadata)};
  result.tensors.state_ = state;
  return result;
}

void save_safetensors(const std::string& path, const NamedTensors& tensors, const Metadata& metadata) {
  check_arguments(path, tensors, metadata);
  const std::vector<size_t> order = data_order(tensors);
  const std::string header = make_header(tensors, metadata, order);
  check<FileError>(header.size() <= size_t{kMaxHeaderBytes}, kSave, path, ": names and metadata need a header of ",
                   uint64_t{header.size()}, " bytes, above the format's limit of ", kMaxHeaderBytes);

  AtomicFile file(kSave, path);
  const uint64_t header_bytes = header.size();
  file.write(&header_bytes, sizeof header_bytes);
  file.write(header.data(), header.size());
  for (const size_t i : order) {
    const Tensor tensor = tensors[i].second.to(Device::cpu());
    file.write(tensor.raw(), tensor.bytes());
  }
  file.commit();
}

}  // namespace io
}  // namespace mica
