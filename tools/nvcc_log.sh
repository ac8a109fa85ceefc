#!/bin/sh
# A compiler launcher: runs nvcc and keeps what ptxas -v says of each kernel in <object>.ptxas, for tools/cuda_budget.py,
# instead of showing it. ccache repeats it for what it has.
object=
previous=
for argument; do
  [ "$previous" = -o ] && object=$argument
  previous=$argument
done
[ -n "$object" ] || exec "$@"

log=$object.ptxas
"$@" 2>"$log.all"
status=$?
grep -E '^ptxas info|^ *[0-9]+ bytes stack frame' "$log.all" >"$log"
grep -vE '^ptxas info|^ *[0-9]+ bytes stack frame' "$log.all" >&2
rm -f "$log.all"
exit $status
