#!/usr/bin/env bash
# Runs the GPU tests under the four tools of compute-sanitizer and prints a table: a line for each
# suite, with how many of its pieces ended and what was found in our own kernels (and in those of
# libraries, in parentheses). A piece is a part of a suite that ends within its own time limit;
# pieces run side by side, as many as there are cores and 16 GiB of memory for, because racecheck
# of replayed graphs may take 50 GiB, and what finds none is killed. Sizes are small, as
# tests/kernels/device_test.h has it, because a kernel takes up to a thousand times as long. All
# kernels are instrumented: with some left out, initcheck misses what these wrote, and racecheck
# ends in those of the library.
#
# Usage: tools/gpu_sanitize.sh GPU_TESTS LOG_FOLDER [SECONDS_OF_A_PIECE [TOOL...]]
set -euo pipefail

# Whole models from files, and what needs no device.
readonly NOT_SANITIZED='*RealModel*'
readonly SUITES_LEFT_OUT='ParityCudaTest|DeviceAbsenceTest|RandomWeightsTest'
readonly SIZE_MAX=400

if [[ $# -lt 2 ]]; then
  echo "usage: tools/gpu_sanitize.sh GPU_TESTS LOG_FOLDER [SECONDS_OF_A_PIECE [TOOL...]]" >&2
  exit 2
fi
readonly program=$1 folder=$2 seconds=${3:-100}
shift $(($# < 3 ? $# : 3))
tools=("$@")
[[ ${#tools[@]} -gt 0 ]] || tools=(racecheck initcheck memcheck synccheck)
sanitizer=$(PATH=$PATH:/usr/local/cuda/bin command -v compute-sanitizer || true)
if [[ -z $sanitizer ]]; then
  echo "gpu_sanitize: no compute-sanitizer; it comes with the CUDA toolkit" >&2
  exit 1
fi
mkdir -p "$folder"

# How many pieces a suite is cut into: those of many cases, or of whole passes.
pieces_of() {
  case $1 in
    *AttentionRowsCudaTest.) echo 12 ;;
    *FusedPrefillCuda*Test. | *TransformerCudaTest.) echo 7 ;;
    *AttentionMassCudaTest. | *DeviceBackendCuda*Test. | DecoderCudaTest.) echo 4 ;;
    SelectRowsCudaTest. | SampleRowsCudaTest. | BinaryScanCudaTest. | BinaryBatchScanCudaTest.)
      echo 3 ;;
    *) echo 1 ;;
  esac
}

# run_piece TOOL SUITE PIECE PIECES: leaves a log and a line "tool suite result ours all".
run_piece() {
  local log status=0 result=ended found ours
  log=$folder/$1_${2//[^A-Za-z0-9]/_}_$3
  GTEST_SHARD_INDEX=$3 GTEST_TOTAL_SHARDS=$4 INTARSIA_TEST_SIZE_MAX=$SIZE_MAX \
    timeout -s KILL "$seconds" "$sanitizer" --tool "$1" --report-api-errors no \
    --print-limit 100000 "$program" --gtest_filter="$2*-$NOT_SANITIZED" \
    > "$log.log" 2>&1 || status=$?
  # ERROR SUMMARY: 3 errors, or RACECHECK SUMMARY: 3 hazards displayed (2 errors, 1 warnings)
  found=$(sed -nE 's/^=+ (ERROR|RACECHECK) SUMMARY: ([0-9]+) .*/\2/p' "$log.log" | tail -1)
  # Blank lines separate reports; those of a stripped program name kernels only where they ran.
  ours=$(awk '/^=+ *$/ { count += is_ours; is_ours = 0 }
    /^=+/ && !/Host Frame/ && /intarsia::/ { is_ours = 1 }
    END { print count + is_ours }' "$log.log")
  if grep -q '^\[=*\] Running 0 tests' "$log.log"; then return; fi
  if [[ -z $found ]]; then
    result=$([[ $status -eq 137 ]] && echo late || echo broken)
  elif grep -q "process didn't terminate successfully" "$log.log"; then
    result=killed
  elif ! grep -q '^\[  PASSED  \]' "$log.log" || grep -q '^\[  FAILED  \]' "$log.log"; then
    result=failed
  fi
  echo "$1 $2 $result $ours ${found:-0}" > "$log.result"
}
export -f run_piece
export folder seconds sanitizer program NOT_SANITIZED SIZE_MAX

rm -f "$folder"/*.result "$folder"/*.log
mapfile -t suites < <("$program" --gtest_list_tests | \
  awk -v out="$SUITES_LEFT_OUT" '/^[^ ].*\.( |$)/ && $1 !~ out { print $1 }')
if [[ ${#suites[@]} -eq 0 ]]; then
  echo "gpu_sanitize: no tests in $program" >&2
  exit 1
fi
memory_gib=$(awk '/^MemTotal/ { print int($2 / 1048576) }' /proc/meminfo)
jobs=$((memory_gib / 16 < 1 ? 1 : memory_gib / 16 < $(nproc) ? memory_gib / 16 : $(nproc)))
for tool in "${tools[@]}"; do
  for suite in "${suites[@]}"; do
    pieces=$(pieces_of "$suite")
    for ((piece = 0; piece < pieces; ++piece)); do echo "$tool $suite $piece $pieces"; done
  done
done | xargs -P "$jobs" -L 1 bash -c 'run_piece "$@"' run_piece

cat "$folder"/*.result | awk -v tools="${tools[*]}" '
  { key = $2 SUBSEP $1; suites[$2]; ++pieces[key]; ++results[key, $3]
    ours[key] += $4; all[key] += $5
    if ($3 != "ended" || $4 > 0) bad = 1 }
  END {
    count = split(tools, tool, " ")
    line = sprintf("%-44s", "suite")
    for (i = 1; i <= count; ++i) line = line sprintf(" %-22s", tool[i])
    print line
    for (suite in suites) {
      line = sprintf("%-44s", suite)
      for (i = 1; i <= count; ++i) {
        key = suite SUBSEP tool[i]
        cell = (results[key, "ended"] + 0) "/" pieces[key] " found " (ours[key] + 0)
        if (all[key] > ours[key]) cell = cell " (" all[key] - ours[key] ")"
        if (results[key, "late"]) cell = cell " late " results[key, "late"]
        if (results[key, "killed"]) cell = cell " killed " results[key, "killed"]
        if (results[key, "failed"]) cell = cell " failed " results[key, "failed"]
        if (results[key, "broken"]) cell = cell " broken " results[key, "broken"]
        line = line sprintf(" %-22s", cell)
      }
      print line | "sort"
    }
    close("sort")
    exit bad
  }'
