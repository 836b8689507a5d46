// Database::RebuildPostings: the postings of a collection from its chunks.
#include <memory>

#include "storage/database.h"
#include "storage/database_core.h"
#include "storage/postings.h"

namespace intarsia::storage {
namespace {

// Text that one batch of rows is made from; its postings take a few times that in memory.
constexpr int64_t kBatchTextBytes = int64_t{16} << 20;

class Rebuild {
 public:
  Rebuild(DatabaseCore* core, const CollectionInfo& info) : core_(core), info_(info) {}

  // Drops what is there. From here on the postings are stale until Finish.
  Status Begin() {
    RowBatch batch(core_->rocks.get());
    const std::string prefix = PostingsPrefix(info_.id);
    batch.DeleteRange(Family::kPostings, prefix, KeyAfterPrefix(prefix));
    batch.Delete(Family::kPostings, PostingsMarkKey(info_.id));
    return core_->rocks->Write(&batch, Durability::kBuffer);
  }

  Status Add(const IndexedChunk& chunk) {
    if (change_ == nullptr) {
      INTARSIA_ASSIGN_OR_RETURN(change_, core_->options.chunk_indexer->Begin(info_));
      if (change_ == nullptr) {
        return Status(StatusCode::kInvalidArgument,
                      "the collection has no text index: " + info_.name);
      }
    }
    change_->Add(chunk);
    num_bytes_ += std::ssize(chunk.text);
    return num_bytes_ < kBatchTextBytes ? Status::Ok() : Write();
  }

  Status Finish(uint64_t generation) {
    INTARSIA_RETURN_IF_ERROR(Write());
    RowBatch batch(core_->rocks.get());
    batch.Put(Family::kPostings, PostingsMarkKey(info_.id), EncodeNumber(generation));
    return core_->rocks->Write(&batch, Durability::kSync);
  }

 private:
  Status Write() {
    if (change_ == nullptr) return Status::Ok();
    StagedPostings staged(info_.id);
    INTARSIA_RETURN_IF_ERROR(
        change_->Finish(PostingRows(core_->rocks.get(), nullptr, info_.id), &staged));
    change_.reset();
    num_bytes_ = 0;
    RowBatch batch(core_->rocks.get());
    staged.MoveInto(&batch);
    return core_->rocks->Write(&batch, Durability::kBuffer);
  }

  DatabaseCore* const core_;
  const CollectionInfo& info_;
  std::unique_ptr<ChunkIndexChange> change_;
  int64_t num_bytes_ = 0;
};

}  // namespace

Status Database::RebuildPostings(CollectionId collection, const CancelToken* cancel) {
  INTARSIA_RETURN_IF_ERROR(CheckWritable());
  if (core_->options.chunk_indexer == nullptr) {
    return Status(StatusCode::kUnsupported, "this program keeps no postings");
  }
  const std::lock_guard<std::mutex> lock(core_->commit_mutex);
  const ReadView view = Read();
  INTARSIA_ASSIGN_OR_RETURN(const CollectionInfo info, view.GetCollection(collection));
  INTARSIA_ASSIGN_OR_RETURN(const CollectionStats stats, view.GetStats(collection));
  Rebuild rebuild(core_.get(), info);
  INTARSIA_RETURN_IF_ERROR(rebuild.Begin());
  const auto add = [&](const IndexedChunk& chunk) -> Status {
    if (cancel != nullptr) INTARSIA_RETURN_IF_ERROR(cancel->Check());
    return rebuild.Add(chunk);
  };
  INTARSIA_RETURN_IF_ERROR(view.ForEachIndexedChunk(collection, add));
  return rebuild.Finish(stats.generation);
}

}  // namespace intarsia::storage
