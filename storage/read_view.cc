#include "storage/read_view.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "storage/database_core.h"
#include "storage/postings.h"

namespace intarsia::storage {
namespace {

Status NotFound(std::string_view what, std::string_view name) {
  return Status(StatusCode::kNotFound, "no such " + std::string(what) + ": " + std::string(name));
}

// Says in the user's words what was not found.
template <typename T>
Result<T> Named(Result<T> result, std::string_view what, std::string_view name) {
  if (result.ok() || result.status().code() != StatusCode::kNotFound) return result;
  return NotFound(what, name);
}

}  // namespace

struct ReadView::State {
  explicit State(const DatabaseCore* owner)
      : core(owner), rocks(owner->rocks.get()), snapshot(rocks->TakeSnapshot()) {
    ++core->num_views;
  }
  ~State() {
    rocks->ReleaseSnapshot(snapshot);
    --core->num_views;
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  template <typename T>
  Result<T> Get(Family family, const std::string& key,
                Result<T> (*decode)(std::string_view)) const {
    INTARSIA_ASSIGN_OR_RETURN(const std::string body, rocks->Get(family, key, snapshot));
    return decode(body);
  }
  RowCursor Scan(Family family, const std::string& prefix) const {
    return rocks->ScanPrefix(family, prefix, snapshot);
  }
  // Every record below `prefix`.
  template <typename T>
  Result<std::vector<T>> List(Family family, const std::string& prefix,
                              Result<T> (*decode)(std::string_view)) const {
    std::vector<T> records;
    RowCursor row = Scan(family, prefix);
    for (; row.Valid(); row.Next()) {
      INTARSIA_ASSIGN_OR_RETURN(const std::string_view body, row.Body());
      INTARSIA_ASSIGN_OR_RETURN(T record, decode(body));
      records.push_back(std::move(record));
    }
    INTARSIA_RETURN_IF_ERROR(row.status());
    return records;
  }

  const DatabaseCore* const core;
  const Rocks* const rocks;
  const rocksdb::Snapshot* const snapshot;
};

ReadView::ReadView(const DatabaseCore* core) : state_(std::make_unique<State>(core)) {}
ReadView::~ReadView() = default;
ReadView::ReadView(ReadView&&) noexcept = default;
ReadView& ReadView::operator=(ReadView&&) noexcept = default;

Result<ModelInfo> ReadView::GetModel(ModelId id) const {
  return Named(state_->Get(Family::kCatalog, ModelKey(id), DecodeModel), "model",
               "id=" + std::to_string(id));
}

Result<ModelInfo> ReadView::FindModel(std::string_view name) const {
  INTARSIA_ASSIGN_OR_RETURN(
      const uint64_t id,
      Named(state_->Get(Family::kCatalog, ModelNameKey(name), DecodeNumber), "model", name));
  return GetModel(id);
}

Result<std::vector<ModelInfo>> ReadView::ListModels() const {
  return state_->List(Family::kCatalog, "m", DecodeModel);
}

Result<CollectionInfo> ReadView::GetCollection(CollectionId id) const {
  return Named(state_->Get(Family::kCatalog, CollectionKey(id), DecodeCollection), "collection",
               "id=" + std::to_string(id));
}

Result<CollectionInfo> ReadView::FindCollection(std::string_view name) const {
  INTARSIA_ASSIGN_OR_RETURN(
      const uint64_t id, Named(state_->Get(Family::kCatalog, CollectionNameKey(name), DecodeNumber),
                               "collection", name));
  return GetCollection(id);
}

Result<std::vector<CollectionInfo>> ReadView::ListCollections() const {
  return state_->List(Family::kCatalog, "c", DecodeCollection);
}

Result<CollectionStats> ReadView::GetStats(CollectionId id) const {
  // A collection that is being dropped keeps its statistics until its documents are gone.
  INTARSIA_RETURN_IF_ERROR(GetCollection(id).status());
  return state_->Get(Family::kMeta, StatsKey(id), DecodeStats);
}

Result<std::string> ReadView::GetSetting(std::string_view name) const {
  return Named(state_->rocks->Get(Family::kCatalog, SettingKey(name), state_->snapshot), "setting",
               name);
}

Result<Options> ReadView::ListSettings() const {
  Options settings;
  RowCursor row = state_->Scan(Family::kCatalog, "s");
  for (; row.Valid(); row.Next()) {
    INTARSIA_ASSIGN_OR_RETURN(const std::string_view body, row.Body());
    settings.emplace(row.key().substr(1), body);
  }
  INTARSIA_RETURN_IF_ERROR(row.status());
  return settings;
}

Result<Document> ReadView::GetDocument(DocumentId id) const {
  return Named(state_->Get(Family::kDocuments, DocumentKey(id), DecodeDocument), "document",
               "id=" + std::to_string(id));
}

Result<Document> ReadView::GetDocumentBySource(CollectionId collection,
                                               std::string_view source) const {
  INTARSIA_ASSIGN_OR_RETURN(
      const uint64_t id,
      Named(state_->Get(Family::kDocuments, SourceKey(collection, source), DecodeNumber),
            "document", source));
  return GetDocument(id);
}

Result<std::string> ReadView::GetText(const Digest& text_digest) const {
  return Named(state_->rocks->Get(Family::kText, TextKey(text_digest), state_->snapshot), "text",
               text_digest.ToHex());
}

Result<std::string> ReadView::GetTextRange(const Digest& text_digest, int64_t begin,
                                           int64_t end) const {
  INTARSIA_ASSIGN_OR_RETURN(std::string text, GetText(text_digest));
  if (begin < 0 || end < begin || end > static_cast<int64_t>(text.size())) {
    return Status(StatusCode::kInvalidArgument,
                  "a range outside of the text: begin=" + std::to_string(begin) +
                      " end=" + std::to_string(end) + " size=" + std::to_string(text.size()));
  }
  return text.substr(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
}

Result<Chunk> ReadView::GetChunk(ChunkId id) const {
  return Named(state_->Get(Family::kChunks, ChunkKey(id), DecodeChunk), "chunk",
               "id=" + std::to_string(id));
}

Status ReadView::ForEachVector(CollectionId collection, ModelId model, ChunkId first,
                               const VisitVector& visit) const {
  INTARSIA_ASSIGN_OR_RETURN(const CollectionStats stats, GetStats(collection));
  const auto of_model = std::ranges::find(stats.vectors, model, &CollectionStats::Vectors::model);
  if (of_model == stats.vectors.end() || of_model->num_vectors == 0) return Status::Ok();
  std::vector<float> values(static_cast<size_t>(of_model->dimension));
  const std::string prefix = VectorsPrefix(model, collection);
  RowCursor row = state_->rocks->Scan(Family::kVectors, VectorKey(model, collection, first),
                                      KeyAfterPrefix(prefix), state_->snapshot);
  for (; row.Valid(); row.Next()) {
    INTARSIA_ASSIGN_OR_RETURN(const std::string_view body, row.Body());
    const ChunkId chunk = IdInKey(row.key(), prefix.size());
    if (body.size() != values.size() * sizeof(float)) {
      return Status(StatusCode::kCorruption,
                    "a vector of another dimension: chunk=" + std::to_string(chunk) +
                        " bytes=" + std::to_string(body.size()) +
                        " dimension=" + std::to_string(values.size()));
    }
    std::memcpy(values.data(), body.data(), body.size());
    INTARSIA_RETURN_IF_ERROR(visit(chunk, values));
  }
  return row.status();
}

Result<uint64_t> ReadView::VectorsChangedAt(CollectionId collection) const {
  const Result<std::string> body =
      state_->rocks->Get(Family::kMeta, VectorsChangedKey(collection), state_->snapshot);
  if (body.status().code() == StatusCode::kNotFound) return uint64_t{0};
  INTARSIA_RETURN_IF_ERROR(body.status());
  return DecodeNumber(*body);
}

Status ReadView::ForEachDocument(CollectionId collection, const VisitDocument& visit) const {
  const std::string prefix = ListingPrefix(collection);
  RowCursor row = state_->Scan(Family::kDocuments, prefix);
  for (; row.Valid(); row.Next()) {
    INTARSIA_ASSIGN_OR_RETURN(const Document document,
                              GetDocument(IdInKey(row.key(), prefix.size())));
    INTARSIA_RETURN_IF_ERROR(visit(document));
  }
  return row.status();
}

Status ReadView::ForEachChunk(CollectionId collection, const VisitChunk& visit) const {
  return ForEachDocument(collection,
                         [&](const Document& document) { return ForEachChunkOf(document, visit); });
}

Status ReadView::ForEachChunkBetween(ChunkId first, ChunkId end, const VisitChunk& visit) const {
  RowCursor row =
      state_->rocks->Scan(Family::kChunks, ChunkKey(first), ChunkKey(end), state_->snapshot);
  for (; row.Valid(); row.Next()) {
    INTARSIA_ASSIGN_OR_RETURN(const std::string_view body, row.Body());
    INTARSIA_ASSIGN_OR_RETURN(const Chunk chunk, DecodeChunk(body));
    INTARSIA_RETURN_IF_ERROR(visit(chunk));
  }
  return row.status();
}

Status ReadView::ForEachChunkOf(const Document& document, const VisitChunk& visit) const {
  int64_t num_chunks = 0;
  INTARSIA_RETURN_IF_ERROR(ForEachChunkBetween(
      document.first_chunk, document.first_chunk + static_cast<uint64_t>(document.num_chunks),
      [&](const Chunk& chunk) {
        ++num_chunks;
        return visit(chunk);
      }));
  if (num_chunks == document.num_chunks) return Status::Ok();
  // Nothing is missing where `document` comes from an older view.
  if (const auto now = GetDocument(document.id);
      !now.ok() || now->first_chunk != document.first_chunk) {
    return NotFound("document", "id=" + std::to_string(document.id));
  }
  return Status(StatusCode::kCorruption,
                "chunks are missing: document=" + std::to_string(document.id) + " want=" +
                    std::to_string(document.num_chunks) + " got=" + std::to_string(num_chunks));
}

Status ReadView::ForEachIndexedChunk(CollectionId collection,
                                     const VisitIndexedChunk& visit) const {
  // A document that was replaced kept its id, but its chunks have new ones.
  std::vector<std::pair<ChunkId, DocumentId>> documents;
  INTARSIA_RETURN_IF_ERROR(ForEachDocument(collection, [&](const Document& document) {
    documents.emplace_back(document.first_chunk, document.id);
    return Status::Ok();
  }));
  std::ranges::sort(documents);
  for (const auto& [first_chunk, id] : documents) {
    INTARSIA_ASSIGN_OR_RETURN(const Document document, GetDocument(id));
    INTARSIA_RETURN_IF_ERROR(ForEachIndexedChunkOf(document, visit));
  }
  return Status::Ok();
}

Status ReadView::ForEachIndexedChunkOf(const Document& document,
                                       const VisitIndexedChunk& visit) const {
  INTARSIA_ASSIGN_OR_RETURN(const std::string text, GetText(document.text_digest));
  return ForEachChunkOf(document, [&](const Chunk& chunk) {
    if (chunk.byte_end > std::ssize(text)) {
      return Status(StatusCode::kCorruption,
                    "a chunk lies outside its text: id=" + std::to_string(chunk.id));
    }
    return visit({.id = chunk.id,
                  .title = document.title,
                  .heading_path = chunk.heading_path,
                  .text = std::string_view(text).substr(
                      static_cast<size_t>(chunk.byte_begin),
                      static_cast<size_t>(chunk.byte_end - chunk.byte_begin))});
  });
}

std::unique_ptr<RowReader> ReadView::Postings(CollectionId collection) const {
  return std::make_unique<PostingRows>(state_->rocks, state_->snapshot, collection);
}

Result<bool> ReadView::ArePostingsCurrent(CollectionId collection) const {
  INTARSIA_ASSIGN_OR_RETURN(const CollectionStats stats, GetStats(collection));
  return storage::ArePostingsCurrent(*state_->rocks, state_->snapshot, collection, stats);
}

}  // namespace intarsia::storage
