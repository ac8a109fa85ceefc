#!/usr/bin/env bash
# Kills a training (SIGKILL) at random moments and runs it again until it ends, over and over: each time there must be a
# checkpoint that loads, and the end must be that of a training that was never killed, to the byte: weights, optimizer
# state, history and log.
#   tests/resume/kills.sh TRAIN_PROGRAM KILLS
set -euo pipefail
train=$1
kills=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

begin=$(date +%s%N)
whole=$("$train" "$work/whole")
milliseconds=$((($(date +%s%N) - begin) / 1000000))
last=$(basename "$(ls "$work"/whole/*.safetensors | tail -1)")

killed=0
ended=0
resumed=0
while [ "$killed" -lt "$kills" ]; do
  run=$work/run$ended
  "$train" "$run" >"$work/out" &
  sleep "$(awk -v s="$RANDOM" -v ms="$milliseconds" 'BEGIN { printf "%.3f", s / 32768 * ms / 1500 }')"
  kill -9 $! 2>/dev/null || true
  status=0
  wait $! 2>/dev/null || status=$?
  if [ "$status" = 137 ]; then
    killed=$((killed + 1))
    continue
  fi
  [ "$status" = 0 ] || { echo "after $killed kills the training failed with $status"; exit 1; }
  [ "$(cat "$work/out")" = "$whole" ] || resumed=$((resumed + 1))
  cmp "$work/whole/$last" "$run/$last"
  cmp "$work/whole.csv" "$run.csv"
  cmp "$work/whole.safetensors" "$run.safetensors"
  rm -rf "$run"
  ended=$((ended + 1))
done
"$train" "$work/run$ended" >"$work/out"
[ "$(cat "$work/out")" = "$whole" ] || resumed=$((resumed + 1))
cmp "$work/whole/$last" "$work/run$ended/$last"
cmp "$work/whole.safetensors" "$work/run$ended.safetensors"
echo "$killed kills, $((ended + 1)) trainings ended as the one that was never killed, $resumed of them having gone on"
[ "$resumed" -gt 0 ]
