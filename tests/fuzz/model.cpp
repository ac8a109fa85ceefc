// The graph of a saved model. The first byte of an input chooses one of the models of models.h, whose tensors are in
// the file; the rest is the JSON.
#include <string>

#include "fuzz_file.h"
#include "models.h"
#include "support/temp_dir.h"

namespace {

using namespace mica;

// A saved model without its graph: what follows the metadata in the header, and the data.
struct Frame {
  std::string entries, data;
};

std::vector<Frame> frames() {
  std::vector<Frame> all;
  const test::TempDir folder;
  for (const nn::Model& model : fuzz::models()) {
    model.save(folder.file("model"));
    Frame frame;
    for (const auto& [name, tensor] : io::load_safetensors(folder.file("model")).tensors) {
      const size_t begin = frame.data.size(), end = begin + tensor.bytes();
      frame.entries += ",\"" + name + "\":{\"dtype\":\"F32\",\"shape\":" + to_string(tensor.shape()) +
                       ",\"data_offsets\":[" + std::to_string(begin) + "," + std::to_string(end) + "]}";
      frame.data.append(static_cast<const char*>(tensor.raw()), tensor.bytes());
    }
    all.push_back(std::move(frame));
  }
  return all;
}

// The bytes as a JSON string, each one a character.
std::string quoted(const uint8_t* bytes, size_t count) {
  constexpr const char* kDigits = "0123456789abcdef";
  std::string json = "\"";
  for (size_t i = 0; i < count; ++i) {
    const uint8_t byte = bytes[i];
    if (byte < 0x20 || byte >= 0x7f) {
      json.append("\\u00").append(1, kDigits[byte >> 4]).append(1, kDigits[byte & 15]);
    } else {
      if (byte == '"' || byte == '\\') json += '\\';
      json += static_cast<char>(byte);
    }
  }
  return json + '"';
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t count) {
  static const std::vector<Frame> all = frames();
  if (count == 0) return 0;
  const Frame& frame = all[bytes[0] % all.size()];
  const std::string header =
      "{\"__metadata__\":{\"mica.graph\":" + quoted(bytes + 1, count - 1) + "}" + frame.entries + "}";
  const uint64_t length = header.size();
  const std::string file = std::string(reinterpret_cast<const char*>(&length), 8) + header + frame.data;
  fuzz::load_or_refuse(file.data(), file.size(), [](const std::string& path) {
    const nn::Model model = nn::Model::load(path);
    if (!model.built() || model.summary().empty()) std::abort();
  });
  return 0;
}
