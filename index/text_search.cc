#include "index/text_search.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <utility>

#include "base/check.h"
#include "index/clause_cursor.h"
#include "index/posting_cursor.h"
#include "index/text_rows.h"

namespace intarsia::index {
namespace {

constexpr int64_t kWindowsPerCheck = 256;
constexpr int64_t kChunksPerCheck = 4096;

// Sums of bounds are taken in another order than sums of scores, so they may round lower.
constexpr double kSlack = 1.0 + 1e-9;

// The part of the formula that depends on the collection.
class Bm25 {
 public:
  Bm25(const TextStats& stats, double k1, double b)
      : num_chunks_(static_cast<double>(stats.num_chunks)),
        factor_(k1 + 1.0),
        constant_(k1 * (1.0 - b)),
        per_term_(
            k1 * b /
            std::max(1.0, static_cast<double>(stats.num_terms) / std::max(1.0, num_chunks_))) {}

  double Idf(int64_t num_postings) const {
    const auto count = static_cast<double>(num_postings);
    return std::log(1.0 + (num_chunks_ - count + 0.5) / (count + 0.5));
  }
  double Score(double weight, uint32_t frequency, uint32_t length) const {
    const double tf = frequency;
    return weight * factor_ * tf / (tf + constant_ + per_term_ * length);
  }
  // No posting within `bound` scores more.
  double Bound(double weight, const ScoreBound& bound) const {
    const double ratio = static_cast<double>(bound.length) / bound.frequency;
    return weight * factor_ / (1.0 + constant_ / bound.max_frequency + per_term_ * ratio) * kSlack;
  }

 private:
  const double num_chunks_;
  const double factor_;
  const double constant_;
  const double per_term_;
};

// Walks the ids that a filter lets through.
class FilterCursor {
 public:
  explicit FilterCursor(const std::optional<std::span<const uint64_t>>& ids) : ids_(ids) {}

  // The first id at or behind `id` that may be found. Never moves back.
  uint64_t Seek(uint64_t id) {
    if (!ids_.has_value()) return id;
    // Doubling steps: near targets are cheap and far ones too.
    size_t step = 1;
    while (at_ + step < ids_->size() && (*ids_)[at_ + step] < id) {
      at_ += step;
      step *= 2;
    }
    const auto end = ids_->begin() + static_cast<int64_t>(std::min(at_ + step + 1, ids_->size()));
    at_ = static_cast<size_t>(std::lower_bound(ids_->begin() + static_cast<int64_t>(at_), end, id) -
                              ids_->begin());
    return at_ < ids_->size() ? (*ids_)[at_] : kNoPosting;
  }

 private:
  const std::optional<std::span<const uint64_t>>& ids_;
  size_t at_ = 0;
};

struct Clause {
  std::unique_ptr<PostingCursor> cursor;
  Occur occur = Occur::kShould;
  double weight = 0.0;        // with the idf
  double window_bound = 0.0;  // of the window at work
  double score = 0.0;         // of the chunk at work
};

class Search {
 public:
  Search(const RowReader& rows, const TextSearchParams& params, const TextStats& stats)
      : rows_(rows),
        params_(params),
        scorer_(stats, params.k1, params.b),
        lengths_(rows),
        filter_(params.filter),
        best_(params.k) {
    result_.num_chunks = stats.num_chunks;
  }

  Result<TextSearchResult> Run() {
    INTARSIA_ASSIGN_OR_RETURN(const bool can_match, OpenClauses());
    if (can_match && !(params_.filter.has_value() && params_.filter->empty())) {
      INTARSIA_RETURN_IF_ERROR(Walk());
    }
    result_.hits = best_.Take();
    for (const Clause& clause : clauses_) {
      result_.num_blocks_decoded += clause.cursor->num_blocks_decoded();
    }
    for (const auto& cursor : forbidden_) {
      result_.num_blocks_decoded += cursor->num_blocks_decoded();
    }
    return std::move(result_);
  }

