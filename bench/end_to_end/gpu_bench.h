// The benchmarks of whole models on a device, which share a program because each brings the engine
// and all kernels with it.
//
// Thread safety: owned by one thread.
#pragma once

namespace intarsia::bench {

// Each takes the arguments of a main function, prints tables and returns an exit status.
int RunGpuFusedBench(int argc, char** argv);
int RunGpuPrefillBench(int argc, char** argv);

}  // namespace intarsia::bench
