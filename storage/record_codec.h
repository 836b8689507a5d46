// Encode and decode: the bodies of storage's records.
//
// Bodies stand in the envelope of storage/record.h, whose checksum has been verified before one is
// decoded; decoding checks every length all the same, and that nothing is left over.
// Errors of all Decode functions: kCorruption. Of Encode: kInvalidArgument where a status is given.
//
// Thread safety: all functions may be called concurrently.
// Format: docs/formats/catalog.md, docs/formats/documents.md, docs/formats/kv_segments.md
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "storage/catalog.h"
#include "storage/document.h"
#include "storage/kv_entry.h"

namespace intarsia::storage {

std::string EncodeModel(const ModelInfo& model);
Result<ModelInfo> DecodeModel(std::string_view body);

std::string EncodeCollection(const CollectionInfo& collection);
Result<CollectionInfo> DecodeCollection(std::string_view body);

std::string EncodeStats(const CollectionStats& stats);
Result<CollectionStats> DecodeStats(std::string_view body);

Result<std::string> EncodeDocument(const Document& document);
Result<Document> DecodeDocument(std::string_view body);

std::string EncodeChunk(const Chunk& chunk);
Result<Chunk> DecodeChunk(std::string_view body);

std::string EncodeVector(std::span<const float> values);
Result<std::vector<float>> DecodeVector(std::string_view body);

// The identity is not part of the body: it is the key.
std::string EncodeKvEntry(const KvEntry& entry);
Result<KvEntry> DecodeKvEntry(const Digest& identity, std::string_view body);

struct KvUseRecord {
  uint64_t last_use = 0;
  uint64_t num_uses = 0;
  int64_t stored_at = 0;        // Seconds since 1970; 0: not known.
  CollectionId collection = 0;  // That it was stored for; 0: none, or not known.

  bool operator==(const KvUseRecord&) const = default;
};
std::string EncodeKvUse(const KvUseRecord& use);
Result<KvUseRecord> DecodeKvUse(std::string_view body);

// The next number of each kind; those below were given.
struct NextIds {
  ModelId model = 1;
  CollectionId collection = 1;
  DocumentId document = 1;
  ChunkId chunk = 1;
  bool operator==(const NextIds&) const = default;
};
std::string EncodeNextIds(const NextIds& ids);
Result<NextIds> DecodeNextIds(std::string_view body);

// A count, an id or a sequence number that stands alone.
std::string EncodeNumber(uint64_t number);
Result<uint64_t> DecodeNumber(std::string_view body);

}  // namespace intarsia::storage
