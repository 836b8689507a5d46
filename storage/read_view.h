// ReadView: one consistent state of a database's documents and catalog, for reading.
//
// Everything read through one view is of one commit, however many commits follow. A view is cheap
// to take; while it lives, the space of what was deleted since is not reclaimed, so it belongs to a
// statement and not to a session.
//
// Thread safety: const calls may be concurrent.
// Lifetime: must be gone before its Database is.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/row_store.h"
#include "storage/catalog.h"
#include "storage/chunk_indexer.h"
#include "storage/document.h"

namespace intarsia::storage {

struct DatabaseCore;

// Errors of all: kNotFound if there is no such thing, kCorruption with the record's name if a
// checksum fails, kIo. All may block on the disk.
class ReadView {
 public:
  explicit ReadView(const DatabaseCore* core);
  ~ReadView();
  ReadView(ReadView&&) noexcept;
  ReadView& operator=(ReadView&&) noexcept;

  Result<ModelInfo> GetModel(ModelId id) const;
  Result<ModelInfo> FindModel(std::string_view name) const;
  Result<std::vector<ModelInfo>> ListModels() const;  // By id.
  Result<CollectionInfo> GetCollection(CollectionId id) const;
  Result<CollectionInfo> FindCollection(std::string_view name) const;
  Result<std::vector<CollectionInfo>> ListCollections() const;  // By id.
  Result<CollectionStats> GetStats(CollectionId id) const;
  Result<std::string> GetSetting(std::string_view name) const;
  Result<Options> ListSettings() const;

  Result<Document> GetDocument(DocumentId id) const;
  Result<Document> GetDocumentBySource(CollectionId collection, std::string_view source) const;
  Result<std::string> GetText(const Digest& text_digest) const;
  // Bytes [begin, end) of the text. Errors: kInvalidArgument for a range outside of it.
  Result<std::string> GetTextRange(const Digest& text_digest, int64_t begin, int64_t end) const;

  Result<Chunk> GetChunk(ChunkId id) const;
  // Calls `visit` with each of them from the chunk `first` on, by ascending id, until one returns
  // an error, which is returned.
  using VisitVector = std::function<Status(ChunkId, std::span<const float>)>;
  Status ForEachVector(CollectionId collection, ModelId model, ChunkId first,
                       const VisitVector& visit) const;
  // The generation in which vectors of chunks of the collection were last replaced or removed
  // without their documents, by whatever model; 0 if they never were.
  Result<uint64_t> VectorsChangedAt(CollectionId collection) const;

  // The postings of the collection, whether or not they are current. This view must outlive them.
  std::unique_ptr<RowReader> Postings(CollectionId collection) const;
  // Whether they are those of the chunks in this view.
  Result<bool> ArePostingsCurrent(CollectionId collection) const;

  // Calls `visit` for each, by ascending id, until one returns an error, which is returned.
  // The documents' texts are not read.
  using VisitDocument = std::function<Status(const Document&)>;
  using VisitChunk = std::function<Status(const Chunk&)>;
  Status ForEachDocument(CollectionId collection, const VisitDocument& visit) const;
  Status ForEachChunk(CollectionId collection, const VisitChunk& visit) const;
  Status ForEachChunkOf(const Document& document, const VisitChunk& visit) const;
  // Those with ids in [first, end), of whatever collection, in one pass.
  Status ForEachChunkBetween(ChunkId first, ChunkId end, const VisitChunk& visit) const;
  // Each chunk with its text, by ascending id of the chunk.
  using VisitIndexedChunk = std::function<Status(const IndexedChunk&)>;
  Status ForEachIndexedChunk(CollectionId collection, const VisitIndexedChunk& visit) const;
  Status ForEachIndexedChunkOf(const Document& document, const VisitIndexedChunk& visit) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace intarsia::storage
