// CACHE COLLECTION, SHOW CACHE, CLEAR CACHE, PIN CACHE and UNPIN CACHE.
#include <algorithm>
#include <utility>

#include "base/counted.h"
#include "base/stopwatch.h"
#include "engine/answer_prompt.h"
#include "engine/kv_identity.h"
#include "engine/notices.h"
#include "engine/session.h"
#include "query/ast_printer.h"

namespace intarsia::engine {
namespace {

using query::ResultSet;
using query::Value;
using query::ValueKind;

ResultSet RowOf(const storage::KvRetained& retained, const char* changed, const char* unchanged) {
  ResultSet result;
  result.columns = {{changed, ValueKind::kInteger},
                    {unchanged, ValueKind::kInteger},
                    {"not_cached", ValueKind::kInteger},
                    {"bytes", ValueKind::kInteger}};
  result.rows.push_back({Value(retained.num_changed), Value(retained.num_unchanged),
                         Value(retained.num_missing), Value(retained.num_bytes)});
  return result;
}

// Has caches computed, as many at once as wanted, and counts what came of them.
class CacheBatches {
 public:
  // `tokens_max` 0: one by one.
  CacheBatches(KvManager* kv, int64_t tokens_max, const CancelToken* cancel)
      : kv_(*kv), tokens_max_(tokens_max), cancel_(cancel) {}

  // Errors: those of KvManager::Build, for tasks that were added earlier too.
  Status Add(KvTask task) {
    const int64_t size = std::ssize(task.header) + std::ssize(task.tokens);
    if (batch_tokens_ + size > tokens_max_) INTARSIA_RETURN_IF_ERROR(Finish());
    batch_tokens_ += size;
    batch_.push_back(std::move(task));
    return batch_tokens_ > tokens_max_ ? Finish() : Status::Ok();
  }
  // Computes what was added and is not computed yet.
  Status Finish() {
    if (batch_.empty()) return Status::Ok();
    INTARSIA_ASSIGN_OR_RETURN(const KvManager::Built built, kv_.Build(batch_, cancel_));
    for (const storage::KvPutOutcome outcome : built.outcomes) {
      const bool is_stored = outcome == storage::KvPutOutcome::kStored ||
                             outcome == storage::KvPutOutcome::kAlreadyStored;
      ++(is_stored ? num_written_ : num_refused_);
    }
    for (const std::string& notice : built.notices) {
      AddNotice(notice, &notices_);
    }
    batch_.clear();
    batch_tokens_ = 0;
    return Status::Ok();
  }

  int64_t num_written() const { return num_written_; }
  int64_t num_refused() const { return num_refused_; }
  // The statement's error: what was written before stays.
  query::Diagnostic Report(const Status& status) const {
    return WithReport(status, {.count = num_written_, .noun = "cache", .verb = "written"});
  }
  // What the statement says of it.
  std::vector<std::string> Notices() const {
    std::vector<std::string> notices = notices_;
    if (num_refused_ > 0) {
      notices.push_back(Counted(num_refused_, "cache") + (num_refused_ == 1 ? " was" : " were") +
                        " not stored: the budget kv.disk_bytes_max is used up, or their documents "
                        "were deleted meanwhile");
    }
    return notices;
  }

