// Bound and design: none; this is the definition.
#include <algorithm>
#include <functional>
#include <limits>
#include <string>

#include "kernels/prospects.h"

namespace intarsia::kernels {

Status CheckProspectLists(const ProspectLists& lists) {
  if (lists.num_queries < 0 || lists.num_queries > kProspectQueriesMax ||
      lists.candidates_max < 1 || lists.candidates_max > kProspectCandidatesMax || lists.k < 1 ||
      lists.k > lists.candidates_max) {
    return Status(StatusCode::kInvalidArgument,
                  "prospects: number out of range: num_queries=" +
                      std::to_string(lists.num_queries) + " k=" + std::to_string(lists.k) +
                      " candidates_max=" + std::to_string(lists.candidates_max));
  }
  if (lists.num_queries > 0 &&
      (lists.outcomes == nullptr || lists.rows == nullptr || lists.limits == nullptr)) {
    return Status(StatusCode::kInvalidArgument, "prospects: null pointer");
  }
  return Status::Ok();
}

void KeepProspectsReference(std::vector<ProspectInterval> intervals, int64_t query,
                            const ProspectLists& lists) {
  std::erase_if(intervals,
                [](const ProspectInterval& one) { return !(one.lower <= one.limit); });
  if (std::ssize(intervals) >= lists.k) {
    std::vector<float> lowers;
    for (const ProspectInterval& one : intervals) lowers.push_back(one.lower);
    const auto kth = lowers.begin() + static_cast<std::ptrdiff_t>(lists.k - 1);
    std::nth_element(lowers.begin(), kth, lowers.end(), std::greater<>());
    std::erase_if(intervals,
                  [floor = *kth](const ProspectInterval& one) { return one.limit < floor; });
  }
  std::sort(intervals.begin(), intervals.end(),
            [](const ProspectInterval& a, const ProspectInterval& b) {
              return a.limit > b.limit || (a.limit == b.limit && a.row < b.row);
            });
  const int64_t count = std::min<int64_t>(std::ssize(intervals), lists.candidates_max);
  lists.outcomes[query] = {.num_prospects = static_cast<int32_t>(count),
                           .is_complete = 1,
                           .is_truncated = count < std::ssize(intervals) ? 1 : 0};
  for (int64_t i = 0; i < count; ++i) {
    const ProspectInterval& one = intervals[static_cast<size_t>(i)];
    lists.rows[query * lists.candidates_max + i] = one.row;
    lists.limits[query * lists.candidates_max + i] = one.limit + 0.0F;  // -0 becomes 0
  }
}

}  // namespace intarsia::kernels
