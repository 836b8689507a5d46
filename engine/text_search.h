// TextSearcher: the text leg of a search: the chunks that share words with a text.
//
// The postings are in the database and change with its documents. Where they are not current - an
// older program wrote there, or they are damaged - they are built anew; where that cannot be
// written, in memory, for the state that is searched.
//
// Thread safety: thread-safe.
// Lifetime: the database must outlive it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/cancel.h"
#include "base/memory_rows.h"
#include "base/result.h"
#include "index/text_search.h"
#include "storage/database.h"

namespace intarsia::engine {

struct TextLegParams {
  std::string_view text;
  index::TextSyntax syntax = index::TextSyntax::kWords;
  int64_t k = 10;
  // The chunks that pass WHERE, ascending; not set: all.
  std::optional<std::span<const storage::ChunkId>> filter = {};
};

struct TextMatches {
  index::TextSearchResult found;
  bool has_words = false;  // else there was nothing to search for
  std::vector<std::string> notices;
};

class TextSearcher {
 public:
  explicit TextSearcher(storage::Database* database) : database_(database) {}

  // Makes the stored postings current, if they are not and the database may be written to. Call it
  // before the view is taken that is searched. Says what it did in `notices`.
  // Errors: kCancelled; those of Database::RebuildPostings.
  Status MakeCurrent(const storage::CollectionInfo& collection, const CancelToken* cancel,
                     std::vector<std::string>* notices);

  // Errors: kInvalidArgument for a prefix with too many words; kCancelled; what lies below.
  Result<TextMatches> Search(const storage::ReadView& view,
                             const storage::CollectionInfo& collection, const TextLegParams& params,
                             const CancelToken* cancel);

  // Those of `chunks`, ascending, that the words behind + and - in `text` let through; not set if
  // there are none of these. Errors: as Search.
  Result<std::optional<std::vector<storage::ChunkId>>> Constrain(
      const storage::ReadView& view, const storage::CollectionInfo& collection,
      const TextLegParams& params, std::span<const storage::ChunkId> chunks,
      const CancelToken* cancel);

  // Forgets what is in memory of a dropped collection.
  void Forget(storage::CollectionId id);

 private:
  struct MemoryIndex {
    uint64_t generation = 0;
    std::shared_ptr<const MemoryRows> rows;
  };

  // The postings of the collection's state in `view`, built in memory.
  Result<std::shared_ptr<const MemoryRows>> BuildInMemory(const storage::ReadView& view,
                                                          const storage::CollectionInfo& collection,
                                                          const CancelToken* cancel);
  // Calls `use` with the postings; if they turn out to be damaged, with ones built in memory.
  template <typename Use>
  Status UseRows(const storage::ReadView& view, const storage::CollectionInfo& collection,
                 const CancelToken* cancel, std::vector<std::string>* notices, const Use& use);

  storage::Database* const database_;
  std::mutex mutex_;
  std::map<storage::CollectionId, MemoryIndex> in_memory_;  // Guarded by mutex_.
};

}  // namespace intarsia::engine
