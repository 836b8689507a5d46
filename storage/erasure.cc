#include "storage/erasure.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/counted.h"
#include "storage/database.h"
#include "storage/database_core.h"
#include "storage/kv_core.h"
#include "storage/kv_refs.h"

namespace intarsia::storage {
namespace {

// More pieces than this would take more memory than the search is worth; longer texts give every
// second, third, ... piece then.
constexpr int64_t kTextPiecesMax = int64_t{1} << 22;
constexpr int64_t kCachePiecesMax = int64_t{1} << 21;
// Pieces of one layer: it lies in one place, so a few tell whether it is still there.
constexpr int64_t kLayerPieces = 16;
constexpr int64_t kWindowBytes = int64_t{1} << 20;
// A statement that began before may hold old rows, a flush may be at work: then once more.
constexpr int kAttempts = 3;

// Whether all of [begin, end) lies in one of the extents, which are in order.
bool LiesIn(const std::vector<KvExtent>& extents, int64_t begin, int64_t end) {
  const auto after = std::ranges::upper_bound(extents, begin, {}, &KvExtent::offset);
  if (after == extents.begin()) return false;
  const KvExtent& extent = *std::prev(after);
  return end <= extent.offset + extent.num_bytes;
}

}  // namespace

Result<EraseReport> Database::Erase(std::span<const DocumentId> ids, const EraseOptions& options) {
  INTARSIA_RETURN_IF_ERROR(CheckWritable());
  return Eraser(this, core_.get(), options).Run(ids);
}

Status Eraser::CheckCancel() const {
  return options_.cancel == nullptr ? Status::Ok() : options_.cancel->Check();
}

Result<EraseReport> Eraser::Run(std::span<const DocumentId> ids) {
  INTARSIA_RETURN_IF_ERROR(Gather(ids));
  if (documents_.empty()) return report_;
  INTARSIA_RETURN_IF_ERROR(Spare());
  INTARSIA_ASSIGN_OR_RETURN(const int64_t bytes_before, FileBytes());
  INTARSIA_ASSIGN_OR_RETURN(report_.num_documents, database_->DeleteDocuments(ids));
  Trace trace;
  for (int i = 0; i < kAttempts; ++i) {
    Status status = Rewrite();
    if (status.ok()) {
      Result<Trace> proved = Prove();
      status = proved.status();
      if (status.ok()) trace = *std::move(proved);
    }
    if (!status.ok()) {
      return Status(status.code(), Counted(report_.num_documents, "document") +
                                       " deleted, but it is not proved that nothing is left: " +
                                       std::string(status.message()) +
                                       "; COMPACT DATABASE rewrites the files");
    }
    if (trace.empty()) break;
  }
  if (!trace.empty()) {
    return Status(StatusCode::kUnavailable,
                  Counted(report_.num_documents, "document") + " deleted, but " + trace +
                      "; end the statements that began before, then run COMPACT DATABASE");
  }
  INTARSIA_ASSIGN_OR_RETURN(const int64_t bytes_after, FileBytes());
  report_.bytes_freed = std::max<int64_t>(0, bytes_before - bytes_after);
  return report_;
}

Status Eraser::Gather(std::span<const DocumentId> ids) {
  const ReadView view = database_->Read();
  int64_t text_bytes = 0;
  for (const DocumentId id : ids) {
    Result<Document> document = view.GetDocument(id);
    if (document.status().code() == StatusCode::kNotFound) continue;
    INTARSIA_RETURN_IF_ERROR(document.status());
    chunks_[document->first_chunk] =
        document->first_chunk + static_cast<ChunkId>(document->num_chunks);
    text_bytes += document->text_bytes;
    documents_.emplace(id, *std::move(document));
  }
  const int64_t stride = 1 + text_bytes / ByteNeedles::kPieceBytes / kTextPiecesMax;
  for (const auto& [id, document] : documents_) {
    INTARSIA_RETURN_IF_ERROR(CheckCancel());
    INTARSIA_RETURN_IF_ERROR(AddText(document, stride));
    INTARSIA_RETURN_IF_ERROR(AddCaches(document));
  }
  needles_.Build();
  return Status::Ok();
}

Status Eraser::AddText(const Document& document, int64_t stride) {
  INTARSIA_ASSIGN_OR_RETURN(const std::string text,
                            database_->Read().GetText(document.text_digest));
  needles_.Add(text, stride);
  return Status::Ok();
}

Status Eraser::AddCaches(const Document& document) {
  KvCore* const kv = core_->kv->core();
  INTARSIA_ASSIGN_OR_RETURN(const std::set<Digest> identities,
                            kv->CachesBelow(KvDocumentPrefix(document.collection, document.id)));
  std::vector<uint8_t> payload;
  for (const Digest& identity : identities) {
    if (!caches_.insert(identity).second) continue;
    const Result<KvHandle> handle = kv->Peek(identity);
    for (int64_t layer = 0; handle.ok() && layer < handle->shape().num_layers; ++layer) {
      if (std::ssize(caches_) * handle->shape().num_layers * kLayerPieces > kCachePiecesMax) break;
      payload.resize(static_cast<size_t>(handle->layer_bytes(layer)));
      // What cannot be read is damaged and dropped, and then its segment is rewritten like others.
      if (!kv->ReadLayer(handle->pin(), layer, payload).ok()) break;
      const std::string_view bytes(reinterpret_cast<const char*>(payload.data()), payload.size());
      const int64_t num_pieces = std::ssize(bytes) / ByteNeedles::kPieceBytes;
      needles_.Add(bytes, std::max<int64_t>(1, num_pieces / kLayerPieces));
    }
  }
  report_.num_caches = std::ssize(caches_);
  return Status::Ok();
}

Status Eraser::Spare() {
  const ReadView view = database_->Read();
  INTARSIA_ASSIGN_OR_RETURN(const auto collections, view.ListCollections());
  for (const CollectionInfo& collection : collections) {
    const auto visit = [&](const Document& document) -> Status {
      INTARSIA_RETURN_IF_ERROR(CheckCancel());
      if (documents_.contains(document.id)) return Status::Ok();
      INTARSIA_ASSIGN_OR_RETURN(const std::string text, view.GetText(document.text_digest));
      needles_.Drop(text);
      INTARSIA_ASSIGN_OR_RETURN(const std::string record, EncodeDocument(document));
      needles_.Drop(record);
      return view.ForEachChunkOf(document, [&](const Chunk& chunk) {
        needles_.Drop(EncodeChunk(chunk));
        return Status::Ok();
      });
    };
    INTARSIA_RETURN_IF_ERROR(view.ForEachDocument(collection.id, visit));
  }
  INTARSIA_RETURN_IF_ERROR(SpareCatalog());
  report_.num_pieces = needles_.num_pieces();
  report_.num_shared = needles_.num_dropped();
  return Status::Ok();
}

Status Eraser::SpareCatalog() {
  RowCursor row = core_->rocks->Scan(Family::kCatalog, std::string(1, '\0'), "\xff", nullptr);
  for (; row.Valid(); row.Next()) {
    needles_.Drop(row.key());
    if (const auto body = row.Body(); body.ok()) needles_.Drop(*body);
  }
  return row.status();
}

Status Eraser::Rewrite() {
  INTARSIA_RETURN_IF_ERROR(CheckCancel());
  if (options_.drop_copies) {
    std::set<CollectionId> collections;
    for (const auto& [id, document] : documents_) collections.insert(document.collection);
    INTARSIA_RETURN_IF_ERROR(options_.drop_copies(collections));
  }
  // However small a share of a segment it is.
  constexpr double kAnyDeadByte = std::numeric_limits<double>::min();
  INTARSIA_RETURN_IF_ERROR(core_->kv->Compact({.dead_share_min = kAnyDeadByte}).status());
  return core_->rocks->Compact().status();
}

Result<Eraser::Trace> Eraser::Prove() {
  report_.num_files = 0;
  report_.num_bytes = 0;
  report_.num_rows = 0;
  const auto live = core_->kv->core()->LiveExtents();
  INTARSIA_ASSIGN_OR_RETURN(const std::vector<std::string> paths, ListFiles(core_->path));
  for (const std::string& path : paths) {
    const std::string name = path.substr(path.rfind('/') + 1);
    // RocksDB writes a new one when it is opened, and not before.
    if (name.starts_with("MANIFEST-")) continue;
    const auto extents = live.find(name);
    INTARSIA_ASSIGN_OR_RETURN(
        Trace trace,
        SearchFile(path, extents == live.end() ? std::vector<KvExtent>() : extents->second));
    if (trace.empty() && path.ends_with(".sst")) {
      INTARSIA_ASSIGN_OR_RETURN(trace, SearchTable(path));
    }
    if (!trace.empty()) return trace;
  }
  return Trace();
}

Result<Eraser::Trace> Eraser::SearchFile(const std::string& path,
                                         const std::vector<KvExtent>& live) {
  Result<std::unique_ptr<RandomAccessFile>> file = core_->options.file_system->OpenForReading(path);
  if (file.status().code() == StatusCode::kNotFound) return Trace();  // It went meanwhile.
  INTARSIA_RETURN_IF_ERROR(file.status());
  INTARSIA_ASSIGN_OR_RETURN(const int64_t size, (*file)->Size());
  report_.num_files += 1;
  report_.num_bytes += size;
  std::string window;
  int64_t trace = -1;
  // Windows overlap, so that a piece on their border is whole in one of them.
  for (int64_t begin = 0; begin < size && trace < 0; begin += kWindowBytes) {
    INTARSIA_RETURN_IF_ERROR(CheckCancel());
    const int64_t end = std::min(size, begin + kWindowBytes + ByteNeedles::kPieceBytes - 1);
    window.resize(static_cast<size_t>(end - begin));
    INTARSIA_RETURN_IF_ERROR((*file)->ReadAt(begin, end - begin, window.data()));
    needles_.Find(window, [&](int64_t offset) {
      const int64_t at = begin + offset;
      if (!LiesIn(live, at, at + ByteNeedles::kPieceBytes)) trace = at;
      return trace < 0;
    });
  }
  if (trace < 0) return Trace();
  return Trace("bytes of them are left: file=" + path + " offset=" + std::to_string(trace));
}

Result<Eraser::Trace> Eraser::SearchTable(const std::string& path) {
  Trace trace;
  const auto visit = [&](std::string_view family, std::string_view key,
                         std::string_view value) -> Status {
    const auto found = [&](int64_t) {
      trace = "bytes of them are left in a row: file=" + path + " family=" + std::string(family);
      return false;
    };
    needles_.Find(key, found);
    needles_.Find(value, found);
    if (trace.empty() && IsOfDeleted(family, key)) {
      trace = "a row of them is left: file=" + path + " family=" + std::string(family);
    }
    return CheckCancel();
  };
  const Result<Rocks::TableScan> scan = Rocks::ScanTable(path, visit);
  if (scan.status().code() == StatusCode::kNotFound) return Trace();
  INTARSIA_RETURN_IF_ERROR(scan.status());
  report_.num_rows += scan->num_rows;
  if (trace.empty() && scan->num_hidden > 0) {
    trace = "rows that were overwritten are left: file=" + path;
  }
  return trace;
}

bool Eraser::IsOfDeleted(std::string_view family, std::string_view key) const {
  constexpr size_t kId = 8;
  const auto is_document = [&](size_t offset) {
    return key.size() >= offset + kId && documents_.contains(IdInKey(key, offset));
  };
  const auto is_chunk = [&](size_t offset) {
    if (key.size() < offset + kId) return false;
    const ChunkId id = IdInKey(key, offset);
    const auto after = chunks_.upper_bound(id);
    return after != chunks_.begin() && id < std::prev(after)->second;
  };
  if (family == FamilyName(Family::kDocuments)) {
    if (key.starts_with('d')) return is_document(1);
    return key.starts_with('c') && is_document(1 + kId);
  }
  if (family == FamilyName(Family::kChunks)) return is_chunk(1);
  if (family == FamilyName(Family::kVectors)) return is_chunk(1 + 2 * kId);
  return family == FamilyName(Family::kKvRefs) && key.starts_with('d') && is_document(1 + kId);
}

Result<std::vector<std::string>> Eraser::ListFiles(const std::string& directory) const {
  std::vector<std::string> paths;
  INTARSIA_ASSIGN_OR_RETURN(const std::vector<DirectoryEntry> entries,
                            core_->options.file_system->List(directory));
  for (const DirectoryEntry& entry : entries) {
    const std::string path = directory + "/" + entry.name;
    if (!entry.is_directory) {
      paths.push_back(path);
    } else if (!entry.is_link) {
      INTARSIA_ASSIGN_OR_RETURN(const std::vector<std::string> below, ListFiles(path));
      paths.insert(paths.end(), below.begin(), below.end());
    }
  }
  return paths;
}

Result<int64_t> Eraser::FileBytes() const {
  INTARSIA_ASSIGN_OR_RETURN(const std::vector<std::string> paths, ListFiles(core_->path));
  int64_t sum = 0;
  for (const std::string& path : paths) {
    const auto file = core_->options.file_system->OpenForReading(path);
    if (!file.ok()) continue;  // It went meanwhile.
    if (const Result<int64_t> size = (*file)->Size(); size.ok()) sum += *size;
  }
  return sum;
}

}  // namespace intarsia::storage
