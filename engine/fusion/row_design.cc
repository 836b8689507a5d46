#include "engine/fusion/row_design.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <utility>

#include "base/aligned_array.h"
#include "base/check.h"
#include "engine/fusion/propagation.h"
#include "kernels/condition_covariance.h"

namespace intarsia::engine {
namespace {

// Added to every weight, as a share of their mean: later layers and later tokens look elsewhere
// than what the weights were measured with.
constexpr float kFloorShare = 0.3f;

struct Pick {
  float worth = 0.0f;
  int32_t position = 0;
};

// The picks of one chunk, in order.
class ChunkDesign {
 public:
  ChunkDesign(std::span<const int32_t> candidates, const RowDesignInput& input, float floor)
      : candidates_(candidates) {
    for (const int32_t position : candidates) {
      weights_.push_back(input.weights[static_cast<size_t>(position)] + floor);
    }
    const auto first = std::ranges::lower_bound(input.taken, candidates.front());
    const auto last = std::ranges::upper_bound(input.taken, candidates.back());
    taken_ = {first, last};
  }

  int64_t num_candidates() const { return std::ssize(candidates_); }
  bool is_exhausted() const { return picks_.size() + taken_.size() == candidates_.size(); }
  // By falling worth.
  const std::vector<Pick>& picks() const { return picks_; }

  // Adds up to `count` picks.
  Status Extend(int64_t count) {
    if (covariance_.size() == 0) INTARSIA_RETURN_IF_ERROR(Start());
    for (int64_t i = 0; i < count && !is_exhausted(); ++i) {
      const auto [best, worth] = Best();
      // Rounding may let a later pick look better; the sequence is taken in this order anyway.
      const float bound = picks_.empty() ? worth : std::min(worth, picks_.back().worth);
      picks_.push_back({.worth = bound, .position = candidates_[best]});
      INTARSIA_RETURN_IF_ERROR(Take(best));
    }
    return Status::Ok();
  }

 private:
  size_t size() const { return candidates_.size(); }

  Status Start() {
    const auto num_elements = static_cast<int64_t>(size() * size());
    INTARSIA_ASSIGN_OR_RETURN(covariance_, AlignedArray<float>::TryCreate(num_elements));
    square_sums_.resize(size());
    workspace_.resize(2 * size());
    is_picked_.resize(size());
    const auto extent = static_cast<size_t>(candidates_.back() - candidates_.front()) + 1;
    const std::vector<double> kernel = TabulateKernel(kKeyKernel, static_cast<int64_t>(extent));
    const std::vector<float> table(kernel.begin(), kernel.end());
    for (size_t u = 0; u < size(); ++u) {
      float* const row = covariance_.data() + u * size();
      double sum = 0.0;
      for (size_t t = 0; t < size(); ++t) {
        row[t] = table[static_cast<size_t>(std::abs(candidates_[t] - candidates_[u]))];
        sum += weights_[t] * row[t] * row[t];
      }
      square_sums_[u] = static_cast<float>(sum);
    }
    for (const int32_t position : taken_) {
      const auto at = std::ranges::lower_bound(candidates_, position);
      INTARSIA_RETURN_IF_ERROR(Take(static_cast<size_t>(at - candidates_.begin())));
    }
    return Status::Ok();
  }

  // What a row at `u` takes away: what its measurement tells of all, and the rest of its own
  // variance. That includes the part that is not smooth, the noise of the others' estimates, so
  // that a token which is looked at much is worth a row however well its neighbours are known.
  float WorthOf(size_t u) const {
    const float variance = covariance_.data()[u * size() + u];
    const float noisy = variance + static_cast<float>(kKeyKernel.noise);
    return square_sums_[u] / noisy + weights_[u] * (noisy - variance * variance / noisy);
  }

  std::pair<size_t, float> Best() const {
    size_t best = 0;
    float best_worth = -std::numeric_limits<float>::infinity();
    for (size_t u = 0; u < size(); ++u) {
      const float worth = is_picked_[u] != 0 ? best_worth : WorthOf(u);
      if (worth > best_worth) {
        best = u;
        best_worth = worth;
      }
    }
    return {best, best_worth};
  }

  Status Take(size_t picked) {
    // Its own variance no longer counts.
    const float* const row = covariance_.data() + picked * size();
    for (size_t u = 0; u < size(); ++u) square_sums_[u] -= weights_[picked] * row[u] * row[u];
    weights_[picked] = 0.0f;
    is_picked_[picked] = 1;
    return kernels::ConditionCovariance({.covariance = covariance_.data(),
                                         .size = static_cast<int64_t>(size()),
                                         .stride = static_cast<int64_t>(size()),
                                         .pivot = static_cast<int64_t>(picked),
                                         .noise = static_cast<float>(kKeyKernel.noise),
                                         .weights = weights_.data(),
                                         .square_sums = square_sums_.data(),
                                         .workspace = workspace_.data()});
  }

