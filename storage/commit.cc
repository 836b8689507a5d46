#include "storage/commit.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "storage/kv_core.h"
#include "storage/postings.h"

namespace intarsia::storage {

Commit::Commit(DatabaseCore* core)
    : core_(core),
      lock_(core->commit_mutex),
      batch_(core->rocks.get()),
      kv_removal_(core->rocks.get(), &batch_) {}

Result<CollectionStats*> Commit::Stats(CollectionId collection) {
  if (const auto found = stats_.find(collection); found != stats_.end()) return &found->second;
  const Result<std::string> body = core_->rocks->Get(Family::kMeta, StatsKey(collection), nullptr);
  if (!body.ok() && body.status().code() == StatusCode::kNotFound) {
    return Status(StatusCode::kNotFound, "no such collection: id=" + std::to_string(collection));
  }
  INTARSIA_RETURN_IF_ERROR(body.status());
  INTARSIA_ASSIGN_OR_RETURN(CollectionStats stats, DecodeStats(*body));
  return &(stats_[collection] = std::move(stats));
}

Result<Commit::Postings*> Commit::PostingsOf(CollectionId collection) {
  if (const auto found = postings_.find(collection); found != postings_.end()) {
    return &found->second;
  }
  Postings postings;
  if (core_->options.chunk_indexer != nullptr) {
    INTARSIA_ASSIGN_OR_RETURN(
        postings.is_current,
        ArePostingsCurrent(*core_->rocks, nullptr, collection, stats_.at(collection)));
  }
  return &(postings_[collection] = std::move(postings));
}

Result<ChunkIndexChange*> Commit::ChunkIndexOf(CollectionId collection) {
  INTARSIA_ASSIGN_OR_RETURN(Postings * postings, PostingsOf(collection));
  if (!postings->is_current || postings->change != nullptr) return postings->change.get();
  const Result<std::string> body =
      core_->rocks->Get(Family::kCatalog, CollectionKey(collection), nullptr);
  if (!body.ok() && body.status().code() == StatusCode::kNotFound) {
    postings->is_current = false;  // It is being dropped, and its postings are gone.
    return nullptr;
  }
  INTARSIA_RETURN_IF_ERROR(body.status());
  INTARSIA_ASSIGN_OR_RETURN(const CollectionInfo info, DecodeCollection(*body));
  Result<std::unique_ptr<ChunkIndexChange>> change = core_->options.chunk_indexer->Begin(info);
  if (!change.ok()) Log(LogLevel::kWarning, "postings become stale: " + change.status().ToString());
  if (change.ok()) postings->change = *std::move(change);
  postings->is_current = postings->change != nullptr;
  return postings->change.get();
}

void Commit::RemoveFromChunkIndex(const Document& document, ChunkIndexChange* index) {
  const auto remove = [index](const IndexedChunk& chunk) {
    index->Remove(chunk);
    return Status::Ok();
  };
  if (const Status status = ReadView(core_).ForEachIndexedChunkOf(document, remove); !status.ok()) {
    Log(LogLevel::kWarning, "postings become stale: " + status.ToString());
    Postings& postings = postings_.at(document.collection);
    postings.is_current = false;
    postings.change.reset();
  }
}

Status Commit::StagePostings(uint64_t sequence) {
  for (const auto& [collection, stats] : stats_) {
    INTARSIA_ASSIGN_OR_RETURN(Postings * postings, PostingsOf(collection));
    if (postings->change != nullptr) {
      StagedPostings staged(collection);
      const PostingRows rows(core_->rocks.get(), nullptr, collection);
      if (const Status status = postings->change->Finish(rows, &staged); status.ok()) {
        staged.MoveInto(&batch_);
      } else {
        Log(LogLevel::kWarning, "postings become stale: " + status.ToString());
        postings->is_current = false;
      }
    }
    // Without a mark of this generation they are stale, whoever writes next.
    if (postings->is_current) {
      batch_.Put(Family::kPostings, PostingsMarkKey(collection), EncodeNumber(sequence));
    } else if (core_->options.chunk_indexer != nullptr) {
      batch_.Delete(Family::kPostings, PostingsMarkKey(collection));
    }
  }
  return Status::Ok();
}

Result<StoredDocument> Commit::PutDocument(CollectionId collection, const NewDocument& content,
                                           const Digest& text_digest) {
  INTARSIA_ASSIGN_OR_RETURN(CollectionStats * stats, Stats(collection));
  INTARSIA_RETURN_IF_ERROR(ChunkIndexOf(collection).status());
  Document document;
  StoredDocument stored;
  const std::string source_key = SourceKey(collection, content.source);
  const Result<std::string> previous = core_->rocks->Get(Family::kDocuments, source_key, nullptr);
  if (previous.ok()) {
    INTARSIA_ASSIGN_OR_RETURN(document.id, DecodeNumber(*previous));
    INTARSIA_ASSIGN_OR_RETURN(
        const std::string body,
        core_->rocks->Get(Family::kDocuments, DocumentKey(document.id), nullptr));
    INTARSIA_ASSIGN_OR_RETURN(const Document replaced, DecodeDocument(body));
    INTARSIA_RETURN_IF_ERROR(RemoveContent(replaced));
    document.version = replaced.version;
    stored.change = StoredDocument::Change::kReplaced;
  } else if (previous.status().code() == StatusCode::kNotFound) {
    document.id = core_->next_ids.document++;
    batch_.Put(Family::kDocuments, source_key, EncodeNumber(document.id));
    batch_.PutKey(Family::kDocuments, ListingKey(collection, document.id));
    stats->num_documents += 1;
  } else {
    return previous.status();
  }
  document.version += 1;
  document.collection = collection;
  document.source = content.source;
  document.title = content.title;
  document.media_type = content.media_type;
  document.metadata = content.metadata;
  document.text_digest = text_digest;
  document.text_bytes = static_cast<int64_t>(content.text.size());
  document.ingested_at_ms = content.ingested_at_ms;
  document.first_chunk = core_->next_ids.chunk;
  document.num_chunks = static_cast<int64_t>(content.chunks.size());
  core_->next_ids.chunk += content.chunks.size();

  INTARSIA_ASSIGN_OR_RETURN(const std::string body, EncodeDocument(document));
  batch_.Put(Family::kDocuments, DocumentKey(document.id), body);
  TextChange& text = texts_[text_digest];
  text.delta += 1;
  text.text = content.text;
  text_bytes_ += document.text_bytes;
  stats->text_bytes += document.text_bytes;
  INTARSIA_RETURN_IF_ERROR(AddChunks(document, content));
  stored.id = document.id;
  stored.version = document.version;
  stored.first_chunk = document.first_chunk;
  return stored;
}

Status Commit::AddChunks(const Document& document, const NewDocument& content) {
  INTARSIA_ASSIGN_OR_RETURN(CollectionStats * stats, Stats(document.collection));
  stats->num_chunks += document.num_chunks;
  INTARSIA_ASSIGN_OR_RETURN(ChunkIndexChange * index, ChunkIndexOf(document.collection));
  Chunk chunk{.id = document.first_chunk,
              .collection = document.collection,
              .document = document.id,
              .heading_path = {},
              .chunker = content.chunker};
  for (const NewChunk& row : content.chunks) {
    chunk.byte_begin = row.byte_begin;
    chunk.byte_end = row.byte_end;
    chunk.heading_path = row.heading_path;
    batch_.Put(Family::kChunks, ChunkKey(chunk.id), EncodeChunk(chunk));
    if (index != nullptr) {
      index->Add({.id = chunk.id,
                  .title = document.title,
                  .heading_path = chunk.heading_path,
                  .text = std::string_view(content.text)
                              .substr(static_cast<size_t>(chunk.byte_begin),
                                      static_cast<size_t>(chunk.byte_end - chunk.byte_begin))});
    }
    for (const Embedding& embedding : row.vectors) {
      INTARSIA_RETURN_IF_ERROR(AddVector(document.collection, chunk.id, embedding));
    }
    chunk.id += 1;
    chunk.ordinal += 1;
  }
  return Status::Ok();
}

Status Commit::AddVector(CollectionId collection, ChunkId chunk, const Embedding& embedding) {
  INTARSIA_RETURN_IF_ERROR(CheckModel(embedding.model));
  INTARSIA_ASSIGN_OR_RETURN(
      CollectionStats::Vectors * row,
      VectorRow(collection, embedding.model, static_cast<int64_t>(embedding.values.size())));
  row->num_vectors += 1;
  batch_.Put(Family::kVectors, VectorKey(embedding.model, collection, chunk),
             EncodeVector(embedding.values));
  return Status::Ok();
}

Status Commit::PutVector(CollectionId collection, ModelId model, ChunkId chunk,
                         std::span<const float> values) {
  INTARSIA_RETURN_IF_ERROR(CheckModel(model));
  INTARSIA_ASSIGN_OR_RETURN(CollectionStats::Vectors * row,
                            VectorRow(collection, model, static_cast<int64_t>(values.size())));
  const std::string key = VectorKey(model, collection, chunk);
  INTARSIA_ASSIGN_OR_RETURN(const bool exists, core_->rocks->Exists(Family::kVectors, key));
  if (!exists) row->num_vectors += 1;
  MarkVectorsChanged(collection);
  batch_.Put(Family::kVectors, key, EncodeVector(values));
  return Status::Ok();
}

Status Commit::CheckModel(ModelId id) {
  if (models_.contains(id)) return Status::Ok();
  const Result<std::string> body = core_->rocks->Get(Family::kCatalog, ModelKey(id), nullptr);
  if (!body.ok() && body.status().code() == StatusCode::kNotFound) {
    return Status(StatusCode::kNotFound, "no such model: id=" + std::to_string(id));
  }
  INTARSIA_RETURN_IF_ERROR(body.status());
  INTARSIA_ASSIGN_OR_RETURN(const ModelInfo model, DecodeModel(*body));
  if (model.type != ModelType::kEmbedding) {
    return Status(StatusCode::kInvalidArgument,
                  "vectors belong to an embedding model, and this is none: " + model.name);
  }
  models_[id] = true;
  return Status::Ok();
}

Result<CollectionStats::Vectors*> Commit::VectorRow(CollectionId collection, ModelId model,
                                                    int64_t dimension) {
  INTARSIA_ASSIGN_OR_RETURN(CollectionStats * stats, Stats(collection));
  auto row = std::find_if(stats->vectors.begin(), stats->vectors.end(),
                          [&](const auto& candidate) { return candidate.model >= model; });
  if (row == stats->vectors.end() || row->model != model) {
    row = stats->vectors.insert(row, {.model = model, .dimension = dimension, .num_vectors = 0});
  }
  if (row->num_vectors == 0) row->dimension = dimension;
  if (dimension < 1 || row->dimension != dimension) {
    return Status(StatusCode::kInvalidArgument,
                  "a vector of another dimension: got=" + std::to_string(dimension) + " want=" +
                      std::to_string(row->dimension) + " model=" + std::to_string(model));
  }
  return &*row;
}

Status Commit::RemoveDocument(const Document& document) {
  INTARSIA_ASSIGN_OR_RETURN(CollectionStats * stats, Stats(document.collection));
  INTARSIA_RETURN_IF_ERROR(ChunkIndexOf(document.collection).status());
  INTARSIA_RETURN_IF_ERROR(RemoveContent(document));
  stats->num_documents -= 1;
  batch_.Delete(Family::kDocuments, DocumentKey(document.id));
  batch_.Delete(Family::kDocuments, SourceKey(document.collection, document.source));
  batch_.Delete(Family::kDocuments, ListingKey(document.collection, document.id));
  return Status::Ok();
}

Status Commit::RemoveContent(const Document& document) {
  INTARSIA_ASSIGN_OR_RETURN(CollectionStats * stats, Stats(document.collection));
  INTARSIA_ASSIGN_OR_RETURN(ChunkIndexChange * index, ChunkIndexOf(document.collection));
  if (index != nullptr) RemoveFromChunkIndex(document, index);
  texts_[document.text_digest].delta -= 1;
  stats->text_bytes -= document.text_bytes;
  stats->num_chunks -= document.num_chunks;
  INTARSIA_RETURN_IF_ERROR(
      kv_removal_.RemoveOwners(KvDocumentPrefix(document.collection, document.id)));
  const ChunkId end = document.first_chunk + static_cast<uint64_t>(document.num_chunks);
  for (ChunkId id = document.first_chunk; id < end; ++id) {
    batch_.Delete(Family::kChunks, ChunkKey(id));
  }
  for (CollectionStats::Vectors& row : stats->vectors) {
    RowCursor vector = core_->rocks->Scan(
        Family::kVectors, VectorKey(row.model, document.collection, document.first_chunk),
        VectorKey(row.model, document.collection, end), nullptr);
    for (; vector.Valid(); vector.Next()) {
      batch_.Delete(Family::kVectors, vector.key());
      row.num_vectors -= 1;
    }
    INTARSIA_RETURN_IF_ERROR(vector.status());
  }
  return Status::Ok();
}

Status Commit::StageTexts() {
  for (const auto& [digest, change] : texts_) {
    if (change.delta == 0) continue;
    uint64_t count = 0;
    const Result<std::string> body =
        core_->rocks->Get(Family::kText, TextCountKey(digest), nullptr);
    if (body.ok()) {
      INTARSIA_ASSIGN_OR_RETURN(count, DecodeNumber(*body));
    } else if (body.status().code() != StatusCode::kNotFound) {
      return body.status();
    }
    const int64_t left = static_cast<int64_t>(count) + change.delta;
    if (left < 0) {
      return Status(StatusCode::kCorruption,
                    "a text is used by fewer documents than refer to it: digest=" + digest.ToHex() +
                        " count=" + std::to_string(count));
    }
    if (left == 0) {
      batch_.Delete(Family::kText, TextKey(digest));
      batch_.Delete(Family::kText, TextCountKey(digest));
      continue;
    }
    if (count == 0) batch_.Put(Family::kText, TextKey(digest), change.text);
    batch_.Put(Family::kText, TextCountKey(digest), EncodeNumber(static_cast<uint64_t>(left)));
  }
  return Status::Ok();
}

Status Commit::Finish(Durability durability) {
  INTARSIA_RETURN_IF_ERROR(StageTexts());
  INTARSIA_RETURN_IF_ERROR(kv_removal_.Finish());
  // Spent also if the write fails, because the disk may yet turn out to hold it.
  const uint64_t sequence = ++core_->last_commit;
  INTARSIA_RETURN_IF_ERROR(StagePostings(sequence));
  for (auto& [collection, stats] : stats_) {
    stats.generation = sequence;
    std::erase_if(stats.vectors, [](const auto& row) { return row.num_vectors == 0; });
    batch_.Put(Family::kMeta, StatsKey(collection), EncodeStats(stats));
  }
  for (const CollectionId collection : vectors_changed_) {
    batch_.Put(Family::kMeta, VectorsChangedKey(collection), EncodeNumber(sequence));
  }
  batch_.Put(Family::kMeta, IdsKey(), EncodeNextIds(core_->next_ids));
  batch_.Put(Family::kMeta, CommitKey(), EncodeNumber(sequence));
  INTARSIA_RETURN_IF_ERROR(core_->rocks->Write(&batch_, durability));
  core_->kv->core()->Forget(kv_removal_.gone());
  if (durability != Durability::kSync) return Status::Ok();
  // The commit stands without its mark, which is a second witness.
  if (const Status status = core_->mark->Write(sequence); !status.ok()) {
    Log(LogLevel::kWarning, status.ToString());
  }
  return Status::Ok();
}

}  // namespace intarsia::storage
