#!/bin/sh
# Configures and builds one preset of CMakePresets.json, in a line for each step; what cmake says is shown if it fails.
#   tools/build.sh PRESET [TARGET...]
# CMAKE_ARGS is passed to cmake (-DMICA_WERROR=ON), JOBS to the build.
set -eu
cd "$(dirname "$0")/.."
preset=$1
shift
targets=${*:-all}

arguments=${CMAKE_ARGS:-}
# A program can be built where what the tests need is not installed.
if [ "$targets" != all ] && ! MICA_INSTALL=0 tools/install_deps.sh test 2>/dev/null; then
  arguments="-DMICA_BUILD_TESTS=OFF $arguments"
fi
if command -v ccache >/dev/null 2>&1; then  # read by cmake when a build folder is new
  export CMAKE_CXX_COMPILER_LAUNCHER=ccache CMAKE_CUDA_COMPILER_LAUNCHER=ccache
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
echo "Configuring build/$preset"
# shellcheck disable=SC2086
cmake --preset "$preset" $arguments >"$log" 2>&1 || {
  cat "$log" >&2
  exit 1
}
echo "Building build/$preset${1:+ ($targets)}"
quiet=--quiet
[ -t 1 ] && quiet=""
# shellcheck disable=SC2086
cmake --build "build/$preset" --target $targets ${JOBS:+-j "$JOBS"} -- $quiet
