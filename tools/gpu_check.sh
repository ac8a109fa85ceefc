#!/usr/bin/env bash
# Builds Mica for this machine's GPU and checks it there: make gpu-check, or
#   tools/gpu_check.sh [build] [test] [sanitize] [bench]     all four stages unless some are named
# Works offline, with nvcc, CMake, a C++20 compiler and Python (for bench one that has PyTorch with CUDA). In the
# environment:
#   MICA_DEPS     a folder with the headers that this machine lacks (tools/unpack_deps.sh makes one)
#   MICA_OUT      where gpu_check.log and gpu.md go (build/gpu/report)
#   PYTHON        the Python that has PyTorch (python3)
#   STAGE_LIMIT   seconds that a stage may take (480)
# Goes on after a failed stage; the exit status is 1 if any failed.
set -uo pipefail
deps=""
if [ -n "${MICA_DEPS:-}" ]; then
  deps=$(cd "$MICA_DEPS/usr" 2>/dev/null && pwd) || {
    echo "gpu_check: MICA_DEPS, $MICA_DEPS, is no folder of unpack_deps.sh" >&2
    exit 2
  }
fi
cd "$(dirname "$0")/.."

folder=build/gpu
out=${MICA_OUT:-$folder/report}
python=${PYTHON:-python3}
limit=${STAGE_LIMIT:-480}
mkdir -p "$out"
log=$out/gpu_check.log
: >"$log"

say() { echo "$*" | tee -a "$log"; }
# What is left of the stage's time, at least a second.
left() { echo $((stage_end > SECONDS ? stage_end - SECONDS : 1)); }
# limited NAME COMMAND...: runs within the stage's time; its output goes to the log, a line to the terminal.
limited() {
  local name=$1 begin=$SECONDS status=0
  shift
  timeout -k 5 "$(left)" "$@" >"$folder/output" 2>&1 || status=$?
  { echo "---- $name"; cat "$folder/output"; } >>"$log"
  if [ $status = 0 ]; then
    say "  $name: passed, $((SECONDS - begin)) s"
  elif [ $status = 124 ] || [ $status = 137 ]; then
    say "  $name: NOT FINISHED in $((SECONDS - begin)) s (STAGE_LIMIT=$((2 * limit)) gives it longer)"
  else
    say "  $name: FAILED ($status), $((SECONDS - begin)) s"
    tail -n 25 "$folder/output"
  fi
  return $status
}

stage_build() {
  local arch found generator=()
  found=$(cmake --version 2>/dev/null | sed -n 's/^cmake version //p')
  if [ "$(printf '%s\n' 3.24 "${found:-0}" | sort -V | head -n 1)" != 3.24 ]; then
    say "  CMake 3.24 or newer is needed, and here is ${found:-none}: pip install cmake"
    return 1
  fi
  # It says on standard output, too, what is wrong with it.
  arch=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | grep -xE '[0-9]+\.[0-9]+' | head -n 1 |
    tr -d .)
  [ -n "$arch" ] || { say "  no GPU: nvidia-smi names none; building for sm_90"; arch=90; }
  command -v ninja >/dev/null && generator=(-G Ninja)
  limited configure cmake -S . -B $folder ${generator[@]+"${generator[@]}"} ${deps:+"-DCMAKE_PREFIX_PATH=$deps"} \
    -DCMAKE_BUILD_TYPE=Release -DMICA_CUDA=ON -DMICA_CUDA_ARCHITECTURES="$arch" -DCMAKE_CUDA_FLAGS=-lineinfo \
    -DMICA_LIBZIP=OFF -DMICA_BUILD_TESTS=ON -DMICA_BUILD_EXAMPLES=ON -DMICA_DEVICE_BENCHMARKS=ON || return
  limited compile cmake --build $folder --target mica_tests mnist mica_device -j "$(nproc)"
}

tests() { env MICA_TEST_DEVICE=cuda $folder/tests/mica_tests "$@"; }
export -f tests
export folder
one_test=(env MICA_TEST_DEVICE=cuda $folder/tests/mica_tests --test-case="the default device is where*")

stage_test() {
  local failed=0
  limited "a GPU can be used" "${one_test[@]}" ||
    return
  limited "the tests, on the CPU and each device" $folder/tests/mica_tests || failed=1
  limited "the tests of ops, autograd and optimizers with the GPU as default device" bash -c 'tests \
    --source-file="*/tests/ops/*,*/tests/autograd/*,*/tests/optim/*"' || failed=1
  limited "the tests of layers and models with the GPU as default device" bash -c 'tests \
    --source-file="*/tests/nn/*"' || failed=1
  limited "MNIST: the same accuracy as on the CPU, three seeds" "$python" tools/gpu_accuracy.py $folder/examples/mnist ||
    failed=1
  grep -h '^mnist' "$folder/output" | tee -a "$log"
  return $failed
}

