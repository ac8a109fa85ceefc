// Gzipped IDX files. The first byte of the input says whether the rest is a gzip file, or is made one first: its
// checksums could not be guessed.
#include <zlib.h>

#include "fuzz_file.h"
#include "mica/data/idx.h"

namespace {

std::string gzipped(const uint8_t* bytes, size_t count) {
  z_stream stream{};
  if (deflateInit2(&stream, 1, Z_DEFLATED, 15 + 16, 9, Z_DEFAULT_STRATEGY) != Z_OK) std::abort();
  std::string packed(deflateBound(&stream, count), '\0');
  stream.next_in = const_cast<Bytef*>(bytes);
  stream.avail_in = static_cast<uInt>(count);
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  if (deflate(&stream, Z_FINISH) != Z_STREAM_END) std::abort();
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t count) {
  if (count == 0) return 0;
  const bool raw = bytes[0] & 1;
  const std::string file = raw ? std::string(bytes + 1, bytes + count) : gzipped(bytes + 1, count - 1);
  mica::fuzz::load_or_refuse(file.data(), file.size(), mica::data::load_idx);
  return 0;
}
