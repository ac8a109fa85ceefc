// npz files.
#include "fuzz_file.h"
#include "mica/io/npy.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t count) {
  mica::fuzz::load_or_refuse(bytes, count, mica::io::load_npz);
  return 0;
}
