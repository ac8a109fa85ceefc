#!/bin/sh
# Makes the Python environment of make compare, of what requirements.txt pins: benchmarks/compare/environment.sh FOLDER
# It takes some 8 GB, once; where requirements.txt has changed since, it is made anew.
set -eu
folder=$1
requirements=$(dirname "$0")/requirements.txt
cmp -s "$requirements" "$folder/made_of.txt" && exit 0
echo "Making $folder, of $requirements (some 8 GB)"
rm -rf "$folder"
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet --disable-pip-version-check -r "$requirements"
cp "$requirements" "$folder/made_of.txt"
