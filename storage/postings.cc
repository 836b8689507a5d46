#include "storage/postings.h"

#include <utility>

#include "storage/record_codec.h"

namespace intarsia::storage {
namespace {

// Rows of a RowCursor without the collection's prefix.
class PostingIterator : public RowIterator {
 public:
  PostingIterator(RowCursor cursor, std::string prefix)
      : cursor_(std::move(cursor)), prefix_(std::move(prefix)) {}

  bool Valid() const override { return cursor_.Valid(); }
  void Seek(std::string_view key) override { cursor_.Seek(prefix_ + std::string(key)); }
  void Next() override { cursor_.Next(); }
  std::string_view key() const override { return cursor_.key().substr(prefix_.size()); }
  Result<std::string_view> Body() const override { return cursor_.Body(); }
  Status status() const override { return cursor_.status(); }

 private:
  RowCursor cursor_;
  const std::string prefix_;
};

}  // namespace

Result<std::string> PostingRows::Get(std::string_view key) const {
  return rocks_->Get(Family::kPostings, prefix_ + std::string(key), snapshot_);
}

std::unique_ptr<RowIterator> PostingRows::NewIterator(std::string_view begin,
                                                      std::string_view end) const {
  return std::make_unique<PostingIterator>(
      rocks_->Scan(Family::kPostings, prefix_ + std::string(begin), prefix_ + std::string(end),
                   snapshot_),
      prefix_);
}

void StagedPostings::Put(std::string_view key, std::string_view body) {
  changes_.push_back({.key = prefix_ + std::string(key), .body = std::string(body)});
}

void StagedPostings::Delete(std::string_view key) {
  changes_.push_back(
      {.key = prefix_ + std::string(key), .body = {}, .kind = Change::Kind::kDelete});
}

void StagedPostings::MoveInto(RowBatch* batch) {
  for (const Change& change : changes_) {
    if (change.kind == Change::Kind::kPut) {
      batch->Put(Family::kPostings, change.key, change.body);
    } else {
      batch->Delete(Family::kPostings, change.key);
    }
  }
  changes_.clear();
}

Result<bool> ArePostingsCurrent(const Rocks& rocks, const rocksdb::Snapshot* snapshot,
                                CollectionId collection, const CollectionStats& stats) {
  const Result<std::string> mark =
      rocks.Get(Family::kPostings, PostingsMarkKey(collection), snapshot);
  if (mark.ok()) {
    const Result<uint64_t> generation = DecodeNumber(*mark);
    return generation.ok() && *generation == stats.generation;
  }
  switch (mark.status().code()) {
    case StatusCode::kNotFound:
      return stats.num_documents == 0;
    case StatusCode::kCorruption:
      return false;  // They can be built anew.
    default:
      return mark.status();
  }
}

}  // namespace intarsia::storage
