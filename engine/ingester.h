// Ingester: files into a collection: read, extract, chunk, embed, commit.
//
// A document is replaced as a whole and only by a version that is complete: until the commit the
// old one answers. A file that cannot be read is reported and passed over. What was committed stays
// when the work is cancelled, and a second run skips it, because its content has not changed.
//
// Thread safety: owned by one thread, which shares the arithmetic with the pool.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/cancel.h"
#include "base/file.h"
#include "base/result.h"
#include "engine/model_registry.h"
#include "engine/progress.h"
#include "query/chunker.h"
#include "storage/database.h"

namespace intarsia::engine {

enum class OnConflict : uint8_t { kOverwrite, kSkip, kFail };
enum class OnError : uint8_t { kSkip, kFail };

struct IngestOptions {
  OnConflict on_conflict = OnConflict::kOverwrite;
  OnError on_error = OnError::kSkip;
  std::string format = "auto";   // or "text", "markdown", "html"
  storage::Attributes metadata;  // of every document
  query::ChunkerOptions chunker;
  int64_t file_bytes_max = int64_t{64} << 20;
};

// A document that is already text: INSERT.
struct InlineDocument {
  std::string source;
  std::string title;
  std::string text;
  storage::Attributes metadata;
};

struct IngestError {
  std::string source;
  std::string stage;  // "read", "extract", "embed" or "commit"
  std::string reason;
};

struct IngestReport {
  int64_t num_added = 0;
  int64_t num_updated = 0;
  int64_t num_unchanged = 0;  // same content, metadata and chunker
  int64_t num_skipped = 0;    // by on_conflict
  int64_t num_chunks = 0;     // of added and updated documents
  int64_t num_bytes = 0;      // read
  std::vector<IngestError> errors;
  std::vector<std::string> notices;  // at most a hundred
};

class Ingester {
 public:
  // `tokenizer` may be null; with it, chunk budgets are counted in the generator's tokens, else
  // they are estimated from bytes.
  Ingester(storage::Database* database, const storage::CollectionInfo& collection,
           const EmbeddingModel* embedder, const model::Tokenizer* tokenizer,
           FileSystem* file_system);

  // Errors: kCancelled, with what was committed before in `report`; with OnError::kFail the first
  // file's; kAlreadyExists with OnConflict::kFail; those of Database::PutDocuments. `report` is
  // filled in any case. `progress` and `cancel` may be null.
  Status AddFiles(const std::vector<std::string>& paths, const IngestOptions& options,
                  ProgressSink* progress, const CancelToken* cancel, IngestReport* report);

  Status AddDocuments(std::vector<InlineDocument> documents, const IngestOptions& options,
                      ProgressSink* progress, const CancelToken* cancel, IngestReport* report);

 private:
  struct Batch;
  // What one call of AddFiles or AddDocuments works on.
  struct Run;

  // Errors: kCancelled, kDeadlineExceeded.
  Result<std::vector<query::ChunkSpan>> Chunk(const query::ExtractedText& extracted,
                                              Run* run) const;
  Status Prepare(const InlineDocument& document, const query::ExtractedText& extracted,
                 Run* run) const;
  // The vectors of all chunks, into the batch.
  Status Embed(Run* run) const;
  Status Commit(Run* run) const;
  // Reads one file and adds it to the batch, or to the report's errors.
  Status AddFile(const std::string& path, Run* run) const;
  int64_t CountTokens(std::string_view text) const;

  storage::Database* const database_;
  const storage::CollectionInfo collection_;
  const EmbeddingModel* const embedder_;
  const model::Tokenizer* const tokenizer_;
  FileSystem* const file_system_;
};

}  // namespace intarsia::engine
