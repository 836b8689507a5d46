// CHECK DATABASE, REPAIR DATABASE, COMPACT, BACKUP DATABASE, CHECK BACKUP, RESTORE DATABASE, and
// what DELETE and DROP COLLECTION do to be secure.
#include <algorithm>
#include <chrono>
#include <span>
#include <utility>

#include "base/counted.h"
#include "base/stopwatch.h"
#include "engine/embedded_passage.h"
#include "engine/session.h"

namespace intarsia::engine {
namespace {

using query::ResultSet;
using query::Value;
using query::ValueKind;

// Chunks that are embedded at once.
constexpr int64_t kEmbedBatch = 64;

storage::BackupOptions OptionsOf(FileSystem* file_system, const StatementContext& context,
                                 std::string_view stage) {
  storage::BackupOptions options;
  options.file_system = file_system;
  options.cancel = context.cancel;
  if (context.progress != nullptr) {
    options.on_progress = [sink = context.progress, stage](int64_t done, int64_t total) {
      sink->Report({.stage = stage,
                    .unit = "bytes",
                    .done = done,
                    .total = total,
                    .bytes_done = done,
                    .bytes_total = total});
    };
  }
  return options;
}

ResultSet RowOf(const storage::BackupReport& report, double seconds) {
  ResultSet result;
  result.columns = {{"files", ValueKind::kInteger},        {"bytes", ValueKind::kInteger},
                    {"shared_bytes", ValueKind::kInteger}, {"commit", ValueKind::kInteger},
                    {"created_at", ValueKind::kTimestamp}, {"seconds", ValueKind::kDouble}};
  result.rows.push_back({Value(report.num_files), Value(report.num_bytes),
                         Value(report.num_shared_bytes), Value(static_cast<int64_t>(report.commit)),
                         Value(query::Timestamp{report.created * 1'000'000}), Value(seconds)});
  return result;
}

// The missing vectors of one collection, computed and stored in batches.
Status Embed(storage::Database* database, const EmbeddingModel& embedder,
             const storage::MissingVectors& missing, const StatementContext& context) {
  const int64_t dimension = embedder.embedder->dimension();
  Progress progress = {.stage = "embed", .unit = "chunks", .total = std::ssize(missing.chunks)};
  std::span<const storage::ChunkId> left = missing.chunks;
  while (!left.empty()) {
    const auto ids = left.first(std::min(left.size(), static_cast<size_t>(kEmbedBatch)));
    left = left.subspan(ids.size());
    std::vector<std::string> passages;
    {
      const storage::ReadView view = database->Read();
      for (const storage::ChunkId id : ids) {
        INTARSIA_ASSIGN_OR_RETURN(const storage::Chunk chunk, view.GetChunk(id));
        INTARSIA_ASSIGN_OR_RETURN(const storage::Document document,
                                  view.GetDocument(chunk.document));
        INTARSIA_ASSIGN_OR_RETURN(
            const std::string text,
            view.GetTextRange(document.text_digest, chunk.byte_begin, chunk.byte_end));
        passages.push_back(EmbeddedPassage(document.title, chunk.heading_path, text));
      }
    }
    const std::vector<std::string_view> texts(passages.begin(), passages.end());
    std::vector<float> values(texts.size() * static_cast<size_t>(dimension));
    INTARSIA_RETURN_IF_ERROR(
        embedder.embedder->Embed(texts, model::TextRole::kDocument, values.data(), context.cancel));
    std::vector<storage::Database::ChunkVector> rows;
    for (size_t i = 0; i < ids.size(); ++i) {
      const auto begin = values.begin() + static_cast<int64_t>(i) * dimension;
      rows.push_back({.chunk = ids[i], .values = {begin, begin + dimension}});
    }
    INTARSIA_RETURN_IF_ERROR(
        database->PutVectors(missing.collection, missing.model, rows).status());
    progress.done += std::ssize(ids);
    if (context.progress != nullptr) context.progress->Report(progress);
  }
  return Status::Ok();
}

}  // namespace

query::Outcome<ResultSet> Session::Check(storage::CheckMode mode, const StatementContext& context) {
  storage::CheckOptions options = {.mode = mode, .cancel = context.cancel, .on_progress = {}};
  if (context.progress != nullptr) {
    options.on_progress = [sink = context.progress](std::string_view stage, int64_t done,
                                                    int64_t total) {
      sink->Report({.stage = "check", .unit = stage, .done = done, .total = total});
    };
  }
  const Stopwatch stopwatch;
  storage::Database& database = *engine_.database();
  INTARSIA_ASSIGN_OR_RETURN(storage::CheckReport report, database.Check(options));
  for (const storage::MissingVectors& missing : report.missing_vectors) {
    INTARSIA_ASSIGN_OR_RETURN(const storage::CollectionInfo collection,
                              database.Read().GetCollection(missing.collection));
    storage::CheckFinding finding = {
        .object = "vectors of collection " + collection.name,
        .problem = Counted(std::ssize(missing.chunks), "chunk") + " cannot be found by meaning",
        .remedy = "REPAIR DATABASE"};
    if (mode == storage::CheckMode::kRepair) {
      const auto embedder = EmbedderOf(collection);
      const Status status = embedder.ok()
                                ? Embed(&database, **embedder, missing, context)
                                : Status(StatusCode::kNotFound, embedder.diagnostic().message);
      if (status.code() == StatusCode::kCancelled ||
          status.code() == StatusCode::kDeadlineExceeded) {
        return status;
      }
      finding.is_repaired = status.ok();
      finding.remedy = status.ok() ? "repaired" : std::string(status.message());
    }
    ++report.num_findings;
    report.findings.push_back(std::move(finding));
  }
  const auto collections = database.Read().ListCollections();
  for (size_t i = 0; collections.ok() && i < collections->size(); ++i) {
    if (context.cancel != nullptr) INTARSIA_RETURN_IF_ERROR(context.cancel->Check());
    for (auto& finding : engine_.retriever()->CheckFiles((*collections)[i])) {
      ++report.num_findings;
      report.findings.push_back(std::move(finding));
    }
  }
  ResultSet result;
  result.columns = {{"object", ValueKind::kString},
                    {"problem", ValueKind::kString},
                    {"remedy", ValueKind::kString},
                    {"repaired", ValueKind::kBoolean}};
  for (storage::CheckFinding& finding : report.findings) {
    result.rows.push_back({Value(std::move(finding.object)), Value(std::move(finding.problem)),
                           Value(std::move(finding.remedy)), Value(finding.is_repaired)});
  }
  result.notices.push_back(
      "checked " + Counted(report.num_documents, "document") + ", " +
      Counted(report.num_chunks, "chunk") + ", " + Counted(report.num_vectors, "vector") + " and " +
      Counted(report.num_kv_caches, "KV cache") + ", " + Counted(report.num_bytes, "byte") +
      " read; " +
      (report.num_findings == 0 ? "nothing is damaged" : Counted(report.num_findings, "finding")));
  return result;
}

query::Outcome<ResultSet> Session::Run(const query::CheckDatabase&,
                                       const StatementContext& context) {
  return Check(storage::CheckMode::kCheck, context);
}

query::Outcome<ResultSet> Session::Run(const query::RepairDatabase&,
                                       const StatementContext& context) {
  return Check(storage::CheckMode::kRepair, context);
}

query::Outcome<ResultSet> Session::Run(const query::Compact& statement) {
  // All collections share the files, so all of them are compacted.
  if (statement.collection.has_value()) {
    auto found = FindCollection(*statement.collection);
    if (!found.ok()) return std::move(found).diagnostic();
  }
  const Stopwatch stopwatch;
  storage::Database& database = *engine_.database();
  const int64_t num_expired = database.kv()->stats().expirations;
  INTARSIA_ASSIGN_OR_RETURN(const int64_t bytes_freed, database.Compact());
  ResultSet result;
  result.columns = {{"bytes_freed", ValueKind::kInteger},
                    {"expired", ValueKind::kInteger},
                    {"seconds", ValueKind::kDouble}};
  result.rows.push_back({Value(bytes_freed),
                         Value(database.kv()->stats().expirations - num_expired),
                         Value(stopwatch.seconds())});
  return result;
}

query::Outcome<ResultSet> Session::Erase(std::span<const storage::DocumentId> documents,
                                         const StatementContext& context) {
  INTARSIA_ASSIGN_OR_RETURN(
      const storage::EraseReport report,
      engine_.database()->Erase(
          documents, {.cancel = context.cancel, .drop_copies = [this](const auto& collections) {
                        return engine_.retriever()->DropCopies(collections);
                      }}));
  ResultSet result;
  result.columns = {
      {"deleted", ValueKind::kInteger},        {"caches", ValueKind::kInteger},
      {"bytes_freed", ValueKind::kInteger},    {"pieces", ValueKind::kInteger},
      {"shared_pieces", ValueKind::kInteger},  {"files", ValueKind::kInteger},
      {"bytes_searched", ValueKind::kInteger}, {"rows_searched", ValueKind::kInteger}};
  result.rows.push_back({Value(report.num_documents), Value(report.num_caches),
                         Value(report.bytes_freed), Value(report.num_pieces),
                         Value(report.num_shared), Value(report.num_files), Value(report.num_bytes),
                         Value(report.num_rows)});
  if (report.num_documents > 0) {
    result.notices.push_back(
        "searched " + Counted(report.num_files, "file") + " of " + engine_.database()->path() +
        " for " + Counted(report.num_pieces, "piece") +
        " of the deleted texts and caches: nothing is left; not searched: backups and other "
        "copies, "
        "and RocksDB's MANIFEST, which may name a source or a word until the database is opened "
        "again");
  }
  return result;
}

query::Outcome<ResultSet> Session::Run(const query::BackupDatabase& statement,
                                       const StatementContext& context) {
  INTARSIA_ASSIGN_OR_FAIL(const query::BoundOptions bound,
                          query::BindOptions(query::OptionTable::kBackup, statement.options));
  storage::BackupOptions options = OptionsOf(engine_.file_system(), context, "backup");
  if (bound.is_set("base")) options.base = bound.GetText("base");
  const Stopwatch stopwatch;
  INTARSIA_ASSIGN_OR_RETURN(const storage::BackupReport report,
                            engine_.database()->BackUp(statement.target.text, options));
  return RowOf(report, stopwatch.seconds());
}

query::Outcome<ResultSet> Session::Run(const query::CheckBackup& statement,
                                       const StatementContext& context) {
  const Stopwatch stopwatch;
  INTARSIA_ASSIGN_OR_RETURN(
      const storage::BackupReport report,
      storage::CheckBackup(statement.backup.text,
                           OptionsOf(engine_.file_system(), context, "check")));
  return RowOf(report, stopwatch.seconds());
}

query::Outcome<ResultSet> Session::Run(const query::RestoreDatabase& statement,
                                       const StatementContext& context) {
  const Stopwatch stopwatch;
  INTARSIA_ASSIGN_OR_RETURN(
      const storage::BackupReport report,
      storage::RestoreBackup(statement.backup.text, statement.target.text,
                             OptionsOf(engine_.file_system(), context, "restore")));
  ResultSet result = RowOf(report, stopwatch.seconds());
  result.notices.push_back("the database is in " + statement.target.text +
                           "; this session stays in " + engine_.database()->path());
  return result;
}

}  // namespace intarsia::engine
