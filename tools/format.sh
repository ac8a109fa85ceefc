#!/bin/sh
# Formats the sources as .clang-format says; with --check only says which are not formatted, and fails.
set -eu
cd "$(dirname "$0")/.."
# Releases of clang-format differ in what they do; 14 is Debian 12's.
for tool in "${CLANG_FORMAT:-}" clang-format-14 clang-format; do
  if [ -n "$tool" ] && "$tool" --version 2>/dev/null | grep -q 'version 14\.'; then
    found=$tool
    break
  fi
done
if [ -z "${found:-}" ]; then
  echo "clang-format 14 is needed: apt-get install clang-format-14, or pip install clang-format==14.0.6" >&2
  exit 1
fi

list=$(mktemp)
trap 'rm -f "$list"' EXIT
folders=""
for folder in include src cuda examples tests benchmarks; do
  [ -d "$folder" ] && folders="$folders $folder"
done
# shellcheck disable=SC2086
find $folders -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' | sort >"$list"
if [ "${1:-}" != --check ]; then
  xargs "$found" -i <"$list"
  exit
fi

failed=0
xargs "$found" --dry-run -Werror --ferror-limit=1 <"$list" || failed=1
# Comments are not reflowed, so they may be too long.
if LC_ALL=C.UTF-8 xargs grep -nHE '.{121}' <"$list" | grep '//'; then
  echo "The comments above are longer than 120 characters" >&2
  failed=1
fi
if [ $failed = 0 ]; then
  echo "$(wc -l <"$list") files are formatted"
else
  echo "Not formatted: make format does it (long comments are yours to break)" >&2
fi
exit $failed
