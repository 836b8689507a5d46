#include "storage/database_checker.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "storage/kv_core.h"
#include "storage/postings.h"

namespace intarsia::storage {
namespace {

constexpr int64_t kFindingsMax = 10'000;
constexpr const char* kRestore = "restore a backup";

Status Wrong(const std::string& what) { return Status(StatusCode::kCorruption, what); }

std::string NameOf(const CollectionInfo& collection, const std::string& source) {
  return "document " + source + " of collection " + collection.name;
}

// The counts that differ, each as it is stored and as it is; empty if none does. The generation is
// no count: every commit changes it.
std::string DifferingCounts(const CollectionStats& stored, const CollectionStats& held,
                            const std::vector<ModelInfo>& models) {
  std::string text;
  const auto compare = [&text](const std::string& name, int64_t a, int64_t b) {
    if (a == b) return;
    text +=
        (text.empty() ? "" : ", ") + name + "=" + std::to_string(a) + " held=" + std::to_string(b);
  };
  compare("documents", stored.num_documents, held.num_documents);
  compare("chunks", stored.num_chunks, held.num_chunks);
  compare("text_bytes", stored.text_bytes, held.text_bytes);
  // By model: how many, and their dimension if there are any.
  using Vectors = std::pair<int64_t, int64_t>;
  std::map<ModelId, std::pair<Vectors, Vectors>> both;
  for (const auto& row : stored.vectors) {
    if (row.num_vectors != 0) both[row.model].first = {row.num_vectors, row.dimension};
  }
  for (const auto& row : held.vectors) {
    if (row.num_vectors != 0) both[row.model].second = {row.num_vectors, row.dimension};
  }
  for (const auto& [id, vectors] : both) {
    const auto model = std::ranges::find(models, id, &ModelInfo::id);
    const std::string of =
        " of model " + (model == models.end() ? std::to_string(id) : model->name);
    compare("vectors" + of, vectors.first.first, vectors.second.first);
    const bool are_there = vectors.first.first != 0 && vectors.second.first != 0;
    if (are_there) compare("dimension" + of, vectors.first.second, vectors.second.second);
  }
  return text;
}

}  // namespace

void DatabaseChecker::Find(CheckFinding finding) {
  ++report_.num_findings;
  // The remedy stands beside it.
  if (finding.problem.ends_with(kCheckRemedy)) {
    finding.problem.resize(finding.problem.size() - kCheckRemedy.size());
  }
  if (std::ssize(report_.findings) < kFindingsMax) report_.findings.push_back(std::move(finding));
}

void DatabaseChecker::FindDerived(std::string object, std::string problem) {
  const bool is_repaired = commit_ != nullptr;
  has_repairs_ = has_repairs_ || is_repaired;
  Find({.object = std::move(object),
        .problem = std::move(problem),
        .remedy = is_repaired ? "repaired" : "REPAIR DATABASE",
        .is_repaired = is_repaired});
}

Status DatabaseChecker::Progress(std::string_view stage, int64_t done, int64_t total) const {
  if (options_.on_progress) options_.on_progress(stage, done, std::max(done, total));
  return options_.cancel == nullptr ? Status::Ok() : options_.cancel->Check();
}

Status DatabaseChecker::CheckTables() {
  INTARSIA_ASSIGN_OR_RETURN(const std::vector<DamagedTable> tables,
                            core_->rocks->CheckTables([this](int64_t done, int64_t total) {
                              return Progress("table files", done, total);
                            }));
  std::set<Family> emptied;
  for (const DamagedTable& table : tables) {
    const std::string object =
        "table file " + table.path + " (" + std::string(FamilyName(table.family)) + ")";
    const bool is_derived = table.family == Family::kVectors || table.family == Family::kPostings;
    if (!is_derived) {
      Find({object, table.problem, kRestore});
      continue;
    }
    if (commit_ != nullptr && emptied.insert(table.family).second) {
      INTARSIA_RETURN_IF_ERROR(core_->rocks->Recreate(table.family));
    }
    FindDerived(object, table.problem);
  }
  return Status::Ok();
}

Status DatabaseChecker::CheckRows() {
  INTARSIA_RETURN_IF_ERROR(CheckTables());
  const Result<std::vector<ModelInfo>> models = view_.ListModels();
  const Result<std::vector<CollectionInfo>> collections = view_.ListCollections();
  for (const Status& status : {models.status(), collections.status()}) {
    if (!status.ok()) Find({"the catalog", std::string(status.message()), kRestore});
  }
  if (!models.ok() || !collections.ok()) return Status::Ok();
  for (const CollectionInfo& collection : *collections) {
    INTARSIA_RETURN_IF_ERROR(CheckCollection(collection, *models));
  }
  // Texts of documents that could not be read would look as if nobody used them.
  return is_complete_ ? CheckTextCounts() : Status::Ok();
}

Status DatabaseChecker::CheckCollection(const CollectionInfo& collection,
                                        const std::vector<ModelInfo>& models) {
  Tally tally;
  if (const auto stats = view_.GetStats(collection.id); stats.ok()) {
    tally.num_total = stats->num_documents;
  }
  const std::string prefix = ListingPrefix(collection.id);
  RowCursor row = core_->rocks->ScanPrefix(Family::kDocuments, prefix, nullptr);
  int64_t num_done = 0;
  for (; row.Valid(); row.Next()) {
    CheckDocument(collection, IdInKey(row.key(), prefix.size()), &tally);
    INTARSIA_RETURN_IF_ERROR(Progress("documents", ++num_done, tally.num_total));
  }
  if (!row.status().ok()) {
    tally.is_complete = false;
    Find({"collection " + collection.name, std::string(row.status().message()), kRestore});
  }
  for (const ModelInfo& model : models) {
    if (model.type != ModelType::kEmbedding) continue;
    INTARSIA_RETURN_IF_ERROR(CheckVectors(collection, model, &tally));
  }
  // What could not be read cannot be counted.
  is_complete_ = is_complete_ && tally.is_complete;
  return tally.is_complete ? CheckStats(collection, tally.stats, models) : Status::Ok();
}

void DatabaseChecker::CheckDocument(const CollectionInfo& collection, DocumentId id, Tally* tally) {
  const Result<Document> document = view_.GetDocument(id);
  if (!document.ok()) {
    Find({NameOf(collection, "number " + std::to_string(id)),
          std::string(document.status().message()), kRestore});
    tally->is_complete = false;
    return;
  }
  ++report_.num_documents;
  if (const Status status = CheckDocumentRows(*document, tally); !status.ok()) {
    Find({NameOf(collection, document->source), std::string(status.message()),
          "delete it and load it again, or restore a backup"});
  }
}

Status DatabaseChecker::CheckDocumentRows(const Document& document, Tally* tally) {
  tally->stats.num_documents += 1;
  tally->stats.num_chunks += document.num_chunks;
  tally->stats.text_bytes += document.text_bytes;
  text_uses_[document.text_digest] += 1;
  if (document.num_chunks > document.text_bytes + 1) {
    tally->is_complete = false;
    return Wrong("it has more chunks than text: chunks=" + std::to_string(document.num_chunks));
  }
  // First, so that the vectors of a document that is damaged do not look as if they were nobody's.
  Status first_error;
  for (int64_t ordinal = 0; ordinal < document.num_chunks; ++ordinal) {
    chunks_[document.collection].push_back(document.first_chunk + static_cast<uint64_t>(ordinal));
    ++report_.num_chunks;
    const Status status = CheckChunk(document, ordinal);
    if (first_error.ok() && !status.ok()) first_error = status;
  }
  const Result<std::string> source = core_->rocks->Get(
      Family::kDocuments, SourceKey(document.collection, document.source), nullptr);
  INTARSIA_RETURN_IF_ERROR(source.status());
  INTARSIA_ASSIGN_OR_RETURN(const uint64_t id, DecodeNumber(*source));
  if (id != document.id) return Wrong("its source leads to another document");
  INTARSIA_ASSIGN_OR_RETURN(const std::string text, view_.GetText(document.text_digest));
  report_.num_bytes += std::ssize(text);
  if (DigestOf(text) != document.text_digest || std::ssize(text) != document.text_bytes) {
    return Wrong("its text is not the one that was stored");
  }
  return first_error;
}

Status DatabaseChecker::CheckChunk(const Document& document, int64_t ordinal) const {
  const ChunkId id = document.first_chunk + static_cast<uint64_t>(ordinal);
  INTARSIA_ASSIGN_OR_RETURN(const Chunk chunk, view_.GetChunk(id));
  if (chunk.id != id || chunk.collection != document.collection || chunk.document != document.id ||
      chunk.ordinal != ordinal || chunk.byte_begin < 0 || chunk.byte_end < chunk.byte_begin ||
      chunk.byte_end > document.text_bytes) {
    return Wrong("chunk " + std::to_string(ordinal) + " is not one of its text");
  }
  return Status::Ok();
}

Status DatabaseChecker::CheckVectors(const CollectionInfo& collection, const ModelInfo& model,
                                     Tally* tally) {
  std::vector<ChunkId>& chunks = chunks_[collection.id];
  std::ranges::sort(chunks);
  CollectionStats::Vectors counted = {.model = model.id, .dimension = 0, .num_vectors = 0};
  const std::string object = "vectors of model " + model.name + " in collection " + collection.name;
  std::set<ChunkId> found;
  const std::string prefix = VectorsPrefix(model.id, collection.id);
  RowCursor row = core_->rocks->ScanPrefix(Family::kVectors, prefix, nullptr);
  for (; row.Valid(); row.Next()) {
    const ChunkId chunk = IdInKey(row.key(), prefix.size());
    const Result<std::string_view> body = row.Body();
    const Result<std::vector<float>> vector = body.ok() ? DecodeVector(*body) : body.status();
    std::string problem;
    if (!vector.ok()) {
      problem = vector.status().message();
    } else if (tally->is_complete && !std::ranges::binary_search(chunks, chunk)) {
      problem = "a vector of no chunk: id=" + std::to_string(chunk);
    } else if (counted.dimension != 0 && std::ssize(*vector) != counted.dimension) {
      problem = "a vector of another dimension: id=" + std::to_string(chunk);
    }
    INTARSIA_RETURN_IF_ERROR(Progress("vectors", ++report_.num_vectors, 0));
    if (!problem.empty()) {
      FindDerived(object, problem);
      if (commit_ != nullptr) {
        commit_->batch()->Delete(Family::kVectors, row.key());
        commit_->MarkVectorsChanged(collection.id);
      }
      continue;
    }
    counted.dimension = std::ssize(*vector);
    counted.num_vectors += 1;
    found.insert(chunk);
  }
  if (!row.status().ok()) {
    Find({object, std::string(row.status().message()), kRestore});
    return Status::Ok();
  }
  if (counted.num_vectors > 0) tally->stats.vectors.push_back(counted);
  // A collection is embedded by one model; others have some vectors only while it changes.
  if (OptionOr(collection.options, "embedding", "") != model.name) return Status::Ok();
  MissingVectors missing = {.collection = collection.id, .model = model.id, .chunks = {}};
  std::ranges::set_difference(chunks, found, std::back_inserter(missing.chunks));
  if (!missing.chunks.empty()) report_.missing_vectors.push_back(std::move(missing));
  return Status::Ok();
}

Status DatabaseChecker::CheckStats(const CollectionInfo& collection, const CollectionStats& counted,
                                   const std::vector<ModelInfo>& models) {
  const Result<CollectionStats> stored = view_.GetStats(collection.id);
  const std::string differing =
      stored.ok() ? DifferingCounts(*stored, counted, models) : std::string();
  if (stored.ok() && differing.empty()) return Status::Ok();
  FindDerived("collection " + collection.name,
              stored.ok() ? "its counts are not those of what it holds: " + differing
                          : std::string(stored.status().message()));
  if (commit_ == nullptr) return Status::Ok();
  commit_->AddStats(collection.id);
  INTARSIA_ASSIGN_OR_RETURN(CollectionStats * stats, commit_->Stats(collection.id));
  *stats = counted;
  return Status::Ok();
}

Status DatabaseChecker::CheckTextCounts() {
  std::set<Digest> counted;
  RowCursor row = core_->rocks->ScanPrefix(Family::kText, "n", nullptr);
  for (; row.Valid(); row.Next()) {
    INTARSIA_RETURN_IF_ERROR(Progress("texts", std::ssize(counted), std::ssize(text_uses_)));
    const Result<Digest> digest = Digest::FromBytes(row.key().substr(1));
    if (!digest.ok()) continue;
    counted.insert(*digest);
    const Result<std::string_view> body = row.Body();
    const Result<uint64_t> count = body.ok() ? DecodeNumber(*body) : body.status();
    const auto uses = text_uses_.find(*digest);
    const int64_t want = uses == text_uses_.end() ? 0 : uses->second;
    if (count.ok() && static_cast<int64_t>(*count) == want) continue;
    FindDerived("text " + digest->ToHex(),
                "the count of its documents is wrong: documents=" + std::to_string(want));
    if (commit_ == nullptr) continue;
    if (want > 0) {
      commit_->batch()->Put(Family::kText, row.key(), EncodeNumber(static_cast<uint64_t>(want)));
    } else {
      commit_->batch()->Delete(Family::kText, row.key());
      commit_->batch()->Delete(Family::kText, TextKey(*digest));
    }
  }
  if (!row.status().ok()) Find({"texts", std::string(row.status().message()), kRestore});
  for (const auto& [digest, want] : text_uses_) {
    if (counted.contains(digest)) continue;
    FindDerived("text " + digest.ToHex(), "the count of its documents is missing");
    if (commit_ == nullptr) continue;
    commit_->batch()->Put(Family::kText, TextCountKey(digest),
                          EncodeNumber(static_cast<uint64_t>(want)));
  }
  return Status::Ok();
}

Status DatabaseChecker::CheckKv() {
  KvCore* const kv = core_->kv->core();
  const std::vector<Digest> identities = kv->ListIdentities();
  std::vector<uint8_t> layer;
  for (const Digest& identity : identities) {
    INTARSIA_RETURN_IF_ERROR(Progress("kv caches", report_.num_kv_caches, std::ssize(identities)));
    const Result<KvHandle> handle = kv->Peek(identity);
    Status status = handle.status();
    // Removed meanwhile, by eviction or with its document.
    if (!status.ok() && !kv->Contains(identity)) continue;
    ++report_.num_kv_caches;
    for (int64_t i = 0; status.ok() && i < handle->shape().num_layers; ++i) {
      layer.resize(static_cast<size_t>(handle->layer_bytes(i)));
      report_.num_bytes += handle->layer_bytes(i);
      status = kv->ReadLayer(handle->pin(), i, layer);
    }
    if (status.ok()) continue;
    const bool is_dropped = !kv->Contains(identity);
    Find({.object = "kv cache " + identity.ToHex(),
          .problem = std::string(status.message()),
          .remedy = is_dropped ? "dropped; it is computed again when it is needed"
                               : "open the database for writing, which drops it",
          .is_repaired = is_dropped});
  }
  return Status::Ok();
}

}  // namespace intarsia::storage
