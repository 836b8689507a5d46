// ProspectWorkspace: where the passes of a search keep what is not below a query's threshold, and
// the kernels between the passes. Internal to kernels/.
//
// A row is an entry of 64 bits that sorts as prospects do: the key of its limit above, the
// complement of its number below. A threshold is an entry too.
#pragma once

#include <cstdint>

#include <cuda_runtime.h>

#include "base/status.h"
#include "kernels/prospects.h"
#include "kernels/radix_select.cuh"
#include "kernels/stream.h"

namespace intarsia::kernels {

struct alignas(32) ProspectState {
  uint64_t threshold;
  uint32_t count;  // of entries not below it, kept or, above `capacity`, not
  int32_t is_complete;
  int32_t is_truncated;
};

struct ProspectWorkspace {
  ProspectLists lists;
  ProspectState* states = nullptr;  // [num_queries]
  uint64_t* entries = nullptr;      // [num_queries, capacity]
  uint32_t* lowers = nullptr;       // [num_queries, capacity], the keys of their lower ends
  uint32_t* seeds = nullptr;        // [num_queries, num_seeds], keys of lower ends; 0: none
  int32_t capacity = 0;
  int32_t num_seeds = 0;  // parts of the rows that a sample takes the highest lower end of
};

// Lays it out in `memory`, for rows in `num_parts` parts of which a sample takes some.
ProspectWorkspace MakeProspectWorkspace(const ProspectLists& lists, int64_t num_rows,
                                        int64_t num_parts, void* memory);

// Behind the sample: sets thresholds.
Status StartProspects(const ProspectWorkspace& workspace, Stream stream);
// Behind a pass: writes outcomes and lists, or raises thresholds.
Status FinishProspects(const ProspectWorkspace& workspace, Stream stream);

// What a pass asks of every row first, with a bound of its limit.
__device__ __forceinline__ float ThresholdOf(uint64_t threshold) {
  return ScoreOf(static_cast<uint32_t>(threshold >> 32));
}

// Keeps a row, unless it is below `threshold`, the query's.
__device__ __forceinline__ void AddProspect(const ProspectWorkspace& workspace, int64_t query,
                                            uint64_t threshold, int32_t row, float lower,
                                            float limit) {
  if (!(lower <= limit)) return;
  const uint64_t entry =
      uint64_t{KeyOf(limit)} << 32 | static_cast<uint32_t>(~static_cast<uint32_t>(row));
  if (entry < threshold) return;
  uint32_t* const count = &workspace.states[query].count;
  const auto capacity = static_cast<uint32_t>(workspace.capacity);
  // Beyond that it only has to be known that there are more.
  if (*const_cast<volatile uint32_t*>(count) > capacity) return;
  const uint32_t at = atomicAdd(count, 1u);
  if (at >= capacity) return;
  const int64_t index = query * workspace.capacity + at;
  workspace.entries[index] = entry;
  workspace.lowers[index] = KeyOf(lower);
}

}  // namespace intarsia::kernels
