// Document and Chunk: what a collection holds, and NewDocument, the form in which they come in.
//
// Format: docs/formats/documents.md
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/hash.h"
#include "storage/ids.h"
#include "storage/value.h"

namespace intarsia::storage {

struct Document {
  DocumentId id = 0;
  CollectionId collection = 0;
  std::string source;  // A path, a URL or a caller's id; unique within the collection.
  std::string title;
  std::string media_type;
  Attributes metadata;
  Digest text_digest;  // Names the text: DigestOf(text).
  int64_t text_bytes = 0;
  uint64_t version = 0;  // 1 when added, one more with each replacement. The id stays.
  int64_t ingested_at_ms = 0;
  ChunkId first_chunk = 0;  // Chunks are numbered without gaps, in the order of their ordinals.
  int64_t num_chunks = 0;

  bool operator==(const Document&) const = default;
};

struct Chunk {
  ChunkId id = 0;
  CollectionId collection = 0;
  DocumentId document = 0;
  int64_t ordinal = 0;  // From 0, in the order of the text.
  // A range of the document's text, in bytes.
  int64_t byte_begin = 0;
  int64_t byte_end = 0;
  std::vector<std::string> heading_path;  // From the outermost heading inwards.
  std::string chunker;                    // The chunker's signature: its name and all options.

  bool operator==(const Chunk&) const = default;
};

struct Embedding {
  ModelId model = 0;
  std::vector<float> values;
};

struct NewChunk {
  int64_t byte_begin = 0;
  int64_t byte_end = 0;
  std::vector<std::string> heading_path;
  std::vector<Embedding> vectors;  // At most one per model.
};

struct NewDocument {
  std::string source;
  std::string title;
  std::string media_type;
  Attributes metadata;
  std::string text;  // Well-formed UTF-8, at most 1 GiB; stored verbatim.
  int64_t ingested_at_ms = 0;
  std::string chunker;
  std::vector<NewChunk> chunks;
};

struct StoredDocument {
  enum class Change : uint8_t { kAdded, kReplaced };

  DocumentId id = 0;
  uint64_t version = 0;
  ChunkId first_chunk = 0;
  Change change = Change::kAdded;
};

}  // namespace intarsia::storage