 private:
  // Whether any chunk can match.
  Result<bool> OpenClauses() {
    for (const TextClause& clause : params_.query->clauses) {
      INTARSIA_ASSIGN_OR_RETURN(auto cursor, OpenClause(rows_, clause, &lengths_, params_.cancel));
      if (cursor == nullptr) {
        if (clause.occur == Occur::kMust) return false;
        continue;
      }
      ++result_.num_clauses;
      result_.num_postings += cursor->num_postings();
      if (clause.occur == Occur::kMustNot) {
        forbidden_.push_back(std::move(cursor));
        continue;
      }
      const double weight = clause.weight * scorer_.Idf(cursor->num_postings());
      clauses_.push_back({.cursor = std::move(cursor), .occur = clause.occur, .weight = weight});
    }
    for (size_t i = 0; i < clauses_.size(); ++i) {
      order_.push_back(i);
      if (clauses_[i].occur == Occur::kMust) required_.push_back(i);
    }
    // The rarest leads.
    std::ranges::sort(required_, {},
                      [this](size_t i) { return clauses_[i].cursor->num_postings(); });
    prefix_bounds_.resize(clauses_.size() + 1);
    return !clauses_.empty();
  }

  bool CannotEnter(double bound) const {
    return params_.scan == TextScan::kBlockMax && best_.is_full() &&
           bound * kSlack <= static_cast<double>(best_.threshold());
  }

  Status Walk() {
    uint64_t begin = 0;
    for (int64_t window = 0;; ++window) {
      if (params_.cancel != nullptr && window % kWindowsPerCheck == 0) {
        INTARSIA_RETURN_IF_ERROR(params_.cancel->Check());
      }
      begin = filter_.Seek(begin);
      if (begin == kNoPosting) return Status::Ok();
      INTARSIA_ASSIGN_OR_RETURN(const Window found, OpenWindow(begin));
      if (!found.can_match) return Status::Ok();
      if (!CannotEnter(found.bound)) INTARSIA_RETURN_IF_ERROR(WalkWindow(found.first, found.last));
      if (found.last == kNoPosting) return Status::Ok();
      begin = found.last + 1;
    }
  }

  struct Window {
    bool can_match = false;  // here or behind
    uint64_t first = 0;
    uint64_t last = 0;
    double bound = 0.0;
  };

  // The ids from `begin` on over which no clause changes its block.
  Result<Window> OpenWindow(uint64_t begin) {
    Window window = {.first = begin, .last = kNoPosting};
    for (Clause& clause : clauses_) {
      PostingCursor& cursor = *clause.cursor;
      INTARSIA_RETURN_IF_ERROR(cursor.SeekBlock(begin));
      if (cursor.at_end()) {
        clause.window_bound = 0.0;
        if (clause.occur == Occur::kMust) return Window();
        continue;
      }
      window.can_match = true;
      // A block that begins behind `begin` ends the window in front of it, if that is sooner.
      if (cursor.block().first_id > begin) {
        clause.window_bound = 0.0;
        window.last = std::min(window.last, cursor.block().first_id - 1);
      } else {
        clause.window_bound = scorer_.Bound(clause.weight, cursor.block().bound);
        window.last = std::min(window.last, cursor.block().last_id);
      }
      window.bound += clause.window_bound;
    }
    return window;
  }

  // Sorts the clauses by their bounds, so that those in front cannot reach the k-th score together.
  void Partition() {
    std::ranges::sort(order_, [this](size_t a, size_t b) {
      return std::pair(clauses_[a].window_bound, a) < std::pair(clauses_[b].window_bound, b);
    });
    for (size_t i = 0; i < order_.size(); ++i) {
      prefix_bounds_[i + 1] = prefix_bounds_[i] + clauses_[order_[i]].window_bound;
    }
    num_optional_ = 0;
    SkipOptional();
  }
  void SkipOptional() {
    while (num_optional_ < order_.size() && (clauses_[order_[num_optional_]].window_bound == 0.0 ||
                                             CannotEnter(prefix_bounds_[num_optional_ + 1]))) {
      ++num_optional_;
    }
  }

  Status WalkWindow(uint64_t first, uint64_t last) {
    Partition();
    uint64_t id = first;
    for (int64_t step = 1; num_optional_ < order_.size(); ++step) {
      if (params_.cancel != nullptr && step % kChunksPerCheck == 0) {
        INTARSIA_RETURN_IF_ERROR(params_.cancel->Check());
      }
      INTARSIA_ASSIGN_OR_RETURN(id, NextCandidate(id, last));
      if (id > last) return Status::Ok();
      INTARSIA_ASSIGN_OR_RETURN(const bool is_forbidden, IsForbidden(id));
      if (!is_forbidden) INTARSIA_RETURN_IF_ERROR(ScoreChunk(id));
      ++id;
    }
    return Status::Ok();
  }

