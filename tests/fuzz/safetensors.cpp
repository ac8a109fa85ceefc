// safetensors files: the header, and every tensor that it describes.
#include "mica/io/safetensors.h"

#include "fuzz_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t count) {
  mica::fuzz::load_or_refuse(bytes, count, [](const std::string& path) {
    const mica::io::SafetensorsFile file = mica::io::load_safetensors(path);
    for (const auto& [name, tensor] : file.tensors)
      if (file.at(name).shape() != tensor.shape()) std::abort();
  });
  return 0;
}
