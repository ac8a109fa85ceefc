#!/bin/sh
# Unpacks, without installing them, the packages whose headers Mica's tests and benchmarks need into a folder that can be
# carried to a machine where nothing can be fetched (tools/gpu_check.sh, MICA_DEPS):
#   tools/unpack_deps.sh FOLDER
set -eu
folder=${1:?usage: tools/unpack_deps.sh FOLDER}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
packages=$(mktemp -d)
trap 'rm -rf "$packages"' EXIT
chmod 755 "$packages"
(cd "$packages" && apt-get -q download libeigen3-dev nlohmann-json3-dev libcli11-dev doctest-dev zlib1g-dev >/dev/null)
for package in "$packages"/*.deb; do dpkg -x "$package" "$folder"; done
rm -rf "$folder/usr/share/doc" "$folder/usr/share/man"
# The shared library of zlib is not among them: the static one is what is linked.
find "$folder" -xtype l -delete
# A package that names /usr outright is found from where it lies instead.
find "$folder/usr/lib/cmake" -name '*.cmake' -exec sed -i \
  's:set(_IMPORT_PREFIX "*/usr"*):set(_IMPORT_PREFIX "${CMAKE_CURRENT_LIST_DIR}/../../.."):' {} +
du -sh "$folder" | cut -f1
