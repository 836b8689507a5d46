// Database::Check and Database::BackUp: what operators do with a whole database.
#include <mutex>
#include <optional>
#include <utility>

#include "storage/database.h"
#include "storage/database_checker.h"
#include "storage/database_core.h"

namespace intarsia::storage {
namespace {

// Rebuilds the postings that are not those of their collection's chunks, or tells of them.
Status CheckPostings(Database* database, const ChunkIndexer& indexer, const CheckOptions& options,
                     CheckReport* report) {
  const auto list = [&]() -> Result<std::vector<CollectionInfo>> {
    const ReadView view = database->Read();
    INTARSIA_ASSIGN_OR_RETURN(const auto collections, view.ListCollections());
    std::vector<CollectionInfo> stale;
    for (const CollectionInfo& collection : collections) {
      const auto index = indexer.Begin(collection);
      if (index.ok() && *index == nullptr) continue;  // It has no text index.
      const Result<bool> is_current = view.ArePostingsCurrent(collection.id);
      if (!is_current.ok() || !*is_current) stale.push_back(collection);
    }
    return stale;
  };
  const Result<std::vector<CollectionInfo>> stale = list();
  if (!stale.ok()) return Status::Ok();  // The catalog is damaged, which has been told.
  for (const CollectionInfo& collection : *stale) {
    CheckFinding finding = {.object = "text index of collection " + collection.name,
                            .problem = "it is not that of the collection's chunks",
                            .remedy = "REPAIR DATABASE"};
    if (options.mode == CheckMode::kRepair) {
      const Status status = database->RebuildPostings(collection.id, options.cancel);
      if (status.code() == StatusCode::kCancelled ||
          status.code() == StatusCode::kDeadlineExceeded) {
        return status;
      }
      finding.is_repaired = status.ok();
      finding.remedy = status.ok() ? "repaired" : std::string(status.message());
    }
    ++report->num_findings;
    report->findings.push_back(std::move(finding));
  }
  return Status::Ok();
}

}  // namespace

Result<CheckReport> Database::Check(const CheckOptions& options) {
  const bool is_repair = options.mode == CheckMode::kRepair;
  if (is_repair) INTARSIA_RETURN_IF_ERROR(CheckWritable());
  CheckReport report;
  {
    std::optional<Commit> commit;
    if (is_repair) commit.emplace(core_.get());
    DatabaseChecker checker(core_.get(), options, is_repair ? &*commit : nullptr);
    INTARSIA_RETURN_IF_ERROR(checker.CheckRows());
    if (checker.has_repairs()) INTARSIA_RETURN_IF_ERROR(commit->Finish(Durability::kSync));
    commit.reset();
    INTARSIA_RETURN_IF_ERROR(checker.CheckKv());
    report = checker.TakeReport();
  }
  if (core_->options.chunk_indexer != nullptr) {
    INTARSIA_RETURN_IF_ERROR(CheckPostings(this, *core_->options.chunk_indexer, options, &report));
  }
  return report;
}

Result<BackupReport> Database::BackUp(const std::string& target, const BackupOptions& options) {
  const std::lock_guard<std::mutex> lock(core_->backup_mutex);
  return BackUpDatabase(core_.get(), target, options);
}

}  // namespace intarsia::storage
