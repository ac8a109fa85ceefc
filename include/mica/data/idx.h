// IDX files: the format of MNIST.
#pragma once

#include <string>

#include "mica/core/macros.h"
#include "mica/core/tensor.h"

namespace MICA_EXPORT mica {
namespace data {

/// Reads an IDX file, raw or gzipped (told by its content, not its name), into a tensor on the CPU. Element types
/// uint8, int32, float32 and float64, rank 1 to 8. Throws FileError where the file is malformed, cut short, or followed
/// by more bytes. Memory grows with the data that is there, never with what the header claims.
/// Source of the format: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits", "File formats".
Tensor load_idx(const std::string& path);

}  // namespace data
}  // namespace mica
