// PostingRows, StagedPostings: the rows of one collection in the family `postings`, to read and to
// change.
//
// Thread safety: const calls of PostingRows may be concurrent; StagedPostings is owned by one
// thread.
// Format: docs/formats/postings.md
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/row_store.h"
#include "storage/catalog.h"
#include "storage/keys.h"
#include "storage/rocks.h"

namespace intarsia::storage {

class PostingRows : public RowReader {
 public:
  // A null snapshot reads the newest. Both must outlive this.
  PostingRows(const Rocks* rocks, const rocksdb::Snapshot* snapshot, CollectionId collection)
      : rocks_(rocks), snapshot_(snapshot), prefix_(PostingsPrefix(collection)) {}

  Result<std::string> Get(std::string_view key) const override;
  std::unique_ptr<RowIterator> NewIterator(std::string_view begin,
                                           std::string_view end) const override;

 private:
  const Rocks* const rocks_;
  const rocksdb::Snapshot* const snapshot_;
  const std::string prefix_;
};

class StagedPostings : public RowWriter {
 public:
  explicit StagedPostings(CollectionId collection) : prefix_(PostingsPrefix(collection)) {}

  void Put(std::string_view key, std::string_view body) override;
  void Delete(std::string_view key) override;
  // Hands everything over.
  void MoveInto(RowBatch* batch);

 private:
  struct Change {
    std::string key;
    std::string body;
    enum class Kind : uint8_t { kPut, kDelete } kind = Kind::kPut;
  };

  const std::string prefix_;
  std::vector<Change> changes_;
};

// Whether the collection's postings are those of its present chunks. An empty collection that never
// had any has them.
Result<bool> ArePostingsCurrent(const Rocks& rocks, const rocksdb::Snapshot* snapshot,
                                CollectionId collection, const CollectionStats& stats);

}  // namespace intarsia::storage
