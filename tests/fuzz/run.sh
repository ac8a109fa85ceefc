#!/bin/sh
# Runs each fuzz target of a build folder, two at a time:
#   tests/fuzz/run.sh BUILD_DIR SECONDS [TARGET...]
# What they learn is kept in BUILD_DIR/corpus; an input that is a finding is put into BUILD_DIR/findings and named.
set -eu
build=$1
seconds=$2
shift 2
here=$(dirname "$0")
if [ $# = 0 ]; then
  for program in "$build"/tests/fuzz/mica_fuzz_*; do
    [ -x "$program" ] && [ "${program##*_fuzz_}" != seeds ] && set -- "$@" "${program##*_fuzz_}"
  done
fi
mkdir -p "$build/corpus" "$build/findings"
"$build/tests/fuzz/mica_fuzz_seeds" "$build/seeds"

# One target; its output goes to a log, and the line of it that says how much was tried, to the terminal.
run() {
  target=$1
  log=$build/findings/$target.log
  mkdir -p "$build/corpus/$target" "$build/seeds/$target"
  golden=""
  case $target in npy | npz) golden=$here/../golden/npy ;; esac
  dictionary=""
  [ -e "$here/$target.dict" ] && dictionary=-dict=$here/$target.dict
  # A file of 8 KiB may ask for some MiB: gzip packs 1,032 bytes into one.
  # shellcheck disable=SC2086
  if "$build/tests/fuzz/mica_fuzz_$target" -max_total_time="$seconds" -timeout=5 -rss_limit_mb=1024 -malloc_limit_mb=64 \
    -max_len=8192 -print_final_stats=1 $dictionary -artifact_prefix="$build/findings/$target-" "$build/corpus/$target" \
    "$build/seeds/$target" $golden >"$log" 2>&1; then
    echo "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs, no finding"
  else
    tail -n 40 "$log" >&2
    echo "$target: A FINDING" >&2
    return 1
  fi
}

failed=0
while [ $# -gt 0 ]; do
  run "$1" &
  first=$!
  shift
  if [ $# -gt 0 ]; then
    run "$1" || failed=1
    shift
  fi
  wait $first || failed=1
done
exit $failed