# sanitize_one TOOL.FAMILY END: a tool over the op tests of a family, until the second END; the file's last line is the
# status. Blocks of memory are the driver's own, so that each access beyond one is seen.
sanitize_one() {
  local tool=${1%%.*} family=${1#*.} left=$(($2 - $(date +%s))) status=124
  if [ $left -gt 0 ]; then
    status=0
    MICA_CUDA_CACHE=0 MICA_TEST_DEVICE=cuda timeout -k 5 $left compute-sanitizer --tool "$tool" --error-exitcode 9 \
      $folder/tests/mica_tests --source-file="*/tests/ops/${family}_test.cpp" >"$folder/sanitize.$1" 2>&1 || status=$?
  fi
  printf '\n%s\n' $status >>"$folder/sanitize.$1"
}
export -f sanitize_one

# Each tool over the op tests, a family of them a process; many at once, since each keeps a core busy, but no more than
# share a GPU well. Those that find most, and the families that take long, come first.
stage_sanitize() {
  local tool file failed=0 names=() at_once
  at_once=$(($(nproc) < 16 ? $(nproc) : 16))
  command -v compute-sanitizer >/dev/null || PATH=$PATH:/usr/local/cuda/bin
  command -v compute-sanitizer >/dev/null || { say "  compute-sanitizer was not found"; return 1; }
  limited "compute-sanitizer runs here" compute-sanitizer --target-processes all --error-exitcode 9 "${one_test[@]}" ||
    return
  rm -f $folder/sanitize.*
  for tool in memcheck racecheck initcheck synccheck; do
    for file in tests/ops/{conv,pool,attention,matmul}_test.cpp \
      $(ls tests/ops/*_test.cpp | grep -vE '/(conv|pool|attention|matmul)_'); do
      names+=("$tool.$(basename "$file" _test.cpp)")
    done
  done
  printf '%s\n' "${names[@]}" | xargs -P "$at_once" -I{} bash -c 'sanitize_one "$@"' _ {} $(($(date +%s) + $(left)))
  for tool in memcheck racecheck initcheck synccheck; do
    local passed=0 unfinished="" wrong=""
    for file in $folder/sanitize.$tool.*; do
      case $(tail -n 1 "$file") in
        0) passed=$((passed + 1)) ;;
        124 | 137) unfinished="$unfinished ${file##*.}" ;;
        *) wrong="$wrong ${file##*.}"; { echo "---- $file"; tail -n 60 "$file"; } >>"$log" ;;
      esac
    done
    say "  $tool: $passed families of ops passed${unfinished:+; NOT FINISHED:$unfinished}${wrong:+; FAILED:$wrong}"
    [ -z "$wrong$unfinished" ] || failed=1
  done
  return $failed
}

stage_bench() {
  local failed=0
  rm -f $folder/mica.json $folder/pytorch.json
  limited "Mica" $folder/benchmarks/device/mica_device --json $folder/mica.json || return
  if "$python" -c 'import torch' 2>/dev/null; then
    limited "PyTorch" "$python" benchmarks/device/pytorch.py $folder/pytorch.json || failed=1
  else
    say "  PyTorch: skipped, since $python has none: the table has Mica alone"
  fi
  "$python" benchmarks/device/table.py $folder/mica.json $folder/pytorch.json | tee "$out/gpu.md" || failed=1
  return $failed
}

stages=${*:-build test sanitize bench}
for stage in $stages; do
  case $stage in build | test | sanitize | bench) ;; *) echo "gpu_check: there is no stage $stage" >&2; exit 2 ;; esac
done
failed=""
for stage in $stages; do
  stage_begin=$SECONDS stage_end=$((SECONDS + limit))
  mkdir -p $folder
  say "$stage"
  stage_"$stage" || failed="$failed $stage"
  say "  $((SECONDS - stage_begin)) s in all"
  [ "$failed" != " build" ] || break
done
say "All output: $log$([ -s "$out/gpu.md" ] && echo "; speeds: $out/gpu.md")"
say "${failed:+FAILED in:$failed}"
[ -z "$failed" ] && say "all passed"
