// KvManager: the KV caches of a database's chunks, found, computed and written behind.
//
// An answer finds what is stored and computes the rest; what it had to compute is queued, and a
// thread of its own computes and stores the chunks' caches when no statement is running. Nothing
// that a caller waits for waits for that thread: a statement that begins interrupts it, and the
// interrupted chunks go back to the head of the queue. A device computes several chunks at once.
//
// Thread safety: thread-safe.
// Lifetime: the database, the registry and the backends must outlive it.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/cancel.h"
#include "base/hash.h"
#include "base/result.h"
#include "engine/device_choice.h"
#include "engine/fusion/kv_source.h"
#include "engine/fusion_backends.h"
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
  uint64_t generation = 0;   // KvStore::generation() when the chunk was read
  DeviceChoice device = {};  // where it is to be computed
};

class KvManager {
 public:
  KvManager(storage::Database* database, FusionBackends* backends);
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

  struct HeaderRequest {
    const Generator* generator = nullptr;
    std::span<const int32_t> header;
    KvFamily family;
    DeviceChoice device = {};  // where it is to be computed
    const CancelToken* cancel = nullptr;
  };
  // The header's cache, computed and kept in memory for the next call. A device's is another one
  // than the CPU's, because it is kept exactly. `notices` may be null.
  // Errors: those of BuildKv and FusionBackends::BuildCaches.
  Result<std::shared_ptr<const KvSource>> Header(const HeaderRequest& request,
                                                 std::vector<std::string>* notices);

  struct Built {
    std::vector<storage::KvPutOutcome> outcomes;  // one a task
    std::vector<std::string> notices;
  };
  // Tokens that a device is given at once at most, headers included, unless a chunk has more.
  static constexpr int64_t kBatchTokens = 4096;
  // Computes chunks' caches now and stores them as their family says. On a device they are computed
  // together; on the CPU one after the other, and those before an error are stored.
  // REQUIRES: at least one task; all of one batch (IsSameBatch).
  // Errors: those of BuildKv, FusionBackends::BuildCaches and KvStore::Put.
  Result<Built> Build(std::span<const KvTask> tasks, const CancelToken* cancel);
  // Whether two tasks may be built together.
  static bool IsSameBatch(const KvTask& a, const KvTask& b);

  // Equal passages have one cache. Where it is stored, this has the task's chunk own it as well,
  // so that it is pinned with the chunk and stays as long as that does. Returns whether it is
  // stored. Errors: those of KvStore::AddOwner.
  Result<bool> Share(const KvTask& task);

  // Queues a chunk's cache to be computed behind. A task for the same cache and chunk is replaced;
  // the oldest are dropped when more than a thousand wait. Nothing is queued if the chunk has its
  // cache. A cache that is there when the task's turn comes is shared, and a task whose chunk or
  // model is gone or changed then is passed over.
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

  // The header if it is in memory and was computed there, else null.
  std::shared_ptr<const KvSource> KeptHeader(const KvFamily& family, bool is_of_device) const;
  void Work();
  // The first tasks of the queue that may be built together. mutex_ is held.
  std::vector<Queued> TakeBatch();
  // Builds what is still needed of `batch` and returns what has to wait for another turn.
  std::vector<Queued> WorkOn(std::vector<Queued> batch);
  Result<storage::KvPutOutcome> Store(const KvTask& task, const MemoryKv& computed);
  Result<std::unique_ptr<MemoryKv>> BuildOnCpu(const KvTask& task, const CancelToken* cancel);
  // Whether the task may be queued; remembers it if it is new. mutex_ is held.
  bool IsAdmitted(const Digest& identity, bool is_space_short);
  // Whether the task's chunk and model are still those that it was made for.
  bool IsWanted(const KvTask& task) const;
  // Whether the task's cache is to be computed still: it is wanted, and is not there to be shared.
  bool IsMissing(const KvTask& task);

  storage::Database* const database_;
  FusionBackends* const backends_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by mutex_.
  std::deque<Queued> queue_;        // each identity once for a chunk
  std::set<Digest> asked_;          // what was asked for lately and not queued
  std::deque<Digest> asked_order_;  // the same, each once
  int num_statements_ = 0;
  bool is_stopping_ = false;
  int64_t num_working_ = 0;  // tasks that the thread is at
  Digest header_family_;
  bool is_header_of_device_ = false;
  std::shared_ptr<const KvSource> header_;

  CancelToken interrupt_;  // of the tasks at work
  std::thread thread_;     // last: it uses everything above
};

}  // namespace intarsia::engine
