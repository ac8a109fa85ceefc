// What each instruction-set level of the CPU kernels declares: every kernel of the list, and its table.
#pragma once

#include "kernels/kernels.h"

#define MICA_DECLARE_LEVEL(level)       \
  namespace mica::kernels::cpu::level { \
  const Table& table();                 \
  }
#if defined(MICA_CPU_LEVEL)
MICA_DECLARE_LEVEL(MICA_CPU_LEVEL)
namespace mica::kernels::cpu::MICA_CPU_LEVEL {
#define KERNEL(name, parameters) void name parameters;
#include "kernels/kernels.def"
#undef KERNEL
}  // namespace mica::kernels::cpu::MICA_CPU_LEVEL
#else
MICA_DECLARE_LEVEL(baseline)
MICA_DECLARE_LEVEL(avx2)
MICA_DECLARE_LEVEL(avx512)
#endif
