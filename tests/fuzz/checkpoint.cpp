// Checkpoints: whatever tensors a whole one holds, training goes on or refuses it. The input is a safetensors file.
#include <cstdlib>
#include <filesystem>

#include "fuzz_file.h"
#include "models.h"
#include "support/temp_dir.h"

using namespace mica;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t count) {
  io::NamedTensors tensors;
  try {
    const fuzz::FuzzFile file(bytes, count);
    tensors = io::load_safetensors(file.path()).tensors;
  } catch (const FileError&) {
    return -1;  // not worth keeping
  }
  static const test::TempDir dir;
  const std::string folder = dir.file("run");
  std::filesystem::remove_all(folder);
  io::Checkpoints(folder).save(1, tensors);
  try {
    fuzz::train(folder, 2);
  } catch (const Error&) {
  }
  return 0;
}
