#include <limits>
#include <set>
#include <utility>

#include "base/utf8.h"
#include "storage/commit.h"
#include "storage/database.h"

namespace intarsia::storage {
namespace {

constexpr int64_t kTextBytesMax = int64_t{1} << 30;
constexpr size_t kSourceBytesMax = 4096;
// Of one commit, all rows together; RocksDB takes 4 GiB.
constexpr int64_t kCommitBytesMax = int64_t{2} << 30;

Status BadDocument(const NewDocument& document, const std::string& what) {
  return Status(StatusCode::kInvalidArgument,
                "cannot store a document: " + what + " source=" + document.source);
}

Status CheckChunk(const NewDocument& document, const NewChunk& chunk) {
  const auto text_bytes = static_cast<int64_t>(document.text.size());
  if (chunk.byte_begin < 0 || chunk.byte_end < chunk.byte_begin || chunk.byte_end > text_bytes) {
    return BadDocument(
        document, "a chunk lies outside of the text: begin=" + std::to_string(chunk.byte_begin) +
                      " end=" + std::to_string(chunk.byte_end) +
                      " size=" + std::to_string(text_bytes));
  }
  std::set<ModelId> models;
  for (const Embedding& embedding : chunk.vectors) {
    if (!models.insert(embedding.model).second) {
      return BadDocument(document, "a chunk has two vectors of one model");
    }
  }
  return Status::Ok();
}

Status CheckDocument(const NewDocument& document) {
  if (document.source.empty() || document.source.size() > kSourceBytesMax) {
    return BadDocument(
        document, "a source has 1 to 4096 bytes: size=" + std::to_string(document.source.size()));
  }
  if (static_cast<int64_t>(document.text.size()) > kTextBytesMax) {
    return BadDocument(document,
                       "a text has at most 1 GiB: size=" + std::to_string(document.text.size()));
  }
  if (const int64_t offset = FindInvalidUtf8(document.text); offset >= 0) {
    return BadDocument(document, "its text is not UTF-8: offset=" + std::to_string(offset));
  }
  for (const NewChunk& chunk : document.chunks) {
    INTARSIA_RETURN_IF_ERROR(CheckChunk(document, chunk));
  }
  return Status::Ok();
}

Status CheckCollectionExists(const Rocks& rocks, CollectionId collection) {
  INTARSIA_ASSIGN_OR_RETURN(const bool exists,
                            rocks.Exists(Family::kCatalog, CollectionKey(collection)));
  if (exists) return Status::Ok();
  return Status(StatusCode::kNotFound, "no such collection: id=" + std::to_string(collection));
}

// Whether the chunk is there, in the collection.
Result<bool> HasChunk(const Rocks& rocks, ChunkId id, CollectionId collection) {
  const Result<std::string> body = rocks.Get(Family::kChunks, ChunkKey(id), nullptr);
  if (!body.ok() && body.status().code() == StatusCode::kNotFound) return false;
  INTARSIA_RETURN_IF_ERROR(body.status());
  INTARSIA_ASSIGN_OR_RETURN(const Chunk chunk, DecodeChunk(*body));
  return chunk.collection == collection;
}

}  // namespace

Result<std::vector<StoredDocument>> Database::PutDocuments(CollectionId collection,
                                                           std::span<const NewDocument> documents) {
  INTARSIA_RETURN_IF_ERROR(CheckWritable());
  std::vector<Digest> digests;
  std::set<std::string_view> sources;
  for (const NewDocument& document : documents) {
    INTARSIA_RETURN_IF_ERROR(CheckDocument(document));
    if (!sources.insert(document.source).second) {
      return BadDocument(document, "its source stands twice in one commit");
    }
    digests.push_back(DigestOf(document.text));
  }
  std::vector<StoredDocument> stored;
  if (documents.empty()) return stored;

  Commit commit(core_.get());
  INTARSIA_RETURN_IF_ERROR(CheckCollectionExists(*core_->rocks, collection));
  for (size_t i = 0; i < documents.size(); ++i) {
    INTARSIA_ASSIGN_OR_RETURN(StoredDocument row,
                              commit.PutDocument(collection, documents[i], digests[i]));
    stored.push_back(row);
    if (commit.num_bytes() > kCommitBytesMax) {
      return Status(StatusCode::kInvalidArgument,
                    "too much for one commit; put fewer documents at once: documents=" +
                        std::to_string(documents.size()));
    }
  }
  INTARSIA_RETURN_IF_ERROR(commit.Finish(Durability::kSync));
  return stored;
}

Result<int64_t> Database::DeleteDocuments(std::span<const DocumentId> ids) {
  INTARSIA_RETURN_IF_ERROR(CheckWritable());
  Commit commit(core_.get());
  const std::set<DocumentId> distinct(ids.begin(), ids.end());
  int64_t num_deleted = 0;
  for (const DocumentId id : distinct) {
    const Result<std::string> body =
        core_->rocks->Get(Family::kDocuments, DocumentKey(id), nullptr);
    if (!body.ok() && body.status().code() == StatusCode::kNotFound) continue;
    INTARSIA_RETURN_IF_ERROR(body.status());
    INTARSIA_ASSIGN_OR_RETURN(const Document document, DecodeDocument(*body));
    INTARSIA_RETURN_IF_ERROR(commit.RemoveDocument(document));
    ++num_deleted;
  }
  if (num_deleted == 0) return num_deleted;
  INTARSIA_RETURN_IF_ERROR(commit.Finish(Durability::kSync));
  return num_deleted;
}

Result<int64_t> Database::PutVectors(CollectionId collection, ModelId model,
                                     std::span<const ChunkVector> rows) {
  INTARSIA_RETURN_IF_ERROR(CheckWritable());
  Commit commit(core_.get());
  INTARSIA_RETURN_IF_ERROR(CheckCollectionExists(*core_->rocks, collection));
  std::set<ChunkId> written;
  for (const ChunkVector& row : rows) {
    INTARSIA_ASSIGN_OR_RETURN(const bool exists, HasChunk(*core_->rocks, row.chunk, collection));
    if (!exists) continue;
    if (!written.insert(row.chunk).second) {
      return Status(StatusCode::kInvalidArgument,
                    "two vectors for one chunk: id=" + std::to_string(row.chunk));
    }
    INTARSIA_RETURN_IF_ERROR(commit.PutVector(collection, model, row.chunk, row.values));
  }
  if (written.empty()) return int64_t{0};
  INTARSIA_RETURN_IF_ERROR(commit.Finish(Durability::kSync));
  return static_cast<int64_t>(written.size());
}

}  // namespace intarsia::storage
