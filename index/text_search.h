// SearchText: the k chunks of a text index that score best by BM25.
//
// score(chunk) = sum over clauses of weight * idf * (k1 + 1) tf / (tf + k1 (1 - b + b len / mean)),
// idf = ln(1 + (N - n + 0.5) / (n + 0.5)), where n of N chunks hold the clause. A phrase and a
// prefix count as one word each, with the chunks that hold them.
//
// Windows of ids that span one block of each clause are passed over if their bounds cannot reach
// the k-th score; inside a window, clauses that cannot reach it by themselves are looked up only
// for chunks that another clause found (block-max MaxScore). The result is that of scoring every
// chunk, bit by bit: ties go to the lower id.
//
// Thread safety: all functions may be called concurrently.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/cancel.h"
#include "base/row_store.h"
#include "index/text_query.h"
#include "index/top_k.h"

namespace intarsia::index {

enum class TextScan : uint8_t { kBlockMax, kExhaustive };

struct TextSearchParams {
  const TextQuery* query = nullptr;
  int64_t k = 10;  // >= 1
  // The chunks that may be found, ascending; all if not set.
  std::optional<std::span<const uint64_t>> filter = {};
  TextScan scan = TextScan::kBlockMax;
  double k1 = 1.2;
  double b = 0.75;
  const CancelToken* cancel = nullptr;  // may be null
};

struct TextSearchResult {
  std::vector<SearchHit> hits;  // best first
  int64_t num_chunks = 0;       // in the index
  int64_t num_clauses = 0;      // that some chunk holds
  int64_t num_postings = 0;     // of them
  int64_t num_scored = 0;       // chunks whose whole score was computed
  int64_t num_blocks_decoded = 0;
};

// Errors: kNotFound if there is no index; kCorruption if a row is damaged; kInvalidArgument for a
// prefix with too many postings; kCancelled; kIo.
Result<TextSearchResult> SearchText(const RowReader& rows, const TextSearchParams& params);

// Those of `ids`, ascending, that hold every required clause of the query and no forbidden one.
// Errors: as SearchText.
Result<std::vector<uint64_t>> ApplyConstraints(const RowReader& rows, const TextQuery& query,
                                               std::span<const uint64_t> ids,
                                               const CancelToken* cancel);

}  // namespace intarsia::index
