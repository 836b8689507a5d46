// Erasure: documents that are deleted so that no file of the database holds anything of them.
//
// A deletion alone leaves bytes behind: in logs and tables that RocksDB has not rewritten, and in
// segments whose extents nobody names. An erasure deletes, rewrites what holds dead bytes, and then
// proves it:
//   1. every file of the directory is searched, byte by byte, for pieces of the deleted texts and
//      KV caches (storage/byte_needles.h);
//   2. tables are compressed, so each table file there is read row by row as well, and the rows are
//      searched in the same way; no row may belong to a deleted document or chunk, and none may
//      hide behind a newer one of the same file.
// Files that the engine makes of vectors cannot be searched for pieces of text: it removes them
// (EraseOptions::drop_copies), and makes them anew of what is left.
// Pieces that stand in documents that remain prove nothing and are not looked for; neither do
// extents of other caches. Outside its reach: RocksDB's MANIFEST, which may hold the key of a row,
// with a source or a word, until the next Open writes a new one; backups and other copies; memory;
// what a file system or a drive keeps of removed files.
//
// Thread safety: an Eraser is owned by one thread; the database may be in use.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/cancel.h"
#include "base/result.h"
#include "storage/byte_needles.h"
#include "storage/document.h"
#include "storage/ids.h"
#include "storage/kv_entry.h"

namespace intarsia::storage {

class Database;
struct DatabaseCore;

struct EraseOptions {
  const CancelToken* cancel = nullptr;  // may be null
  // Removes the files in the directory that others have made of what these collections hold, such
  // as copies of vectors, and keeps them from being made of what is deleted. Called behind the
  // deletion; may be empty.
  std::function<Status(const std::set<CollectionId>&)> drop_copies = {};
};

struct EraseReport {
  int64_t num_documents = 0;  // That existed.
  int64_t num_caches = 0;     // Whose bytes were looked for.
  int64_t bytes_freed = 0;    // By which the files became smaller.
  int64_t num_pieces = 0;     // Pieces of 16 bytes that were looked for.
  int64_t num_shared = 0;     // Pieces that remain elsewhere and were not looked for.
  int64_t num_files = 0;      // That were searched.
  int64_t num_bytes = 0;      // Of these files.
  int64_t num_rows = 0;       // In tables.
};

class Eraser {
 public:
  // Both outlive it.
  Eraser(Database* database, DatabaseCore* core, const EraseOptions& options)
      : database_(database), core_(core), options_(options) {}

  // As Database::Erase.
  Result<EraseReport> Run(std::span<const DocumentId> ids);

 private:
  // Where something is left, or empty.
  using Trace = std::string;

  // Reads what will be looked for. Those ids that do not exist are passed over.
  Status Gather(std::span<const DocumentId> ids);
  Status AddText(const Document& document, int64_t stride);
  Status AddCaches(const Document& document);
  // Drops the pieces that stand in what remains.
  Status Spare();
  Status SpareCatalog();
  // Rewrites what holds dead bytes.
  Status Rewrite();
  Result<Trace> Prove();
  Result<Trace> SearchFile(const std::string& path, const std::vector<KvExtent>& live);
  Result<Trace> SearchTable(const std::string& path);
  // Whether the row belongs to a deleted document or chunk.
  bool IsOfDeleted(std::string_view family, std::string_view key) const;
  Result<std::vector<std::string>> ListFiles(const std::string& directory) const;
  Result<int64_t> FileBytes() const;
  Status CheckCancel() const;

  Database* const database_;
  DatabaseCore* const core_;
  const EraseOptions options_;
  ByteNeedles needles_;
  std::map<DocumentId, Document> documents_;
  std::map<ChunkId, ChunkId> chunks_;  // ids from the key up to before the value
  std::set<Digest> caches_;
  EraseReport report_;
};

}  // namespace intarsia::storage
