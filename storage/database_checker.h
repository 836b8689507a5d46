// DatabaseChecker: the walk of Database::Check.
//
// Thread safety: owned by one thread.
// Lifetime: the DatabaseCore and the options outlive it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/hash.h"
#include "base/result.h"
#include "storage/catalog.h"
#include "storage/commit.h"
#include "storage/database_check.h"
#include "storage/database_core.h"
#include "storage/read_view.h"

namespace intarsia::storage {

class DatabaseChecker {
 public:
  // `commit` is where repairs go; null if nothing is to be repaired.
  DatabaseChecker(DatabaseCore* core, const CheckOptions& options, Commit* commit)
      : core_(core), options_(options), view_(core), commit_(commit) {}

  // Walks the tables, the catalog, documents, texts and vectors. Errors: kCancelled, kIo.
  Status CheckRows();
  // Walks the KV caches; no Commit may be alive. Errors: kCancelled.
  Status CheckKv();
  // Whether repairs were staged in the commit.
  bool has_repairs() const { return has_repairs_; }

  CheckReport TakeReport() { return std::move(report_); }

 private:
  // What a document contributes to the counts of its collection.
  struct Tally {
    CollectionStats stats;
    int64_t num_total = 0;
    bool is_complete = true;  // Every document could be read.
  };

  // Reads every block of every table; a family that is damaged and derived is emptied by a repair.
  Status CheckTables();
  Status CheckCollection(const CollectionInfo& collection, const std::vector<ModelInfo>& models);
  void CheckDocument(const CollectionInfo& collection, DocumentId id, Tally* tally);
  Status CheckDocumentRows(const Document& document, Tally* tally);
  Status CheckChunk(const Document& document, int64_t ordinal) const;
  Status CheckVectors(const CollectionInfo& collection, const ModelInfo& model, Tally* tally);
  Status CheckStats(const CollectionInfo& collection, const CollectionStats& counted,
                    const std::vector<ModelInfo>& models);
  Status CheckTextCounts();
  Status Progress(std::string_view stage, int64_t done, int64_t total) const;
  void Find(CheckFinding finding);
  // Adds a finding that a repair makes good.
  void FindDerived(std::string object, std::string problem);

  DatabaseCore* const core_;
  const CheckOptions& options_;
  const ReadView view_;
  Commit* const commit_;
  bool has_repairs_ = false;
  bool is_complete_ = true;  // Every document could be read.
  std::map<Digest, int64_t> text_uses_;
  std::map<CollectionId, std::vector<ChunkId>> chunks_;  // of the documents that were read
  CheckReport report_;
};

}  // namespace intarsia::storage
