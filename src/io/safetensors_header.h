// The header of a safetensors file: parsed and checked within a memory that its own text bounds.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mica/core/dtype.h"
#include "mica/core/shape.h"

namespace mica::io {

inline constexpr int64_t kMaxHeaderBytes = 100'000'000;
inline constexpr size_t kMaxMetadataEntries = 4096;
inline constexpr std::string_view kMetadataKey = "__metadata__";

/// The format's name of a dtype: "F32".
std::string_view format_name(DType dtype);

/// One tensor that the header lists. 32 bytes, where its text has at least 50: name and shape stay in the text.
struct HeaderEntry {
  uint32_t name_at = 0;
  uint32_t name_size = 0;
  uint32_t shape_at = 0;  // just behind the '['
  DType dtype{};
  int64_t begin = 0;
  int64_t end = 0;
};

struct SafetensorsHeader {
  std::string text;  // with the strings decoded in place
  std::vector<HeaderEntry> entries;
  std::vector<std::pair<std::string, std::string>> metadata;

  std::string_view name(const HeaderEntry& entry) const {
    return std::string_view(text).substr(entry.name_at, entry.name_size);
  }
  Shape shape(const HeaderEntry& entry) const;
};

/// Parses the JSON `text` and checks it by itself and against the number of bytes that follow it in the file. Throws
/// FileError("load_safetensors", path ...).
SafetensorsHeader parse_safetensors_header(const std::string& path, std::string text, int64_t data_bytes);

}  // namespace mica::io
