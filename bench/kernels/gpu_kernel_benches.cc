// gpu_kernel_benches: all benchmarks of kernels on a device in one program, for make gpu-bundle.
//
// Each family has counters of its own, and Google Benchmark ends a program whose benchmarks have
// different ones when it writes them as CSV, after it has measured all. So that is refused before
// anything is measured.
#include <cstdio>
#include <span>
#include <string_view>

#include <benchmark/benchmark.h>

namespace intarsia::bench {
namespace {

bool AsksForCsv(std::string_view argument) {
  return argument == "--benchmark_format=csv" || argument == "--benchmark_out_format=csv";
}

int Main(int argc, char** argv) {
  for (const char* const argument : std::span(argv, static_cast<size_t>(argc))) {
    if (!AsksForCsv(argument)) continue;
    std::fprintf(stderr,
                 "gpu_kernel_benches: %s needs the same counters of all benchmarks, and these have "
                 "their own; ask for json\n",
                 argument);
    return 1;
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}

}  // namespace
}  // namespace intarsia::bench

int main(int argc, char** argv) { return intarsia::bench::Main(argc, argv); }
