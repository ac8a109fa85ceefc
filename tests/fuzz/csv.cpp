// CSV files. The first byte of an input chooses the options; the rest is the file. What is loaded goes through an
// encoder and its JSON.
#include "mica/data/csv.h"

#include "fuzz_file.h"
#include "mica/data/table_encoder.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t count) {
  using namespace mica;
  if (count == 0) return 0;
  data::CSVOptions options;
  if (bytes[0] & 1) options.separator = ';';
  if (bytes[0] & 2) options.missing = {"NA", "?"};
  if (bytes[0] & 4) options.texts = {"a"};
  if (bytes[0] & 8) options.numbers = {"b"};
  if (bytes[0] & 16) options.names = {"a", "b"};
  fuzz::load_or_refuse(bytes + 1, count - 1, [&](const std::string& path) {
    const data::Table table = data::load_csv(path, options);
    if (to_string(table).empty()) std::abort();
    data::TableEncoder encoder;
    try {
      encoder = data::TableEncoder(table);
    } catch (const Error&) {
      return;  // no rows, or numbers that are too large
    }
    const std::string json = encoder.to_json();
    const data::TableEncoder again = data::TableEncoder::from_json(json);
    if (again.to_json() != json || again.encode(table).dim(1) != encoder.features()) std::abort();
  });
  return 0;
}
