#include "storage/record_codec.h"

#include <cstring>
#include <utility>

#include "base/bytes.h"

namespace intarsia::storage {
namespace {

Status Damaged(std::string_view what, int64_t value) {
  return Status(StatusCode::kCorruption, std::string(what) + ": value=" + std::to_string(value));
}

// OK if the body was read without running out and to its end.
Digest ReadDigest(ByteReader* reader) {
  Digest digest;
  if (const std::string_view raw = reader->ReadBytes(sizeof(digest.bytes)); !raw.empty()) {
    std::memcpy(digest.bytes.data(), raw.data(), raw.size());
  }
  return digest;
}

void WriteOptions(const Options& options, ByteWriter* writer) {
  writer->Write(static_cast<uint64_t>(options.size()));
  for (const auto& [name, value] : options) {
    writer->WriteString(name);
    writer->WriteString(value);
  }
}

Options ReadOptions(ByteReader* reader) {
  Options options;
  const auto num_options = reader->Read<uint64_t>();
  for (uint64_t i = 0; i < num_options && !reader->failed(); ++i) {
    const std::string_view name = reader->ReadString();
    options.insert_or_assign(std::string(name), std::string(reader->ReadString()));
  }
  return options;
}

bool IsColumnType(ValueType type) { return type >= ValueType::kBool && type <= ValueType::kList; }

}  // namespace

std::string EncodeModel(const ModelInfo& model) {
  ByteWriter writer;
  writer.Write(model.id);
  writer.WriteString(model.name);
  writer.Write(static_cast<uint8_t>(model.type));
  writer.WriteString(model.path);
  writer.WriteBytes(model.weights_digest.view());
  writer.WriteString(model.architecture);
  WriteOptions(model.parameters, &writer);
  return std::move(writer).TakeBytes();
}

Result<ModelInfo> DecodeModel(std::string_view body) {
  ByteReader reader(body, "model record");
  ModelInfo model;
  model.id = reader.Read<uint64_t>();
  model.name = reader.ReadString();
  const auto type = reader.Read<uint8_t>();
  model.type = static_cast<ModelType>(type);
  model.path = reader.ReadString();
  model.weights_digest = ReadDigest(&reader);
  model.architecture = reader.ReadString();
  model.parameters = ReadOptions(&reader);
  INTARSIA_RETURN_IF_ERROR(reader.Finish());
  if (type < 1 || type > 3) return Damaged("unknown type of model", type);
  return model;
}

std::string EncodeCollection(const CollectionInfo& collection) {
  ByteWriter writer;
  writer.Write(collection.id);
  writer.WriteString(collection.name);
  writer.Write(static_cast<uint64_t>(collection.columns.size()));
  for (const Column& column : collection.columns) {
    writer.WriteString(column.name);
    writer.Write(static_cast<uint8_t>(column.type));
    writer.Write(static_cast<uint8_t>(column.item_type));
  }
  WriteOptions(collection.options, &writer);
  return std::move(writer).TakeBytes();
}

Result<CollectionInfo> DecodeCollection(std::string_view body) {
  ByteReader reader(body, "collection record");
  CollectionInfo collection;
  collection.id = reader.Read<uint64_t>();
  collection.name = reader.ReadString();
  const auto num_columns = reader.Read<uint64_t>();
  for (uint64_t i = 0; i < num_columns && !reader.failed(); ++i) {
    Column column;
    column.name = reader.ReadString();
    column.type = static_cast<ValueType>(reader.Read<uint8_t>());
    column.item_type = static_cast<ValueType>(reader.Read<uint8_t>());
    if (!reader.failed() && !(IsColumnType(column.type) && IsColumnType(column.item_type))) {
      return Damaged("unknown type of column", static_cast<int64_t>(column.type));
    }
    collection.columns.push_back(std::move(column));
  }
  collection.options = ReadOptions(&reader);
  INTARSIA_RETURN_IF_ERROR(reader.Finish());
  return collection;
}

std::string EncodeStats(const CollectionStats& stats) {
  ByteWriter writer;
  writer.Write(stats.generation);
  writer.Write(stats.num_documents);
  writer.Write(stats.num_chunks);
  writer.Write(stats.text_bytes);
  writer.Write(static_cast<uint64_t>(stats.vectors.size()));
  for (const CollectionStats::Vectors& row : stats.vectors) {
    writer.Write(row.model);
    writer.Write(row.dimension);
    writer.Write(row.num_vectors);
  }
  return std::move(writer).TakeBytes();
}

Result<CollectionStats> DecodeStats(std::string_view body) {
  ByteReader reader(body, "collection statistics");
  CollectionStats stats;
  stats.generation = reader.Read<uint64_t>();
  stats.num_documents = reader.Read<int64_t>();
  stats.num_chunks = reader.Read<int64_t>();
  stats.text_bytes = reader.Read<int64_t>();
  const auto num_rows = reader.Read<uint64_t>();
  for (uint64_t i = 0; i < num_rows && !reader.failed(); ++i) {
    CollectionStats::Vectors row;
    row.model = reader.Read<uint64_t>();
    row.dimension = reader.Read<int64_t>();
    row.num_vectors = reader.Read<int64_t>();
    stats.vectors.push_back(row);
  }
  INTARSIA_RETURN_IF_ERROR(reader.Finish());
  return stats;
}

Result<std::string> EncodeDocument(const Document& document) {
  ByteWriter writer;
  writer.Write(document.id);
  writer.Write(document.collection);
  writer.WriteString(document.source);
  writer.WriteString(document.title);
  writer.WriteString(document.media_type);
  INTARSIA_RETURN_IF_ERROR(WriteAttributes(document.metadata, &writer));
  writer.WriteBytes(document.text_digest.view());
  writer.Write(document.text_bytes);
  writer.Write(document.version);
  writer.Write(document.ingested_at_ms);
  writer.Write(document.first_chunk);
  writer.Write(document.num_chunks);
  return std::move(writer).TakeBytes();
}

Result<Document> DecodeDocument(std::string_view body) {
  ByteReader reader(body, "document record");
  Document document;
  document.id = reader.Read<uint64_t>();
  document.collection = reader.Read<uint64_t>();
  document.source = reader.ReadString();
  document.title = reader.ReadString();
  document.media_type = reader.ReadString();
  INTARSIA_ASSIGN_OR_RETURN(document.metadata, ReadAttributes(&reader));
  document.text_digest = ReadDigest(&reader);
  document.text_bytes = reader.Read<int64_t>();
  document.version = reader.Read<uint64_t>();
  document.ingested_at_ms = reader.Read<int64_t>();
  document.first_chunk = reader.Read<uint64_t>();
  document.num_chunks = reader.Read<int64_t>();
  INTARSIA_RETURN_IF_ERROR(reader.Finish());
  if (document.num_chunks < 0) return Damaged("negative number of chunks", document.num_chunks);
  return document;
}

std::string EncodeChunk(const Chunk& chunk) {
  ByteWriter writer;
  writer.Write(chunk.id);
  writer.Write(chunk.collection);
  writer.Write(chunk.document);
  writer.Write(chunk.ordinal);
  writer.Write(chunk.byte_begin);
  writer.Write(chunk.byte_end);
  writer.Write(static_cast<uint64_t>(chunk.heading_path.size()));
  for (const std::string& heading : chunk.heading_path) writer.WriteString(heading);
  writer.WriteString(chunk.chunker);
  return std::move(writer).TakeBytes();
}

Result<Chunk> DecodeChunk(std::string_view body) {
  ByteReader reader(body, "chunk record");
  Chunk chunk;
  chunk.id = reader.Read<uint64_t>();
  chunk.collection = reader.Read<uint64_t>();
  chunk.document = reader.Read<uint64_t>();
  chunk.ordinal = reader.Read<int64_t>();
  chunk.byte_begin = reader.Read<int64_t>();
  chunk.byte_end = reader.Read<int64_t>();
  const auto num_headings = reader.Read<uint64_t>();
  for (uint64_t i = 0; i < num_headings && !reader.failed(); ++i) {
    chunk.heading_path.emplace_back(reader.ReadString());
  }
  chunk.chunker = reader.ReadString();
  INTARSIA_RETURN_IF_ERROR(reader.Finish());
  if (chunk.byte_begin < 0 || chunk.byte_end < chunk.byte_begin) {
    return Damaged("a chunk ends before it begins", chunk.byte_begin);
  }
  return chunk;
}

std::string EncodeVector(std::span<const float> values) {
  return std::string(reinterpret_cast<const char*>(values.data()), values.size_bytes());
}
Result<std::vector<float>> DecodeVector(std::string_view body) {
  if (body.size() % sizeof(float) != 0) {
    return Damaged("a vector's bytes are not a multiple of its numbers'",
                   static_cast<int64_t>(body.size()));
  }
  std::vector<float> values(body.size() / sizeof(float));
  if (!body.empty()) std::memcpy(values.data(), body.data(), body.size());
  return values;
}

std::string EncodeKvEntry(const KvEntry& entry) {
  ByteWriter writer;
  writer.Write(entry.segment);
  writer.Write(entry.shape.num_tokens);
  writer.Write(entry.shape.quantizer);
  writer.Write(static_cast<uint32_t>(entry.extents.size()));
  for (const KvExtent& extent : entry.extents) {
    writer.Write(extent.offset);
    writer.Write(extent.num_bytes);
    writer.Write(extent.checksum.low);
    writer.Write(extent.checksum.high);
  }
  return std::move(writer).TakeBytes();
}

Result<KvEntry> DecodeKvEntry(const Digest& identity, std::string_view body) {
  // Together they keep the sum of an entry's bytes below 2^57.
  constexpr int64_t kOffsetMax = int64_t{1} << 40;
  constexpr uint32_t kLayersMax = 1 << 16;
  ByteReader reader(body, "kv entry");
  KvEntry entry;
  entry.identity = identity;
  entry.segment = reader.Read<uint64_t>();
  entry.shape.num_tokens = reader.Read<int64_t>();
  entry.shape.quantizer = reader.Read<uint32_t>();
  const auto num_layers = reader.Read<uint32_t>();
  if (num_layers > kLayersMax) return Damaged("a kv entry has too many layers", num_layers);
  entry.shape.num_layers = num_layers;
  for (uint32_t i = 0; i < num_layers && !reader.failed(); ++i) {
    KvExtent extent;
    extent.offset = reader.Read<int64_t>();
    extent.num_bytes = reader.Read<int64_t>();
    extent.checksum.low = reader.Read<uint64_t>();
    extent.checksum.high = reader.Read<uint64_t>();
    if (!reader.failed() && (extent.offset < kKvAlignment || extent.offset > kOffsetMax ||
                             extent.offset % kKvAlignment != 0)) {
      return Damaged("an extent begins where none can", extent.offset);
    }
    if (!reader.failed() && (extent.num_bytes < 1 || extent.num_bytes > kOffsetMax)) {
      return Damaged("an extent has a size that none can have", extent.num_bytes);
    }
    entry.extents.push_back(extent);
  }
  INTARSIA_RETURN_IF_ERROR(reader.Finish());
  return entry;
}

std::string EncodeKvUse(const KvUseRecord& use) {
  ByteWriter writer;
  writer.Write(use.last_use);
  writer.Write(use.num_uses);
  writer.Write(use.stored_at);
  writer.Write(use.collection);
  return std::move(writer).TakeBytes();
}

Result<KvUseRecord> DecodeKvUse(std::string_view body) {
  ByteReader reader(body, "kv use record");
  KvUseRecord use;
  use.last_use = reader.Read<uint64_t>();
  use.num_uses = reader.Read<uint64_t>();
  // Earlier programs wrote no more than this.
  if (body.size() > sizeof(use.last_use) + sizeof(use.num_uses)) {
    use.stored_at = reader.Read<int64_t>();
    use.collection = reader.Read<uint64_t>();
  }
  INTARSIA_RETURN_IF_ERROR(reader.Finish());
  return use;
}

std::string EncodeNextIds(const NextIds& ids) {
  ByteWriter writer;
  writer.Write(ids.model);
  writer.Write(ids.collection);
  writer.Write(ids.document);
  writer.Write(ids.chunk);
  return std::move(writer).TakeBytes();
}

Result<NextIds> DecodeNextIds(std::string_view body) {
  ByteReader reader(body, "id counters");
  NextIds ids;
  ids.model = reader.Read<uint64_t>();
  ids.collection = reader.Read<uint64_t>();
  ids.document = reader.Read<uint64_t>();
  ids.chunk = reader.Read<uint64_t>();
  INTARSIA_RETURN_IF_ERROR(reader.Finish());
  return ids;
}

std::string EncodeNumber(uint64_t number) {
  ByteWriter writer;
  writer.Write(number);
  return std::move(writer).TakeBytes();
}

Result<uint64_t> DecodeNumber(std::string_view body) {
  ByteReader reader(body, "number record");
  const auto number = reader.Read<uint64_t>();
  INTARSIA_RETURN_IF_ERROR(reader.Finish());
  return number;
}

}  // namespace intarsia::storage
