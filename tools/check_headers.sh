#!/bin/sh
# No public header includes Eigen, OpenMP, CUDA or another dependency, nor a standard header that is slow to compile.
# mica/eigen.h, the opt-in bridge, is the one exception.
#   tools/check_headers.sh [COMPILER]
set -eu
cd "$(dirname "$0")/.."
compiler=${1:-c++}
failed=0

# What they name, and, preprocessed, what they bring along.
headers=$(find include/mica -name '*.h' ! -path include/mica/eigen.h)
# shellcheck disable=SC2086
if grep -nE '#\s*include\s*<(functional|chrono|thread|filesystem|iostream|regex|future)>' $headers; then
  echo "FAILED: the public headers stay free of the standard headers above, which are slow to compile" >&2
  failed=1
fi
everything=$(mktemp)
trap 'rm -f "$everything"' EXIT
for header in $headers; do echo "#include \"${header#include/}\""; done >"$everything"
if "$compiler" -std=c++20 -Iinclude -M -x c++ "$everything" | tr -s ' \\' '\n\n' |
  grep -E '/(Eigen|unsupported|nlohmann|cub|thrust|cuda)/|/(omp|zlib|cuda_runtime[a-z_]*|cuda)\.h$'; then
  echo "FAILED: a public header includes the files above, which are dependencies of Mica's inside" >&2
  failed=1
fi
[ $failed = 0 ] && echo "$(echo "$headers" | wc -l) headers include nothing that they should not"
exit $failed
