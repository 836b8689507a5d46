// Prospects: what a scan of estimates on a device keeps for each query, without a score a row.
//
// An estimate comes with an interval [lower, limit] that the true score lies in. With `floor` the
// k-th best of the lower ends (-inf with fewer rows), the prospects are the rows whose limit is not
// below it: no other row can be among the k best. They do not depend on the order of the scan. Of
// more than `candidates_max` those with the highest limits are kept, of equal ones the lower rows.
// A row whose ends are not numbers in order is none.
//
// A pass over the rows keeps what is not below a threshold, which is a sample's `floor` at first.
// If that is more than the workspace holds, the pass has only raised the threshold, and another one
// has to follow: each finds fewer, typically by the factor that the workspace was too small. Zeros
// count as equal, so an interval's end is never -0.
//
// Thread safety: a ProspectLists is a view.
#pragma once

#include <cstdint>
#include <vector>

#include "base/status.h"

namespace intarsia::kernels {

inline constexpr int64_t kProspectCandidatesMax = int64_t{1} << 20;
inline constexpr int64_t kProspectQueriesMax = 1'024;

struct ProspectOutcome {
  int32_t num_prospects = 0;  // in the lists
  int32_t is_complete = 0;    // 0: another pass has to follow, and there are no lists yet
  int32_t is_truncated = 0;   // 1: candidates_max has left out some with lower limits
  int32_t reserved = 0;
};

struct ProspectLists {
  int64_t num_queries = 1;              // in [0, kProspectQueriesMax]
  int64_t k = 10;                       // in [1, candidates_max]
  int64_t candidates_max = 1'024;       // in [1, kProspectCandidatesMax]
  ProspectOutcome* outcomes = nullptr;  // [num_queries]
  int32_t* rows = nullptr;              // [num_queries, candidates_max], in no order
  float* limits = nullptr;              // [num_queries, candidates_max], of these rows
};

// Whether a pass starts a search, or follows one that has left a query incomplete. It then does
// nothing for queries that are complete.
enum class ProspectPass : uint8_t { kFirst = 0, kNext = 1 };

// kInvalidArgument for a null pointer or a number out of range.
Status CheckProspectLists(const ProspectLists& lists);

// What passes over any number of rows need on the device, in bytes, a multiple of 256. Only builds
// with INTARSIA_CUDA define it.
int64_t ProspectWorkspaceBytes(const ProspectLists& lists);

// The definition, for one query: what is left of rows with these intervals, in the order of limits
// and rows. Writes outcome, rows and limits of query `query` of `lists`.
struct ProspectInterval {
  int32_t row = 0;
  float lower = 0.0F;
  float limit = 0.0F;
};
void KeepProspectsReference(std::vector<ProspectInterval> intervals, int64_t query,
                            const ProspectLists& lists);

}  // namespace intarsia::kernels
