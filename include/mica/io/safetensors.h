// Safetensors files: named tensors and a map of texts, the format in which Mica saves models.
// The format: https://github.com/huggingface/safetensors, "Format".
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mica/core/macros.h"
#include "mica/core/tensor.h"

namespace MICA_EXPORT mica {
namespace io {

using NamedTensors = std::vector<std::pair<std::string, Tensor>>;
using Metadata = std::vector<std::pair<std::string, std::string>>;

/// What a .safetensors file holds, in the order of its header.
struct SafetensorsFile {
  std::string path;  ///< where it was read from, for errors
  NamedTensors tensors;
  Metadata metadata;

  /// The tensor called `name`, or null.
  const Tensor* find(std::string_view name) const;
  /// The tensor called `name`; throws FileError where there is none.
  const Tensor& at(std::string_view name) const;
  /// The text under `key`, or null.
  const std::string* find_metadata(std::string_view key) const;
};

/// Reads a file into tensors on the CPU. F32, F64, BF16, I32, I64 and U8 are read, of rank 8 at most; at most 4,096
/// metadata entries. Throws FileError, naming the tensor and the place, where a file breaks any rule of the format
/// (the header is a JSON object without duplicate keys, of at most 100 MB; the tensors cover the data without holes or
/// overlaps). Nothing is allocated for data that is not there.
SafetensorsFile load_safetensors(const std::string& path);

/// Writes tensors (from any device) in the given order. The file is written under a temporary name in the same folder
/// and renamed when it is safe on the disk: on any failure, a FileError, the file that was there before is untouched.
/// Names and metadata must be UTF-8, and no name or key may come twice. A tensor that is given twice is stored twice.
void save_safetensors(const std::string& path, const NamedTensors& tensors, const Metadata& metadata = {});

}  // namespace io
}  // namespace mica
