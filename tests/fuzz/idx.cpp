// IDX files. A file that begins with 1f 8b is one that libFuzzer would have to guess: idx_gz.cpp makes them.
#include "mica/data/idx.h"

#include "fuzz_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t count) {
  mica::fuzz::load_or_refuse(bytes, count, mica::data::load_idx);
  return 0;
}
