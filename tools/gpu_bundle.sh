#!/usr/bin/env bash
# Puts the tests and benchmarks of a CUDA build into one folder that runs on a machine with nothing
# but a driver and the CUDA toolkit: stripped programs, and in lib/ each shared library that is
# neither the system's nor CUDA's, which the programs find by their rpath $ORIGIN/lib.
#
# Usage: tools/gpu_bundle.sh BUILD_FOLDER TARGET_FOLDER
set -euo pipefail

# 40 of them are oneDNN, which the tests compare with.
readonly MEGABYTES_MAX=60
# glibc, the compiler's run time, which nvcc needs too, and CUDA.
readonly C_LIBRARY='linux-vdso|ld-linux|lib(c|m|dl|rt|pthread|resolv|stdc\+\+|gcc_s)\.so'
readonly NOT_OURS="^($C_LIBRARY|lib(cuda|cudart|cublas|cublasLt)\.so)"

if [[ $# -ne 2 ]]; then
  echo "usage: tools/gpu_bundle.sh BUILD_FOLDER TARGET_FOLDER" >&2
  exit 2
fi
readonly build=$1 target=$2

programs=("$build"/bin/gpu_tests "$build"/bin/gpu_kernel_benches "$build"/bin/end_to_end_gpu_bench)
for program in "${programs[@]}"; do
  if [[ ! -x $program ]]; then
    echo "gpu_bundle: no $program; make gpu-bundle builds it" >&2
    exit 1
  fi
done

rm -rf "$target"
mkdir -p "$target/lib"
for program in "${programs[@]}"; do
  strip -s -o "$target/$(basename "$program")" "$program"
  # name => path (address)
  ldd "$program" | awk '$2 == "=>" && $3 ~ /^\// { print $1, $3 }' | while read -r name path; do
    if [[ ! $name =~ $NOT_OURS ]]; then cp -L -n "$path" "$target/lib/$name"; fi
  done
done

# Each benchmark of that program by its own name.
for bench in fused prefill; do
  script=$target/end_to_end_gpu_${bench}_bench
  # shellcheck disable=SC2016
  printf '#!/bin/sh\nexec "$(dirname "$0")/end_to_end_gpu_bench" %s "$@"\n' "$bench" > "$script"
  chmod +x "$script"
done

megabytes=$(du -sm "$target" | cut -f1)
echo "gpu_bundle: ${#programs[@]} programs, $megabytes MB in $target"
if ((megabytes > MEGABYTES_MAX)); then
  echo "gpu_bundle: more than $MEGABYTES_MAX MB" >&2
  exit 1
fi
