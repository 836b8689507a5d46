// RowSelector: which cached tokens of a prompt are computed again.
//
// Thread safety: immutable; concurrent calls are safe.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/thread_pool.h"
#include "engine/fusion/prompt.h"

namespace intarsia::engine {

// What a selector must be given as scores, one a position.
enum class ScoreKind : uint8_t {
  kNone,       // rows are known before anything is loaded
  kAttention,  // how much the question attends to a token over the cached keys
  kDeviation,  // how far a token's cached V is from the one computed in this prompt, at layer 1
};

struct SelectionInput {
  const Prompt* prompt = nullptr;
  std::span<const int32_t> candidates;  // ascending positions
  int64_t budget = 0;                   // rows to return, in [0, candidates.size()]
  std::span<const float> scores;        // [num_tokens] by position; empty for kNone
  std::span<const int32_t> probes;      // candidates that `attention` returns whatever the scores
  std::span<const int32_t> taken;       // the probes, if they are computed already; else empty
  ThreadPool* pool = nullptr;
};

class RowSelector {
 public:
  virtual ~RowSelector() = default;
  virtual std::string_view name() const = 0;
  virtual ScoreKind score_kind() const = 0;
  // How many evenly spaced candidates are to be among the rows whatever the scores are. They can be
  // computed while the scores are taken, so that those see a shifted cache.
  virtual int64_t NumProbes(int64_t /*num_candidates*/, int64_t /*budget*/) const { return 0; }
  // Returns at most `budget` of the candidates, those taken among them, ascending. Ties go to the
  // lower position.
  // Errors: kResourceExhausted; kInvalidArgument for a score that is not finite.
  virtual Result<std::vector<int32_t>> Select(const SelectionInput& input) const = 0;
};

struct RowSelectorOptions {
  // Share of the candidates that `attention` spreads evenly before it ranks the rest, at most half
  // of the budget. Propagation measures with them; without it they are wasted.
  double probe_share = 0.03;
};

// `name` is one of RowSelectorNames():
//   none       nothing: full KV reuse
//   prefix     the first tokens of every chunk (EPIC, arXiv 2410.15332: LegoLink)
//   deviation  the largest deviation of V at layer 1 (CacheBlend, arXiv 2405.16444, section 4)
//   stride     evenly spaced; known before loading
//   attention  what the question attends to (after ProphetKV, arXiv 2602.02579), ranked by the last
//              prompt row plus the mean of the question's rows, over FirstRankingLayer and on
//   design     where the question attends to and propagation leaves most unknown (row_design.h)
//   full       all
// Errors: kInvalidArgument that lists the names.
Result<std::unique_ptr<RowSelector>> MakeRowSelector(std::string_view name,
                                                     const RowSelectorOptions& options);

std::span<const std::string_view> RowSelectorNames();

// `count` of the candidates, at equal steps. REQUIRES: no more than there are.
std::vector<int32_t> EvenlySpaced(std::span<const int32_t> candidates, int64_t count);

}  // namespace intarsia::engine
