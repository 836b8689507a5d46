#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "kernels/select_rows.h"

namespace intarsia::kernels {

Status CheckSelectRows(const SelectRowsParams& params) {
  std::string wrong;
  if (params.num_candidates < 0 || params.count < 0 || params.count > params.num_candidates) {
    wrong = "a size is out of range";
  } else if (params.num_candidates > 0 &&
             (params.scores == nullptr || params.candidates == nullptr || params.rows == nullptr)) {
    wrong = "a pointer is null";
  }
  if (wrong.empty()) return Status::Ok();
  return {StatusCode::kInvalidArgument,
          "select_rows: " + wrong + ": candidates=" + std::to_string(params.num_candidates) +
              " count=" + std::to_string(params.count)};
}

Status SelectRowsReference(const SelectRowsParams& params) {
  INTARSIA_RETURN_IF_ERROR(CheckSelectRows(params));
  std::vector<int32_t> rows;
  std::vector<int32_t> others;
  for (int32_t i = 0; i < params.num_candidates; ++i) {
    const bool is_taken = params.is_taken != nullptr && params.is_taken[i] != 0;
    (is_taken ? rows : others).push_back(params.candidates[i]);
  }
  const auto score_of = [&](int32_t position) {
    const float score = params.scores[position];
    return std::isnan(score) ? -std::numeric_limits<double>::max() * 2.0 : double{score};
  };
  const auto rank_of = [&](int32_t position) {
    return std::isnan(params.scores[position]) ? 0 : 1;
  };
  std::stable_sort(others.begin(), others.end(), [&](int32_t a, int32_t b) {
    return rank_of(a) != rank_of(b) ? rank_of(a) > rank_of(b) : score_of(a) > score_of(b);
  });
  const size_t count = std::min(others.size(), static_cast<size_t>(params.count));
  rows.insert(rows.end(), others.begin(), others.begin() + static_cast<std::ptrdiff_t>(count));
  std::sort(rows.begin(), rows.end());
  std::copy(rows.begin(), rows.end(), params.rows);
  return Status::Ok();
}

}  // namespace intarsia::kernels