  std::span<const int32_t> candidates_;
  std::span<const int32_t> taken_;
  std::vector<float> weights_;
  AlignedArray<float> covariance_;  // [size, size]
  std::vector<float> square_sums_;
  std::vector<float> workspace_;
  std::vector<uint8_t> is_picked_;
  std::vector<Pick> picks_;
};

Result<float> FloorOf(const RowDesignInput& input) {
  double sum = 0.0;
  for (const int32_t position : input.candidates) {
    const float weight = input.weights[static_cast<size_t>(position)];
    if (!(weight >= 0.0f) || std::isinf(weight)) {
      return Status(StatusCode::kInvalidArgument,
                    "a weight is negative or not finite: position=" + std::to_string(position));
    }
    sum += weight;
  }
  // Without any weight every token counts the same.
  if (sum == 0.0) return 1.0f;
  return static_cast<float>(kFloorShare * sum / static_cast<double>(input.candidates.size()));
}

std::vector<ChunkDesign> CutIntoChunks(const RowDesignInput& input, float floor) {
  std::vector<ChunkDesign> chunks;
  size_t begin = 0;
  for (size_t i = 1; i <= input.candidates.size(); ++i) {
    const bool is_end = i == input.candidates.size() ||
                        input.candidates[i] != input.candidates[i - 1] + 1 ||
                        std::ranges::binary_search(input.chunk_begins, input.candidates[i]) ||
                        static_cast<int64_t>(i - begin) == kDesignTokensMax;
    if (!is_end) continue;
    chunks.emplace_back(input.candidates.subspan(begin, i - begin), input, floor);
    begin = i;
  }
  return chunks;
}

// The worth below which a pick is not among the best `budget` of what is known.
float WorthOfLast(const std::vector<ChunkDesign>& chunks, int64_t budget) {
  std::vector<float> worths;
  for (const ChunkDesign& chunk : chunks) {
    for (const Pick& pick : chunk.picks()) worths.push_back(pick.worth);
  }
  if (std::ssize(worths) < budget) return -std::numeric_limits<float>::infinity();
  const auto last = worths.begin() + (budget - 1);
  std::ranges::nth_element(worths, last, std::greater<>());
  return *last;
}

Status ExtendInParallel(const std::vector<ChunkDesign*>& chunks, const std::vector<int64_t>& counts,
                        ThreadPool* pool) {
  std::vector<Status> errors(chunks.size());
  pool->ParallelFor(std::ssize(chunks), [&](int64_t index, int /*worker*/) {
    const auto i = static_cast<size_t>(index);
    errors[i] = chunks[i]->Extend(counts[i]);
  });
  for (const Status& error : errors) INTARSIA_RETURN_IF_ERROR(error);
  return Status::Ok();
}

}  // namespace

Result<std::vector<int32_t>> DesignRows(const RowDesignInput& input) {
  const auto num_candidates = std::ssize(input.candidates);
  INTARSIA_CHECK(std::ranges::includes(input.candidates, input.taken));
  if (input.budget < 0 || input.budget > num_candidates - std::ssize(input.taken)) {
    return Status(StatusCode::kInvalidArgument,
                  "budget out of range: budget=" + std::to_string(input.budget) +
                      " candidates=" + std::to_string(num_candidates) +
                      " taken=" + std::to_string(input.taken.size()));
  }
  if (input.budget == 0) return std::vector<int32_t>();
  INTARSIA_ASSIGN_OR_RETURN(const float floor, FloorOf(input));
  std::vector<ChunkDesign> chunks = CutIntoChunks(input, floor);
  // Each chunk goes on until its next pick cannot be among the best: at first as far as an even
  // share of the budget reaches.
  const double share = static_cast<double>(input.budget) / static_cast<double>(num_candidates);
  for (;;) {
    const float last = WorthOfLast(chunks, input.budget);
    std::vector<ChunkDesign*> unfinished;
    std::vector<int64_t> counts;
    for (ChunkDesign& chunk : chunks) {
      const bool may_go_on = chunk.picks().empty() || chunk.picks().back().worth >= last;
      if (chunk.is_exhausted() || !may_go_on) continue;
      unfinished.push_back(&chunk);
      counts.push_back(1 + std::llround(share * static_cast<double>(chunk.num_candidates()) /
                                        (chunk.picks().empty() ? 1.0 : 4.0)));
    }
    if (unfinished.empty()) break;
    INTARSIA_RETURN_IF_ERROR(ExtendInParallel(unfinished, counts, input.pool));
  }
  std::vector<Pick> picks;
  for (const ChunkDesign& chunk : chunks) {
    picks.insert(picks.end(), chunk.picks().begin(), chunk.picks().end());
  }
  const auto is_better = [](const Pick& a, const Pick& b) {
    return a.worth != b.worth ? a.worth > b.worth : a.position < b.position;
  };
  const auto end = picks.begin() + input.budget;
  std::nth_element(picks.begin(), end - 1, picks.end(), is_better);
  std::vector<int32_t> rows;
  for (auto pick = picks.begin(); pick != end; ++pick) rows.push_back(pick->position);
  std::ranges::sort(rows);
  return rows;
}

}  // namespace intarsia::engine
