// KvManager: the KV caches of a database's chunks, found, computed and written behind.
//
// An answer finds what is stored and computes the rest; what it had to compute is queued, and a
// thread of its own computes and stores the chunks' caches when no statement is running. Nothing
// that a caller waits for waits for that thread: a statement that begins interrupts it, and the
// interrupted chunk goes back to the head of the queue.
//
// Thread safety: thread-safe.
// Lifetime: the database and the registry must outlive it.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <thread>
#include <vector>

#include "base/cancel.h"
#include "base/hash.h"
#include "base/result.h"
#include "engine/fusion/kv_source.h"
#include "engine/kv_identity.h"
#include "engine/model_registry.h"
#include "storage/database.h"

namespace intarsia::engine {

// One chunk's cache to be computed.
struct KvTask {
  std::shared_ptr<const Generator> generator;
  std::vector<int32_t> header;
  std::vector<int32_t> tokens;
  KvFamily family;
  storage::KvOwner owner;
  uint64_t generation = 0;  // KvStore::generation() when the chunk was read
};

class KvManager {
 public:
  explicit KvManager(storage::Database* database);
  // Drops what is queued; call Drain first to keep it.
  ~KvManager();
  KvManager(const KvManager&) = delete;
  KvManager& operator=(const KvManager&) = delete;

  // While one lives, a statement is running and the writing thread stands still.
  class StatementScope {
   public:
    explicit StatementScope(KvManager* manager);
    ~StatementScope();
    StatementScope(const StatementScope&) = delete;
    StatementScope& operator=(const StatementScope&) = delete;

   private:
    KvManager* const manager_;
  };

  // The stored cache of the tokens, or null.
  std::unique_ptr<KvSource> Find(const KvFamily& family, std::span<const int32_t> tokens);

  // The header's cache: stored, or computed and stored. Kept in memory for the next call.
  Result<std::shared_ptr<const KvSource>> Header(const std::shared_ptr<const Generator>& generator,
                                                 std::span<const int32_t> header,
                                                 const KvFamily& family, const CancelToken* cancel);

  // Computes one chunk's cache now and stores it as its family says.
  // Errors: those of BuildKv and KvStore::Put.
  Result<storage::KvPutOutcome> Build(const KvTask& task, const CancelToken* cancel);

  // Queues a chunk's cache to be computed behind. It takes the place of a queued task with the same
  // identity, whose owner may be gone meanwhile; the oldest are dropped when more than a thousand
  // wait. A task whose cache is there, or whose chunk or model is gone or changed, when its turn
  // comes is passed over.
  // Where the disk's budget is nearly used up, so that another cache would have to go, only a task
  // that is not asked for the first time is queued.
  void Enqueue(KvTask task);

  // Removes the caches that are too old and gives their space back, which the thread does once a
  // minute when it is idle. Errors: those of KvStore.
  Status Reclaim();

  int64_t num_queued() const;
  // Waits until the queue is empty. Errors: kCancelled; the rest stays queued.
  Status Drain(const CancelToken* cancel);

 private:
  struct Queued {
    Digest identity;
    KvTask task;
  };

  void Work();
  // Whether the task may be queued; remembers it if it is new. mutex_ is held.
  bool IsAdmitted(const Digest& identity, bool is_space_short);
  // Whether the task's cache is still missing and wanted.
  bool IsNeeded(const Queued& queued) const;

  storage::Database* const database_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by mutex_.
  std::deque<Queued> queue_;  // by identity, each once
  std::set<Digest> asked_;    // what was asked for lately and not queued
  std::deque<Digest> asked_order_;
  int num_statements_ = 0;
  bool is_stopping_ = false;
  bool is_working_ = false;
  Digest header_family_;
  std::shared_ptr<const KvSource> header_;

  CancelToken interrupt_;  // of the task at work
  std::thread thread_;     // last: it uses everything above
};

}  // namespace intarsia::engine
