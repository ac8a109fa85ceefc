#!/bin/sh
# Installs with apt-get what the named parts of Mica need and this machine lacks:
#   tools/install_deps.sh [build] [mnist] [fashion] [test] [bench] [asan] [tsan] [fuzz] [format] [compare] [ccache]
# It only looks at files and commands when nothing is missing. MICA_INSTALL=0 makes it say what is missing instead.
set -eu

missing=""
need() { missing="$missing $1"; }
has() { command -v "$1" >/dev/null 2>&1; }

# Whether a header is where the compiler or CMake would find it.
has_header() {
  for prefix in /usr /usr/local /opt/homebrew ${VIRTUAL_ENV:-} ${CONDA_PREFIX:-} $(echo "${CMAKE_PREFIX_PATH:-}" | tr ';:' '  '); do
    for folder in include include/eigen3 include/x86_64-linux-gnu include/aarch64-linux-gnu; do
      [ -e "$prefix/$folder/$1" ] && return 0
    done
  done
  return 1
}

# Whether clang++ links and finds a sanitizer.
clang_has() {
  echo 'int main() { return 0; }' | clang++ -x c++ "-fsanitize=$1" - -o /dev/null 2>/dev/null
}

[ $# -gt 0 ] || set -- build
for part; do
  case $part in
    build)
      has "${CXX:-c++}" || has g++ || need g++
      has cmake || need cmake
      has ninja || has ninja-build || need ninja-build
      has_header Eigen/Core || need libeigen3-dev
      has_header zlib.h || need zlib1g-dev
      has_header nlohmann/json.hpp || need nlohmann-json3-dev
      ;;
    mnist) has_header CLI/CLI.hpp || need libcli11-dev ;;
    fashion) [ -d /usr/share/datasets/fashion-mnist ] || need dataset-fashion-mnist ;;
    test)
      has_header doctest/doctest.h || need doctest-dev
      has_header zip.h || need libzip-dev # optional: .npz files
      ;;
    bench) has_header benchmark/benchmark.h || need libbenchmark-dev ;;
    asan)
      if has g++ && [ "${CXX:-g++}" = g++ ] && [ ! -e "$(g++ -print-file-name=libasan.so)" ]; then
        need "libgcc-$(g++ -dumpversion | cut -d. -f1)-dev"
      fi
      ;;
    tsan | fuzz)
      sanitizer=thread
      [ "$part" = fuzz ] && sanitizer=fuzzer-no-link,address
      if ! has clang++; then
        case "$missing " in *" clang "*) ;; *) need clang ;; esac
      elif ! clang_has $sanitizer; then
        version=$(clang++ -dumpversion | cut -d. -f1)
        need "libclang-rt-$version-dev"
      fi
      ;;
    format)
      has python3 || need python3
      has clang-format-14 || clang-format --version 2>/dev/null | grep -q 'version 14\.' || need clang-format-14 ;;
    compare) # Python.h is for what torch.compile makes
      python3 -c 'import ensurepip, venv' 2>/dev/null || need python3-venv
      python3 -c 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null || need python3-dev
      ;;
    ccache) has ccache || need ccache ;;
    *)
      echo "tools/install_deps.sh: no part '$part' (build mnist fashion test bench asan tsan fuzz format compare ccache)" >&2
      exit 2
      ;;
  esac
done
[ -n "$missing" ] || exit 0

fail() {
  echo "Mica needs$missing (names of Debian's packages). $1" >&2
  exit 1
}
[ "${MICA_INSTALL:-1}" != 0 ] || fail "MICA_INSTALL=0 is set: install them, then try again."
has apt-get || fail "There is no apt-get here: install them with your package manager, then try again."
if [ "$(id -u)" = 0 ]; then
  as_root=""
elif has sudo; then
  as_root=sudo
else
  fail "Installing them needs root, and there is no sudo: run 'apt-get install$missing' as root, then try again."
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() { $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=120 "$@" >>"$log" 2>&1; }

# What the system's own clang needs beside itself is known once it is there; older releases ship the sanitizers with it.
install() {
  available=""
  for package; do
    case $package in
      libclang-rt-*) [ -n "$(apt-cache show "$package" 2>/dev/null)" ] || continue ;;
    esac
    available="$available $package"
  done
  # shellcheck disable=SC2086
  apt install --no-install-recommends $available || {
    cat "$log" >&2
    fail "apt-get could not install them."
  }
}

echo "Installing$missing"
apt update || echo "apt-get update failed; going on with the package lists that are here" >>"$log"
# shellcheck disable=SC2086
install $missing
case " $missing " in
  *" clang "*)
    version=$(clang++ -dumpversion | cut -d. -f1)
    echo "Installing libclang-rt-$version-dev"
    install "libclang-rt-$version-dev"
    ;;
esac
