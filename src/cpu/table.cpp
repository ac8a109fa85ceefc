// The table of this level. A kernel of the list that is missing is a link error.
#include "cpu/level.h"

namespace mica::kernels::cpu::MICA_CPU_LEVEL {

#define MICA_NAME2(level) "cpu/" #level
#define MICA_NAME(level) MICA_NAME2(level)

const Table& table() {
  static Table table(MICA_NAME(MICA_CPU_LEVEL));
  static const bool filled = [] {
#define KERNEL(name, parameters) table.name = name;
#include "kernels/kernels.def"
#undef KERNEL
    return true;
  }();
  (void)filled;
  return table;
}

}  // namespace mica::kernels::cpu::MICA_CPU_LEVEL