  // The first chunk at or behind `id` that the filter, the required clauses and, if there are none,
  // one of the clauses behind the optional ones let through; above `last` if there is none.
  Result<uint64_t> NextCandidate(uint64_t id, uint64_t last) {
    for (;;) {
      id = filter_.Seek(id);
      if (id > last) return id;
      uint64_t next = kNoPosting;
      if (!required_.empty()) {
        next = id;
        for (const size_t i : required_) {
          PostingCursor& cursor = *clauses_[i].cursor;
          INTARSIA_RETURN_IF_ERROR(cursor.Seek(id));
          next = cursor.id();
          if (next != id) break;
        }
      } else {
        for (size_t at = num_optional_; at < order_.size() && next != id; ++at) {
          PostingCursor& cursor = *clauses_[order_[at]].cursor;
          INTARSIA_RETURN_IF_ERROR(cursor.Seek(id));
          next = std::min(next, cursor.id());
        }
      }
      if (next == id || next > last) return next;
      id = next;
    }
  }

  Result<bool> IsForbidden(uint64_t id) {
    for (const auto& cursor : forbidden_) {
      INTARSIA_RETURN_IF_ERROR(cursor->Seek(id));
      if (cursor->id() == id) return true;
    }
    return false;
  }

  Status ScoreChunk(uint64_t id) {
    INTARSIA_ASSIGN_OR_RETURN(const uint32_t length, lengths_.Of(id));
    for (Clause& clause : clauses_) clause.score = 0.0;
    double score = 0.0;
    for (size_t at = order_.size(); at-- > 0;) {
      if (CannotEnter(score + prefix_bounds_[at + 1])) return Status::Ok();
      Clause& clause = clauses_[order_[at]];
      if (clause.window_bound == 0.0) break;  // It has no postings in this window.
      INTARSIA_RETURN_IF_ERROR(clause.cursor->Seek(id));
      if (clause.cursor->id() != id) continue;
      clause.score = scorer_.Score(clause.weight, clause.cursor->frequency(), length);
      score += clause.score;
    }
    // Once more in the order of the clauses, so that the sum does not depend on the window.
    score = 0.0;
    for (const Clause& clause : clauses_) score += clause.score;
    ++result_.num_scored;
    best_.Push({.id = id, .score = static_cast<float>(score)});
    SkipOptional();
    return Status::Ok();
  }

  const RowReader& rows_;
  const TextSearchParams& params_;
  const Bm25 scorer_;
  ChunkLengths lengths_;
  FilterCursor filter_;
  TopK best_;
  std::vector<Clause> clauses_;
  std::vector<size_t> required_;  // clauses, the rarest first
  std::vector<std::unique_ptr<PostingCursor>> forbidden_;
  // Clauses by their bounds in the window, lowest first; the sums of the first bounds; and how many
  // of them cannot reach the k-th score.
  std::vector<size_t> order_;
  std::vector<double> prefix_bounds_;
  size_t num_optional_ = 0;
  TextSearchResult result_;
};

Result<TextStats> ReadStats(const RowReader& rows) {
  INTARSIA_ASSIGN_OR_RETURN(const std::string body, rows.Get(TextStatsKey()));
  return DecodeTextStats(body);
}

}  // namespace

Result<TextSearchResult> SearchText(const RowReader& rows, const TextSearchParams& params) {
  INTARSIA_CHECK(params.query != nullptr && params.k >= 1);
  INTARSIA_ASSIGN_OR_RETURN(const TextStats stats, ReadStats(rows));
  return Search(rows, params, stats).Run();
}

Result<std::vector<uint64_t>> ApplyConstraints(const RowReader& rows, const TextQuery& query,
                                               std::span<const uint64_t> ids,
                                               const CancelToken* cancel) {
  ChunkLengths lengths(rows);
  std::vector<uint64_t> kept(ids.begin(), ids.end());
  for (const TextClause& clause : query.clauses) {
    if (clause.occur == Occur::kShould) continue;
    INTARSIA_ASSIGN_OR_RETURN(const auto cursor, OpenClause(rows, clause, &lengths, cancel));
    if (cursor == nullptr) {
      if (clause.occur == Occur::kMust) return std::vector<uint64_t>();
      continue;
    }
    size_t num_kept = 0;
    for (const uint64_t id : kept) {
      INTARSIA_RETURN_IF_ERROR(cursor->Seek(id));
      if ((cursor->id() == id) == (clause.occur == Occur::kMust)) kept[num_kept++] = id;
    }
    kept.resize(num_kept);
  }
  return kept;
}

}  // namespace intarsia::index
