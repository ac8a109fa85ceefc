// npy files.
#include "mica/io/npy.h"

#include "fuzz_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t count) {
  mica::fuzz::load_or_refuse(bytes, count, mica::io::load_npy);
  return 0;
}
