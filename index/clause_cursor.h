// ChunkLengths, OpenClause: what scoring reads of a text index besides postings of terms.
//
// Thread safety: owned by one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/cancel.h"
#include "base/row_store.h"
#include "index/posting_cursor.h"
#include "index/text_query.h"

namespace intarsia::index {

// The lengths of chunks by id, a row of them in memory at a time.
class ChunkLengths {
 public:
  explicit ChunkLengths(const RowReader& rows) : rows_(rows) {}

  // Errors: kCorruption if there is no such chunk.
  Result<uint32_t> Of(uint64_t id);

 private:
  const RowReader& rows_;
  uint64_t row_ = ~uint64_t{0};
  std::vector<uint32_t> lengths_;
};

// Postings that a prefix may have together; more are kInvalidArgument.
inline constexpr int64_t kPrefixPostingsMax = 8'000'000;

// The postings of a clause; null if no chunk holds it. Of a phrase, the frequency says how often it
// begins; of a prefix, it is the sum over its terms. `rows` must outlive it. `cancel` may be null.
// Errors: kCorruption, kInvalidArgument, kCancelled, kIo.
Result<std::unique_ptr<PostingCursor>> OpenClause(const RowReader& rows, const TextClause& clause,
                                                  ChunkLengths* lengths, const CancelToken* cancel);

}  // namespace intarsia::index
