#include "engine/ingester.h"

#include <algorithm>
#include <chrono>
#include <set>
#include <span>
#include <utility>

#include "base/utf8.h"
#include "engine/embedded_passage.h"
#include "query/text_extractor.h"

namespace intarsia::engine {
namespace {

// A batch is one commit: large enough that a sync is nothing beside it, small enough that little is
// done twice after a cancelled run.
constexpr int64_t kBatchChunks = 128;
constexpr int64_t kBatchBytes = int64_t{8} << 20;

// Chunks that are embedded between two reports of progress: many, because the embedder sorts them
// by length. What has more than a thousand takes so long that its chunks are what is counted.
constexpr size_t kEmbedChunks = 256;
constexpr size_t kLongBatchChunks = 1'000;

// Text of one document that is cut into chunks between two reports of progress.
constexpr int64_t kReportBytes = int64_t{1} << 20;
// The chunker counts the tokens of each byte about so often.
constexpr int64_t kCountsPerByte = 2;

constexpr size_t kNoticesMax = 100;

// English text has about four bytes a token in every vocabulary that we read.
constexpr int64_t kBytesPerToken = 4;

int64_t NowMs() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

std::string HintFor(const std::string& format, const std::string& path) {
  if (format == "text") return "text/plain";
  if (format == "markdown") return "text/markdown";
  if (format == "html") return "text/html";
  return path;
}

bool IsLarger(FileSystem* file_system, const std::string& path, int64_t num_bytes) {
  const auto file = file_system->OpenForReading(path);
  if (!file.ok()) return false;
  const Result<int64_t> size = (*file)->Size();
  return size.ok() && *size > num_bytes;
}

std::vector<std::string> SplitHeadings(const std::string& path) {
  std::vector<std::string> headings;
  for (size_t begin = 0; begin < path.size();) {
    const size_t end = std::min(path.find(" > ", begin), path.size());
    headings.push_back(path.substr(begin, end - begin));
    begin = end + 3;
  }
  return headings;
}

}  // namespace

struct Ingester::Batch {
  bool IsFull() const { return num_chunks >= kBatchChunks || num_bytes >= kBatchBytes; }

  std::vector<storage::NewDocument> documents;
  std::set<std::string> sources;
  int64_t num_chunks = 0;
  int64_t num_bytes = 0;
};

struct Ingester::Run {
  void Report() const {
    if (progress != nullptr) progress->Report(state);
  }
  Status CheckCancelled() const { return cancel == nullptr ? Status::Ok() : cancel->Check(); }

