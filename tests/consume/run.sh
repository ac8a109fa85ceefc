#!/bin/sh
# Builds and runs the consumer project each way that Mica is used: as a part of the project and installed, static and
# shared; what is installed is moved first.
#   tests/consume/run.sh MICA_SOURCE_DIR WORK_DIR [BUILD_DIR of a static release build, to install from]
# It compiles Mica twice, or, where ccache is and a release build with the same CMAKE_ARGS was made, not at all.
set -eu
source=$(cd "$1" && pwd)
mkdir -p "$2"
work=$(cd "$2" && pwd)
static_build=${3:-}
consumer=$source/tests/consume
log=$work/log
if command -v ccache >/dev/null 2>&1; then
  export CMAKE_CXX_COMPILER_LAUNCHER=ccache CMAKE_CUDA_COMPILER_LAUNCHER=ccache
fi

quietly() {
  "$@" >"$log" 2>&1 || {
    tail -n 60 "$log" >&2
    echo "FAILED: $*" >&2
    exit 1
  }
}

passed=0
# try NAME ARGUMENT...: configure, build and run the consumer.
try() {
  name=$1
  shift
  echo "== $name"
  # shellcheck disable=SC2086
  quietly cmake -S "$consumer" -B "$work/$name" -G Ninja -DCMAKE_BUILD_TYPE=Release ${CMAKE_ARGS:-} "$@"
  quietly cmake --build "$work/$name"
  "$work/$name/consume"
  passed=$((passed + 1))
}

# Installs what lies built in $2 under $1, and moves it, since an installed package must not know where it was made.
install_from() {
  rm -rf "$1" "$1.moved"
  quietly cmake --install "$2" --prefix "$1"
  if grep -rn "$source\|$work" "$1/lib/cmake" "$1"/lib/*/cmake 2>/dev/null; then
    echo "FAILED: the installed package names the folders that it was built in" >&2
    exit 1
  fi
  mv "$1" "$1.moved"
}

# Those without CUDA, whose kernels take long to compile; what lies in BUILD_DIR has it where nvcc is.
try static_subdirectory "-DMICA_SOURCE_DIR=$source" -DBUILD_SHARED_LIBS=OFF -DMICA_INSTALL=ON -DMICA_CUDA=OFF
install_from "$work/static_prefix" "${static_build:-$work/static_subdirectory}"
try static_package "-DCMAKE_PREFIX_PATH=$work/static_prefix.moved"

try shared_subdirectory "-DMICA_SOURCE_DIR=$source" -DBUILD_SHARED_LIBS=ON -DMICA_INSTALL=ON -DMICA_CUDA=OFF
install_from "$work/shared_prefix" "$work/shared_subdirectory"
try shared_package "-DCMAKE_PREFIX_PATH=$work/shared_prefix.moved"
# What is hidden: nothing but Mica's own names may be exported.
if nm -DC --defined-only "$work/shared_prefix.moved"/lib*/libmica.so | grep ' [TBDR] ' | grep -v 'mica::\|typeinfo\|vtable'; then
  echo "FAILED: libmica.so exports the names above, which are not Mica's" >&2
  exit 1
fi
echo "consume: $passed passed, 0 failed"
