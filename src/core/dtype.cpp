// Names of element types.
#include "mica/core/dtype.h"

#include <ostream>

#include "mica/core/error.h"

namespace MICA_EXPORT mica {

std::string_view to_string(DType dtype) {
  switch (dtype) {
    case DType::float32: return "float32";
    case DType::float64: return "float64";
    case DType::bfloat16: return "bfloat16";
    case DType::int32: return "int32";
    case DType::int64: return "int64";
    case DType::uint8: return "uint8";
  }
  return "?";
}

std::ostream& operator<<(std::ostream& out, DType dtype) { return out << to_string(dtype); }

void append_text(std::string& text, DType dtype) { append_text(text, to_string(dtype)); }

}  // namespace mica
