// NumPy's files: .npy holds one array, .npz a zip archive of named ones.
// The formats: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
#pragma once

#include <string>

#include "mica/core/macros.h"
#include "mica/core/tensor.h"
#include "mica/io/safetensors.h"

namespace MICA_EXPORT mica {
namespace io {

/// Reads an array into a tensor on the CPU: formats 1.0, 2.0 and 3.0, little- and big-endian, in C or Fortran order
/// (which becomes row-major), of rank 8 at most.
///
///     NumPy's dtype    the tensor's
///     float32          float32          uint8            uint8
///     float64          float64          bool             uint8, 0 or 1
///     float16          float32          int16, uint16    int32
///     int32            int32            uint32           int64
///     int64            int64
///
/// Those hold every value exactly. Any other dtype is refused by its name; pickled objects are never read. Throws
/// FileError, naming the place, where a file breaks the format, is cut short or is followed by more bytes. What the
/// header claims must be in the file before memory is asked for; that is the tensor's and at most 128 KiB more.
Tensor load_npy(const std::string& path);

/// Writes a tensor (from any device) as NumPy does, format 1.0. npy has no bfloat16, which is refused. The file is
/// written as save_safetensors writes: whole, or not at all.
void save_npy(const std::string& path, const Tensor& tensor);

struct NpzOptions {
  bool compress = false;  ///< as numpy.savez_compressed; else as numpy.savez
};

/// Reads the arrays of an archive, in its order, named without their ".npy", each as load_npy does. Throws FileError,
/// naming the array, where one cannot be read; where a member is encrypted, packed by another method than deflate, or
/// no .npy file; and where there are more than 2,048 members. Memory is the tensors' and at most 1 MiB more. A bomb is
/// refused by the sizes in the archive before anything is inflated: all members together must fit into the file, none
/// may claim more than 1,032 times its compressed size (the most that deflate can do), and one that claims more than 8
/// times it is inflated once without being kept, as a proof, before memory is asked for.
/// Where Mica was built without libzip, throws Error.
NamedTensors load_npz(const std::string& path);

/// Writes tensors (from any device) in the given order, so that numpy.load gives them under their names. Names must be
/// UTF-8, not empty, without NUL, and no name may come twice; at most 2,048. The same tensors give the same bytes. The
/// file is written whole, or not at all. Where Mica was built without libzip, throws Error.
void save_npz(const std::string& path, const NamedTensors& tensors, NpzOptions options = {});

}  // namespace io
}  // namespace mica
