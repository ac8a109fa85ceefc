// Safetensors files: named tensors and a map of texts, the format in which Mica saves models.
// The format: https://github.com/huggingface/safetensors, "Format".
#pragma once

#include <memory>
#include <optional>
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
struct HeaderEntry;
struct SafetensorsFile;

/// The tensors of an open .safetensors file, in the order of its header. What the header says is known; a tensor is
/// read from the file, into memory of its own on the CPU, each time that it is asked for. The file stays open as long
/// as this or a copy of it lives; reading throws FileError where the file was cut short since.
class StoredTensors {
 public:
  StoredTensors() = default;

  size_t size() const;
  bool empty() const { return size() == 0; }
  /// Of tensor `i`, without reading it; throws Error where there is none. The name lives as long as this.
  std::string_view name(size_t i) const;
  Shape shape(size_t i) const;
  DType dtype(size_t i) const;
  /// The place of the tensor called `name`, or size() where there is none.
  size_t index(std::string_view name) const;

  /// Reads tensor `i`.
  Tensor read(size_t i) const;
  /// The name of tensor `i`, and the tensor, read.
  std::pair<std::string, Tensor> operator[](size_t i) const { return {std::string(name(i)), read(i)}; }
  /// All of them, read.
  operator NamedTensors() const;

  /// Reads each tensor on the way.
  class Iterator {
   public:
    Iterator(const StoredTensors& tensors, size_t i) : tensors_(&tensors), i_(i) {}
    std::pair<std::string, Tensor> operator*() const { return (*tensors_)[i_]; }
    Iterator& operator++() {
      ++i_;
      return *this;
    }
    bool operator==(const Iterator& other) const { return i_ == other.i_; }

   private:
    const StoredTensors* tensors_;
    size_t i_;
  };
  Iterator begin() const { return {*this, 0}; }
  Iterator end() const { return {*this, size()}; }

 private:
  friend SafetensorsFile load_safetensors(const std::string& path);
  struct State;
  const HeaderEntry& entry(size_t i) const;

  std::shared_ptr<const State> state_;
};

/// What a .safetensors file holds.
struct SafetensorsFile {
  std::string path;  ///< where it is read from, for errors
  StoredTensors tensors;
  Metadata metadata;

  /// The tensor called `name`, read, or nothing.
  std::optional<Tensor> find(std::string_view name) const;
  /// The tensor called `name`, read; throws FileError where there is none.
  Tensor at(std::string_view name) const;
  /// The text under `key`, or null.
  const std::string* find_metadata(std::string_view key) const;
};

/// Opens a file. F32, F64, BF16, I32, I64 and U8 are read, of rank 8 at most; at most 4,096 metadata entries. Throws
/// FileError, naming the tensor and the place, where a file breaks any rule of the format (the header is a JSON object
/// without duplicate keys, of at most 100 MB; the tensors cover the data without holes or overlaps). Takes at most
/// twice the header's size and 1 MiB of memory.
SafetensorsFile load_safetensors(const std::string& path);

/// Writes tensors (from any device) in the given order. The file is written under a temporary name in the same folder
/// and renamed when it is safe on the disk: on any failure, a FileError, the file that was there before is untouched.
/// Names and metadata must be UTF-8, and no name or key may come twice. A tensor that is given twice is stored twice.
void save_safetensors(const std::string& path, const NamedTensors& tensors, const Metadata& metadata = {});

}  // namespace io
}  // namespace mica