  const IngestOptions& options;
  ProgressSink* progress;
  const CancelToken* cancel;
  IngestReport* report;
  Progress state;
  Batch batch;
};

Ingester::Ingester(storage::Database* database, const storage::CollectionInfo& collection,
                   const EmbeddingModel* embedder, const model::Tokenizer* tokenizer,
                   FileSystem* file_system)
    : database_(database),
      collection_(collection),
      embedder_(embedder),
      tokenizer_(tokenizer),
      file_system_(file_system) {}

int64_t Ingester::CountTokens(std::string_view text) const {
  if (tokenizer_ != nullptr) {
    const auto ids = tokenizer_->Encode(text, model::SpecialTokens::kAsText);
    if (ids.ok()) return std::ssize(*ids);
  }
  return (std::ssize(text) + kBytesPerToken - 1) / kBytesPerToken;
}

// A text of 100 MB takes seconds. The chunker knows of no progress and cannot fail on the way, but
// it counts tokens all the time: after a cancellation there are none, and what it makes of that is
// thrown away.
Result<std::vector<query::ChunkSpan>> Ingester::Chunk(const query::ExtractedText& extracted,
                                                      Run* run) const {
  const int64_t bytes_before = run->state.bytes_done;
  int64_t num_counted = 0;
  bool is_cancelled = false;
  const auto count_tokens = [&](std::string_view text) -> int64_t {
    is_cancelled = is_cancelled || !run->CheckCancelled().ok();
    if (is_cancelled) return 0;
    const int64_t num_reports = num_counted / kReportBytes;
    num_counted += std::ssize(text);
    if (num_counted / kReportBytes > num_reports) {
      run->state.bytes_done =
          bytes_before + std::min(std::ssize(extracted.text), num_counted / kCountsPerByte);
      run->Report();
    }
    return CountTokens(text);
  };
  auto spans = query::ChunkText(extracted, run->options.chunker, count_tokens);
  INTARSIA_RETURN_IF_ERROR(run->CheckCancelled());
  return spans;
}

// Chunks the document and adds it to the batch, unless the stored one is the same.
Status Ingester::Prepare(const InlineDocument& document, const query::ExtractedText& extracted,
                         Run* run) const {
  const IngestOptions& options = run->options;
  IngestReport* const report = run->report;
  Batch* const batch = &run->batch;
  const std::string signature =
      query::ChunkerSignature(options.chunker) + " embedding=" + embedder_->info.name;
  const auto stored = database_->Read().GetDocumentBySource(collection_.id, document.source);
  if (stored.ok()) {
    if (options.on_conflict == OnConflict::kFail) {
      return Status(StatusCode::kAlreadyExists,
                    "the document is there already; use on_conflict = 'overwrite' or 'skip'");
    }
    if (options.on_conflict == OnConflict::kSkip) {
      ++report->num_skipped;
      return Status::Ok();
    }
    std::string old_signature = signature;
    INTARSIA_RETURN_IF_ERROR(
        database_->Read().ForEachChunkOf(*stored, [&](const storage::Chunk& chunk) {
          old_signature = chunk.chunker;
          return Status::Ok();
        }));
    if (stored->text_digest == DigestOf(extracted.text) && old_signature == signature &&
        stored->metadata == document.metadata && stored->title == document.title) {
      ++report->num_unchanged;
      return Status::Ok();
    }
  } else if (stored.status().code() != StatusCode::kNotFound) {
    return stored.status();
  }
  INTARSIA_ASSIGN_OR_RETURN(const std::vector<query::ChunkSpan> spans, Chunk(extracted, run));
  storage::NewDocument added;
  added.source = document.source;
  added.title = document.title;
  added.media_type = std::string(query::MediaTypeName(extracted.media_type));
  added.metadata = document.metadata;
  added.text = extracted.text;
  added.ingested_at_ms = NowMs();
  added.chunker = signature;
  for (const query::ChunkSpan& span : spans) {
    storage::NewChunk& chunk = added.chunks.emplace_back();
    chunk.byte_begin = span.range.begin;
    chunk.byte_end = span.range.end;
    chunk.heading_path = SplitHeadings(span.heading_path);
  }
  batch->num_chunks += std::ssize(spans);
  batch->num_bytes += std::ssize(added.text);
  batch->sources.insert(added.source);
  batch->documents.push_back(std::move(added));
  return Status::Ok();
}

Status Ingester::Embed(Run* run) const {
  std::vector<std::string> passages;
  for (const storage::NewDocument& document : run->batch.documents) {
    for (const storage::NewChunk& chunk : document.chunks) {
      const auto begin = static_cast<size_t>(chunk.byte_begin);
      const auto size = static_cast<size_t>(chunk.byte_end - chunk.byte_begin);
      passages.push_back(EmbeddedPassage(document.title, chunk.heading_path,
                                         std::string_view(document.text).substr(begin, size)));
    }
  }
  const std::vector<std::string_view> texts(passages.begin(), passages.end());
  const auto dimension = static_cast<size_t>(embedder_->embedder->dimension());
  std::vector<float> vectors(texts.size() * dimension);
  Progress state = {.stage = "embed", .unit = "chunks", .total = std::ssize(texts)};
  for (size_t begin = 0; begin < texts.size(); begin += kEmbedChunks) {
    const auto slice =
        std::span(texts).subspan(begin, std::min(kEmbedChunks, texts.size() - begin));
    if (run->progress != nullptr && texts.size() > kLongBatchChunks) {
      state.done = static_cast<int64_t>(begin);
      run->progress->Report(state);
    }
    INTARSIA_RETURN_IF_ERROR(embedder_->embedder->Embed(
        slice, model::TextRole::kDocument, vectors.data() + begin * dimension, run->cancel));
  }
  auto vector = vectors.begin();
  for (storage::NewDocument& document : run->batch.documents) {
    for (storage::NewChunk& chunk : document.chunks) {
      const auto end = vector + static_cast<int64_t>(dimension);
      chunk.vectors.push_back({.model = embedder_->info.id, .values = {vector, end}});
      vector = end;
    }
  }
  return Status::Ok();
}

Status Ingester::Commit(Run* run) const {
  if (run->batch.documents.empty()) return Status::Ok();
  INTARSIA_RETURN_IF_ERROR(Embed(run));
  INTARSIA_ASSIGN_OR_RETURN(const std::vector<storage::StoredDocument> stored,
                            database_->PutDocuments(collection_.id, run->batch.documents));
  for (const storage::StoredDocument& document : stored) {
    const bool is_new = document.change == storage::StoredDocument::Change::kAdded;
    ++(is_new ? run->report->num_added : run->report->num_updated);
  }
  run->report->num_chunks += run->batch.num_chunks;
  run->batch = Batch();
  return Status::Ok();
}

Status Ingester::AddFile(const std::string& path, Run* run) const {
  const IngestOptions& options = run->options;
  IngestReport* const report = run->report;
  const auto bytes = file_system_->ReadAll(path, options.file_bytes_max);
  if (!bytes.ok()) {
    std::string reason(bytes.status().message());
    if (bytes.status().code() == StatusCode::kInvalidArgument &&
        IsLarger(file_system_, path, options.file_bytes_max)) {
      reason += "; the option file_bytes_max sets another limit";
    }
    report->errors.push_back({.source = path, .stage = "read", .reason = reason});
    return Status(bytes.status().code(), std::move(reason));
  }
  report->num_bytes += std::ssize(*bytes);
  query::ExtractOptions extract_options;
  extract_options.num_bytes_max = options.file_bytes_max;
  const auto extracted = query::ExtractText(*bytes, HintFor(options.format, path), extract_options);
  if (!extracted.ok()) {
    report->errors.push_back(
        {.source = path, .stage = "extract", .reason = std::string(extracted.status().message())});
    return extracted.status();
  }
  for (const std::string& notice : extracted->notices) {
    if (report->notices.size() < kNoticesMax) report->notices.push_back(path + ": " + notice);
  }
  InlineDocument document;
  document.source = path;
  document.title = extracted->title;
  document.metadata = options.metadata;
  return Prepare(document, *extracted, run);
}

Status Ingester::AddFiles(const std::vector<std::string>& paths, const IngestOptions& options,
                          ProgressSink* progress, const CancelToken* cancel, IngestReport* report) {
  INTARSIA_RETURN_IF_ERROR(query::ValidateChunkerOptions(options.chunker));
  Run run = {options, progress, cancel, report, {}, {}};
  run.state = {.stage = "ingest", .unit = "documents", .total = std::ssize(paths)};
  for (const std::string& path : paths) {
    INTARSIA_RETURN_IF_ERROR(run.CheckCancelled());
    const size_t num_errors = report->errors.size();
    const Status status = AddFile(path, &run);
    const bool is_file_error = report->errors.size() > num_errors;
    if (!status.ok() && (!is_file_error || options.on_error == OnError::kFail)) {
      return Status(status.code(), path + ": " + std::string(status.message()));
    }
    if (run.batch.IsFull()) INTARSIA_RETURN_IF_ERROR(Commit(&run));
    ++run.state.done;
    run.state.bytes_done = report->num_bytes;
    run.state.errors = std::ssize(report->errors);
    run.Report();
  }
  return Commit(&run);
}

Status Ingester::AddDocuments(std::vector<InlineDocument> documents, const IngestOptions& options,
                              ProgressSink* progress, const CancelToken* cancel,
                              IngestReport* report) {
  INTARSIA_RETURN_IF_ERROR(query::ValidateChunkerOptions(options.chunker));
  // Everything is looked at before anything is written: INSERT is one statement over little data.
  Run run = {options, progress, cancel, report, {}, {}};
  run.state = {.stage = "ingest", .unit = "documents", .total = std::ssize(documents)};
  for (const InlineDocument& document : documents) {
    if (run.batch.sources.contains(document.source)) {
      return Status(StatusCode::kInvalidArgument,
                    "two documents of one INSERT have the same id: " + document.source);
    }
    INTARSIA_ASSIGN_OR_RETURN(const query::ExtractedText extracted,
                              query::ExtractText(document.text, "text/markdown", {}));
    report->num_bytes += std::ssize(document.text);
    INTARSIA_RETURN_IF_ERROR(Prepare(document, extracted, &run));
    ++run.state.done;
    run.state.bytes_done = report->num_bytes;
  }
  run.Report();
  return Commit(&run);
}

}  // namespace intarsia::engine
