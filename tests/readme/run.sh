#!/bin/sh
# Runs README.md's program where its relative paths resolve, and checks that it saved its model.
#   tests/readme/run.sh PROGRAM MICA_SOURCE_DIR
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
ln -s "$2/examples" "$work/examples"
cd "$work"
case $1 in *quick) echo "README.md's first program, with 1 epoch for its 10" ;; esac
"$1"
[ -s mnist.safetensors ] || {
  echo "FAILED: the program saved no mnist.safetensors" >&2
  exit 1
}
