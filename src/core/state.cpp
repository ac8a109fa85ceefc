// StateVisitor.
#include "mica/core/state.h"

namespace MICA_EXPORT mica {

StateVisitor::~StateVisitor() = default;

}  // namespace mica
