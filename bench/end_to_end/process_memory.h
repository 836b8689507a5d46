// ProcessMemory: how much memory this process has used at most, as the kernel counts it.
//
// Thread safety: functions may be called concurrently; the peak belongs to the whole process.
#pragma once

#include <cstdint>

namespace intarsia::bench {

// VmHWM: the largest resident size since the start or the last reset, in bytes; 0 where the system
// does not tell.
int64_t PeakResidentBytes();

// Gives memory that was freed back to the system, then lets the peak begin anew at the resident
// size that is left. Whoever allocates next pays for it, so not within what is timed. Without
// effect where the system refuses.
void ResetPeakResidentBytes();

// Of 10^6 bytes.
inline double Megabytes(int64_t num_bytes) { return static_cast<double>(num_bytes) / 1e6; }

}  // namespace intarsia::bench
