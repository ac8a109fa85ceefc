#!/bin/sh
# The CPU kernels are compiled once for each instruction-set level. The linker keeps one copy of a function or variable
# that several objects define (an inline function, an instance of a template), so what an AVX object defines for all to
# see must lie in its level's own namespace: else a program on an older processor may call an AVX copy, and die.
#   tools/check_levels.sh BUILD_DIR
set -eu
build=$1
failed=0
for level in avx2 avx512; do
  objects=$(find "$build" -path "*mica_cpu_$level.dir*" -name '*.o')
  [ -n "$objects" ] || continue
  # Symbols with a type letter that the linker sees in other objects: T, D, B, R (ordinary), W, V, u (weak or unique).
  # shellcheck disable=SC2086
  strangers=$(nm -CA --defined-only $objects | grep -E ' [TDBRGSWVu] ' |
    grep -vE "mica::kernels::cpu::$level(::|$)|Eigen_$level(::|$)| DW.ref.__gxx_personality_v0$" |
    sed 's|^.*/\([^/]*\.o\):[0-9a-f]*|\1:|' || true)
  if [ -n "$strangers" ]; then
    echo "FAILED: $level objects define what other objects may define, too:" >&2
    echo "$strangers" >&2
    failed=1
  fi
  echo "$level: $(echo "$objects" | wc -l) objects"
done
exit $failed
