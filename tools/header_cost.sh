#!/bin/sh
# What `#include <mica/mica.h>` costs a file over the standard headers that it needs: the processor time of the compiler's
# front end, the best of several turns taken alternately. Fails where it is more than 1.25 times that of the standard
# headers (it is 1.0 on a quiet machine, half a second): a ratio, since machines differ and have neighbours.
#   tools/header_cost.sh [COMPILER] [LIMIT, of what the standard headers cost]
set -eu
cd "$(dirname "$0")/.."
compiler=${1:-c++}
limit=${2:-1.25}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo '#include <mica/mica.h>' >"$work/mica.cpp"
# The standard headers that Mica's own files name.
"$compiler" -std=c++20 -Iinclude -M "$work/mica.cpp" | tr -s ' \\' '\n\n' | grep '^include/mica/' | sort -u |
  xargs grep -hoE '^#include <[a-z_./0-9]+>' | sort -u >"$work/standard.cpp"

# The user time of one compilation, in milliseconds.
user_time() {
  ( "$compiler" -std=c++20 -Iinclude -fsyntax-only "$1" && times ) >"$work/times"
  # The second line holds the children's times, as 0m0.51s 0m0.04s.
  awk 'NR == 2 { split($1, t, /[ms]/); printf "%d\n", (t[1] * 60 + t[2]) * 1000 }' "$work/times"
}

turns="1 2 3 4 5"
mica=1000000 standard=1000000
for _ in $turns; do
  time=$(user_time "$work/mica.cpp")
  [ "$time" -lt "$mica" ] && mica=$time
  time=$(user_time "$work/standard.cpp")
  [ "$time" -lt "$standard" ] && standard=$time
done
awk -v mica="$mica" -v standard="$standard" -v limit="$limit" 'BEGIN {
  ratio = (mica - standard) / standard
  printf "mica/mica.h %.2f s, its standard headers %.2f s: Mica costs %.2f times as much more (the limit is %s)\n", mica / 1000, standard / 1000, ratio, limit
  exit ratio > limit
}'
