// gpu_bench: `fused` or `prefill`, and then the arguments of that benchmark.
#include "bench/end_to_end/gpu_bench.h"

#include <cstdio>
#include <string_view>

int main(int argc, char** argv) {
  const std::string_view name = argc > 1 ? argv[1] : "";
  if (name == "fused") return intarsia::bench::RunGpuFusedBench(argc - 1, argv + 1);
  if (name == "prefill") return intarsia::bench::RunGpuPrefillBench(argc - 1, argv + 1);
  std::fprintf(stderr, "usage: %s fused|prefill [--help | OPTIONS]\n", argv[0]);
  return 2;
}