 private:
  KvManager& kv_;
  const int64_t tokens_max_;
  const CancelToken* const cancel_;
  std::vector<KvTask> batch_;
  int64_t batch_tokens_ = 0;
  int64_t num_written_ = 0;
  int64_t num_refused_ = 0;
  std::vector<std::string> notices_;
};

// Without the last two values.
ResultSet RowOf(const CacheBatches& batches, int64_t num_there, int64_t num_tokens) {
  ResultSet result;
  result.columns = {{"already_cached", ValueKind::kInteger}, {"written", ValueKind::kInteger},
                    {"refused", ValueKind::kInteger},        {"tokens", ValueKind::kInteger},
                    {"seconds", ValueKind::kDouble},         {"kv_bytes", ValueKind::kInteger}};
  result.rows.push_back({Value(num_there), Value(batches.num_written()),
                         Value(batches.num_refused()), Value(num_tokens)});
  result.notices = batches.Notices();
  return result;
}

}  // namespace

query::Outcome<ResultSet> Session::BuildCaches(const storage::CollectionInfo& collection,
                                               const query::Predicate* where,
                                               std::shared_ptr<const Generator> generator,
                                               const StatementContext& context) {
  const uint64_t generation = engine_.database()->kv()->generation();
  storage::ReadView view = engine_.database()->Read();
  std::vector<storage::ChunkId> ids;
  if (where != nullptr) {
    INTARSIA_ASSIGN_OR_FAIL(ChunkMatches matches,
                            engine_.retriever()->Match(collection, *where, context.cancel));
    view = std::move(matches.view);
    ids = std::move(matches.chunks);
  } else {
    const auto visit = [&ids](const storage::Chunk& chunk) {
      ids.push_back(chunk.id);
      return Status::Ok();
    };
    INTARSIA_RETURN_IF_ERROR(view.ForEachChunk(collection.id, visit));
  }
  INTARSIA_ASSIGN_OR_RETURN(const std::vector<int32_t> header, EncodeAnswerHeader(*generator));
  const KvFamily family = KvFamilyOf(*generator, header, collection);
  INTARSIA_ASSIGN_OR_RETURN(const DeviceChoice device,
                            ParseDeviceChoice(settings_.GetText(kDeviceSetting)));
  // The CPU gains nothing by several at once, and says more often how far it is.
  const bool is_on_device = engine_.backends()->WouldBuildCaches(device, *generator);
  CacheBatches batches(engine_.kv(), is_on_device ? KvManager::kBatchTokens : 0, context.cancel);
  const Stopwatch stopwatch;
  int64_t num_there = 0;
  int64_t num_tokens = 0;
  Progress progress = {.stage = "cache", .unit = "chunks", .total = std::ssize(ids)};
  const auto build = [&](storage::ChunkId id) -> Status {
    if (context.cancel != nullptr) INTARSIA_RETURN_IF_ERROR(context.cancel->Check());
    INTARSIA_ASSIGN_OR_RETURN(const storage::Chunk chunk, view.GetChunk(id));
    INTARSIA_ASSIGN_OR_RETURN(const storage::Document document, view.GetDocument(chunk.document));
    INTARSIA_ASSIGN_OR_RETURN(
        const std::string text,
        view.GetTextRange(document.text_digest, chunk.byte_begin, chunk.byte_end));
    INTARSIA_ASSIGN_OR_RETURN(Passage passage,
                              EncodePassage(*generator->tokenizer, document, chunk, text));
    KvTask task = {.generator = generator,
                   .header = header,
                   .tokens = std::move(passage.tokens),
                   .family = family,
                   .owner = {.collection = collection.id,
                             .document = document.id,
                             .chunk = chunk.id,
                             .model = generator->info.id},
                   .generation = generation,
                   .device = device};
    INTARSIA_ASSIGN_OR_RETURN(const bool is_there, engine_.kv()->Share(task));
    if (is_there) {
      ++num_there;
    } else {
      num_tokens += std::ssize(task.tokens);
      INTARSIA_RETURN_IF_ERROR(batches.Add(std::move(task)));
    }
    progress.done = num_there + batches.num_written() + batches.num_refused();
    if (context.progress != nullptr) context.progress->Report(progress);
    return Status::Ok();
  };
  for (const storage::ChunkId id : ids) {
    if (const Status status = build(id); !status.ok()) return batches.Report(status);
  }
  if (const Status status = batches.Finish(); !status.ok()) return batches.Report(status);
  progress.done = progress.total;
  if (context.progress != nullptr) context.progress->Report(progress);
  INTARSIA_ASSIGN_OR_RETURN(const storage::KvUsage usage,
                            engine_.database()->kv()->UsageOfCollection(collection.id));
  ResultSet result = RowOf(batches, num_there, num_tokens);
  result.rows[0].push_back(Value(stopwatch.seconds()));
  result.rows[0].push_back(Value(usage.num_bytes));
  return result;
}

query::Outcome<ResultSet> Session::Run(const query::CacheCollection& statement,
                                       const StatementContext& context) {
  INTARSIA_ASSIGN_OR_FAIL(const storage::CollectionInfo collection,
                          FindCollection(statement.collection));
  if (storage::OptionOr(collection.options, "kv_cache", "lazy") == "off") {
    return query::BinderError(statement.collection.range,
                              "collection \"" + collection.name + "\" has kv_cache = 'off'");
  }
  INTARSIA_ASSIGN_OR_FAIL(auto generator, GetGenerator(statement.model));
  return BuildCaches(collection, statement.where.has_value() ? &*statement.where : nullptr,
                     std::move(generator), context);
}

query::Outcome<ResultSet> Session::Run(const query::ShowCache& statement) {
  storage::KvStore& kv = *engine_.database()->kv();
  ResultSet result;
  if (statement.collection.has_value()) {
    INTARSIA_ASSIGN_OR_FAIL(const storage::CollectionInfo collection,
                            FindCollection(*statement.collection));
    INTARSIA_ASSIGN_OR_RETURN(const storage::KvUsage usage, kv.UsageOfCollection(collection.id));
    result.columns = {{"collection", ValueKind::kString},    {"entries", ValueKind::kInteger},
                      {"bytes", ValueKind::kInteger},        {"pinned", ValueKind::kInteger},
                      {"pinned_bytes", ValueKind::kInteger}, {"ttl_seconds", ValueKind::kInteger}};
    result.rows.push_back({Value(collection.name), Value(usage.num_entries), Value(usage.num_bytes),
                           Value(usage.num_retained), Value(usage.retained_bytes),
                           Value(KvTtlOf(collection))});
    return result;
  }
  const storage::KvStats stats = kv.stats();
  result.columns = {{"tier", ValueKind::kString},          {"entries", ValueKind::kInteger},
                    {"bytes", ValueKind::kInteger},        {"dead_bytes", ValueKind::kInteger},
                    {"bytes_max", ValueKind::kInteger},    {"segments", ValueKind::kInteger},
                    {"hits", ValueKind::kInteger},         {"misses", ValueKind::kInteger},
                    {"writes", ValueKind::kInteger},       {"evictions", ValueKind::kInteger},
                    {"quarantines", ValueKind::kInteger},  {"queued", ValueKind::kInteger},
                    {"in_use", ValueKind::kInteger},       {"pinned", ValueKind::kInteger},
                    {"pinned_bytes", ValueKind::kInteger}, {"expired", ValueKind::kInteger},
                    {"locked_bytes", ValueKind::kInteger}};
  result.rows.push_back(
      {Value("disk"), Value(stats.num_entries), Value(stats.live_bytes), Value(stats.dead_bytes),
       Value(stats.bytes_max), Value(stats.num_segments), Value(stats.hits), Value(stats.misses),
       Value(stats.puts), Value(stats.evictions), Value(stats.quarantines),
       Value(engine_.kv()->num_queued()), Value(stats.num_pins), Value(stats.num_retained),
       Value(stats.retained_bytes), Value(stats.expirations), Value(0)});
  const storage::KvMemoryStats memory = kv.memory_stats();
  result.rows.push_back({Value("memory"), Value(memory.num_entries), Value(memory.num_bytes),
                         Value(0), Value(memory.bytes_max), Value(0), Value(memory.hits),
                         Value(memory.misses), Value(memory.admissions), Value(memory.evictions),
                         Value(0), Value(0), Value(memory.num_pins), Value(memory.num_retained),
                         Value(memory.retained_bytes), Value(0), Value(memory.source_bytes)});
  if (const auto device = engine_.backends()->CacheStats(); device.has_value()) {
    result.rows.push_back({Value("device"), Value(device->num_entries), Value(device->num_bytes),
                           Value(0), Value(device->bytes_max), Value(0), Value(device->hits),
                           Value(device->misses), Value(device->admissions),
                           Value(device->evictions), Value(0), Value(0), Value(device->num_pins),
                           Value(0), Value(0), Value(0), Value(0)});
  }
  return result;
}

query::Outcome<ResultSet> Session::Run(const query::ClearCache& statement) {
  storage::KvStore& kv = *engine_.database()->kv();
  const storage::KvStats before = kv.stats();
  int64_t num_removed = 0;
  if (statement.collection.has_value()) {
    INTARSIA_ASSIGN_OR_FAIL(const storage::CollectionInfo collection,
                            FindCollection(*statement.collection));
    INTARSIA_ASSIGN_OR_RETURN(num_removed, kv.DeleteByCollection(collection.id));
  } else {
    INTARSIA_ASSIGN_OR_RETURN(num_removed, kv.DeleteAll());
  }
  INTARSIA_RETURN_IF_ERROR(kv.Compact({}).status());
  // Segments that became empty went before there was anything to compact.
  const storage::KvStats after = kv.stats();
  ResultSet result;
  result.columns = {{"removed", ValueKind::kInteger},
                    {"bytes_removed", ValueKind::kInteger},
                    {"bytes_freed", ValueKind::kInteger}};
  result.rows.push_back({Value(num_removed), Value(before.live_bytes - after.live_bytes),
                         Value(before.disk_bytes - after.disk_bytes)});
  return result;
}

query::Outcome<std::vector<storage::KvOwner>> Session::FindChunks(
    const query::Name& name, const std::optional<query::Predicate>& where,
    const StatementContext& context) {
  INTARSIA_ASSIGN_OR_FAIL(const storage::CollectionInfo collection, FindCollection(name));
  std::vector<storage::KvOwner> owners;
  const auto visit = [&](const storage::Chunk& chunk) {
    owners.push_back(
        {.collection = collection.id, .document = chunk.document, .chunk = chunk.id, .model = 0});
    return context.cancel == nullptr ? Status::Ok() : context.cancel->Check();
  };
  if (!where.has_value()) {
    INTARSIA_RETURN_IF_ERROR(engine_.database()->Read().ForEachChunk(collection.id, visit));
    return owners;
  }
  INTARSIA_ASSIGN_OR_FAIL(const ChunkMatches matches,
                          engine_.retriever()->Match(collection, *where, context.cancel));
  for (const storage::ChunkId id : matches.chunks) {
    INTARSIA_ASSIGN_OR_RETURN(const storage::Chunk chunk, matches.view.GetChunk(id));
    INTARSIA_RETURN_IF_ERROR(visit(chunk));
  }
  return owners;
}

query::Outcome<ResultSet> Session::Run(const query::PinCache& statement,
                                       const StatementContext& context) {
  INTARSIA_ASSIGN_OR_FAIL(const std::vector<storage::KvOwner> chunks,
                          FindChunks(statement.collection, statement.where, context));
  const bool is_memory = statement.tier == query::CacheTier::kMemory;
  storage::KvStore& kv = *engine_.database()->kv();
  INTARSIA_ASSIGN_OR_RETURN(const storage::KvRetained retained,
                            kv.Retain(chunks, is_memory ? storage::KvRetention::kInMemory
                                                        : storage::KvRetention::kOnDisk));
  ResultSet result = RowOf(retained, "pinned", "already_pinned");
  if (retained.num_missing > 0) {
    result.notices.push_back(
        Counted(retained.num_missing, "chunk") + (retained.num_missing == 1 ? " has" : " have") +
        " no cache to pin; CACHE COLLECTION " + query::QuoteName(statement.collection.text) +
        " computes what is missing");
  }
  if (const Status status = is_memory ? kv.LoadRetained(context.cancel) : Status::Ok();
      !status.ok()) {
    result.notices.push_back("the caches are pinned and come into memory as they are used: " +
                             std::string(status.message()));
  }
  return result;
}

query::Outcome<ResultSet> Session::Run(const query::UnpinCache& statement,
                                       const StatementContext& context) {
  INTARSIA_ASSIGN_OR_FAIL(const std::vector<storage::KvOwner> chunks,
                          FindChunks(statement.collection, statement.where, context));
  INTARSIA_ASSIGN_OR_RETURN(
      const storage::KvRetained released,
      engine_.database()->kv()->Retain(chunks, storage::KvRetention::kEvictable));
  return RowOf(released, "unpinned", "not_pinned");
}

}  // namespace intarsia::engine
