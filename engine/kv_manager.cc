#include "engine/kv_manager.h"

#include <algorithm>
#include <chrono>
#include <iterator>
#include <string>
#include <utility>

#include "base/log.h"
#include "engine/fusion/kv_builder.h"
#include "engine/stored_kv.h"

namespace intarsia::engine {
namespace {

constexpr size_t kQueueMax = 1'000;
constexpr size_t kAskedMax = 16'384;
constexpr std::chrono::minutes kReclaimEvery(1);

}  // namespace

KvManager::StatementScope::StatementScope(KvManager* manager) : manager_(manager) {
  const std::scoped_lock lock(manager_->mutex_);
  ++manager_->num_statements_;
  manager_->interrupt_.Cancel();
}

KvManager::StatementScope::~StatementScope() {
  const std::scoped_lock lock(manager_->mutex_);
  --manager_->num_statements_;
  manager_->changed_.notify_all();
}

KvManager::KvManager(storage::Database* database, FusionBackends* backends)
    : database_(database), backends_(backends), thread_([this] { Work(); }) {}

KvManager::~KvManager() {
  {
    const std::scoped_lock lock(mutex_);
    is_stopping_ = true;
    interrupt_.Cancel();
  }
  changed_.notify_all();
  thread_.join();
}

std::unique_ptr<KvSource> KvManager::Find(const KvFamily& family, std::span<const int32_t> tokens) {
  Result<storage::KvHandle> handle = database_->kv()->Find(KvIdentityOf(family, tokens));
  if (!handle.ok()) return nullptr;
  // A record that does not fit its identity is a miss like any other.
  if (handle->shape().quantizer != static_cast<uint32_t>(family.type) ||
      handle->shape().num_tokens != std::ssize(tokens)) {
    return nullptr;
  }
  return std::make_unique<StoredKv>(database_->kv(), *std::move(handle));
}

std::shared_ptr<const KvSource> KvManager::KeptHeader(const KvFamily& family,
                                                      bool is_of_device) const {
  const std::scoped_lock lock(mutex_);
  const bool is_wanted = header_family_ == family.digest && is_header_of_device_ == is_of_device;
  return is_wanted ? header_ : nullptr;
}

Result<std::shared_ptr<const KvSource>> KvManager::Header(const HeaderRequest& request,
                                                          std::vector<std::string>* notices) {
  const model::Transformer& transformer = *request.generator->transformer;
  const bool is_on_device = backends_->WouldBuildCaches(request.device, *request.generator);
  if (auto kept = KeptHeader(request.family, is_on_device); kept != nullptr) return kept;
  // A header is some dozens of tokens: computing it costs less than looking after it on disk.
  std::shared_ptr<const KvSource> computed;
  if (is_on_device) {
    INTARSIA_ASSIGN_OR_RETURN(PlacedCaches placed,
                              backends_->BuildCaches(request.device, *request.generator,
                                                     {.header = {},
                                                      .runs = {request.header},
                                                      .type = PayloadTypeOf(transformer),
                                                      .cancel = request.cancel}));
    if (placed.caches.has_value()) computed = std::move(placed.caches->front());
    if (notices != nullptr) std::ranges::move(placed.notices, std::back_inserter(*notices));
  }
  const bool is_of_device = computed != nullptr;
  if (!is_of_device) {
    if (auto kept = KeptHeader(request.family, is_of_device); kept != nullptr) return kept;
    INTARSIA_ASSIGN_OR_RETURN(computed,
                              BuildKv(transformer, nullptr, request.header, request.cancel));
  }
  const std::scoped_lock lock(mutex_);
  header_ = computed;
  header_family_ = request.family.digest;
  is_header_of_device_ = is_of_device;
  return computed;
}

bool KvManager::IsSameBatch(const KvTask& a, const KvTask& b) {
  return a.generator == b.generator && a.device == b.device && a.family.digest == b.family.digest &&
         a.header == b.header;
}

Result<std::unique_ptr<MemoryKv>> KvManager::BuildOnCpu(const KvTask& task,
                                                        const CancelToken* cancel) {
  INTARSIA_ASSIGN_OR_RETURN(const std::shared_ptr<const KvSource> header,
                            Header({.generator = task.generator.get(),
                                    .header = task.header,
                                    .family = task.family,
                                    .device = {.kind = DeviceChoice::Kind::kCpu},
                                    .cancel = cancel},
                                   /*notices=*/nullptr));
  return BuildKv(*task.generator->transformer, header.get(), task.tokens, task.family.type, cancel);
}

Result<storage::KvPutOutcome> KvManager::Store(const KvTask& task, const MemoryKv& computed) {
  return PutKv(database_->kv(), computed,
               {.identity = KvIdentityOf(task.family, task.tokens),
                .owner = task.owner,
                .generation = task.generation});
}

Result<KvManager::Built> KvManager::Build(std::span<const KvTask> tasks,
                                          const CancelToken* cancel) {
  const KvTask& first = tasks.front();
  KvRuns runs = {.header = first.header, .runs = {}, .type = first.family.type, .cancel = cancel};
  for (const KvTask& task : tasks) runs.runs.emplace_back(task.tokens);
  INTARSIA_ASSIGN_OR_RETURN(PlacedCaches placed,
                            backends_->BuildCaches(first.device, *first.generator, runs));
  Built built = {.outcomes = {}, .notices = std::move(placed.notices)};
  for (size_t index = 0; index < tasks.size(); ++index) {
    std::unique_ptr<MemoryKv> computed;
    if (placed.caches.has_value()) {
      computed = std::move((*placed.caches)[index]);
    } else {
      INTARSIA_ASSIGN_OR_RETURN(computed, BuildOnCpu(tasks[index], cancel));
    }
    INTARSIA_ASSIGN_OR_RETURN(built.outcomes.emplace_back(), Store(tasks[index], *computed));
  }
  return built;
}

Result<bool> KvManager::Share(const KvTask& task) {
  const Digest identity = KvIdentityOf(task.family, task.tokens);
  storage::KvStore& kv = *database_->kv();
  if (!kv.Contains(identity)) return false;
  INTARSIA_ASSIGN_OR_RETURN(const bool is_owner, kv.IsOwner(identity, task.owner));
  return is_owner ? Result<bool>(true) : kv.AddOwner(identity, task.owner, task.generation);
}

void KvManager::Enqueue(KvTask task) {
  const Digest identity = KvIdentityOf(task.family, task.tokens);
  const bool is_stored = database_->kv()->Contains(identity);
  if (is_stored) {
    // An error is said when the task's turn comes.
    const Result<bool> is_owner = database_->kv()->IsOwner(identity, task.owner);
    if (is_owner.ok() && *is_owner) return;
  }
  const storage::KvSpace space = database_->kv()->space();
  // The store gives up an eighth of its budget at once, so from three quarters on it is filled with
  // what was worth keeping.
  const bool is_space_short = space.live_bytes > space.bytes_max - space.bytes_max / 4;
  const std::scoped_lock lock(mutex_);
  bool is_admitted = is_stored;
  for (Queued& queued : queue_) {
    if (queued.identity != identity) continue;
    if (queued.task.owner == task.owner) {
      queued.task = std::move(task);
      return;
    }
    is_admitted = true;  // The other chunk may be gone when its turn comes.
  }
  if (!is_admitted && !IsAdmitted(identity, is_space_short)) return;
  queue_.push_back({.identity = identity, .task = std::move(task)});
  if (queue_.size() > kQueueMax) queue_.pop_front();
  changed_.notify_all();
}

bool KvManager::IsAdmitted(const Digest& identity, bool is_space_short) {
  if (!is_space_short) return true;
  if (asked_.erase(identity) > 0) {
    std::erase(asked_order_, identity);
    return true;
  }
  asked_.insert(identity);
  asked_order_.push_back(identity);
  while (asked_order_.size() > kAskedMax) {
    asked_.erase(asked_order_.front());
    asked_order_.pop_front();
  }
  return false;
}

Status KvManager::Reclaim() {
  if (database_->access() == storage::AccessMode::kReadOnly) return Status::Ok();
  INTARSIA_ASSIGN_OR_RETURN(const int64_t num_dropped, database_->kv()->DropExpired());
  return num_dropped == 0 ? Status::Ok() : database_->kv()->Compact({}).status();
}

int64_t KvManager::num_queued() const {
  const std::scoped_lock lock(mutex_);
  return std::ssize(queue_) + num_working_;
}

Status KvManager::Drain(const CancelToken* cancel) {
  std::unique_lock lock(mutex_);
  while (!queue_.empty() || num_working_ > 0) {
    if (cancel != nullptr) INTARSIA_RETURN_IF_ERROR(cancel->Check());
    // A token cannot notify, so it is looked at ten times a second.
    changed_.wait_for(lock, std::chrono::milliseconds(100));
  }
  return Status::Ok();
}

void KvManager::Work() {
  std::unique_lock lock(mutex_);
  auto next_reclaim = std::chrono::steady_clock::now() + kReclaimEvery;
  for (;;) {
    changed_.wait_until(lock, next_reclaim, [this] {
      return is_stopping_ || (num_statements_ == 0 && !queue_.empty());
    });
    if (is_stopping_) return;
    if (std::chrono::steady_clock::now() >= next_reclaim) {
      next_reclaim = std::chrono::steady_clock::now() + kReclaimEvery;
      lock.unlock();
      if (const Status status = Reclaim(); !status.ok()) {
        Log(LogLevel::kWarning, "old KV caches are not removed: " + status.ToString());
      }
      lock.lock();
    }
    if (is_stopping_) return;
    if (num_statements_ > 0 || queue_.empty()) continue;
    std::vector<Queued> batch = TakeBatch();
    num_working_ = std::ssize(batch);
    interrupt_.Reset();
    lock.unlock();
    std::vector<Queued> left = WorkOn(std::move(batch));
    lock.lock();
    num_working_ = 0;
    for (; !left.empty(); left.pop_back()) {
      const bool is_replaced = std::ranges::any_of(queue_, [&left](const Queued& queued) {
        return queued.identity == left.back().identity &&
               queued.task.owner == left.back().task.owner;
      });
      if (!is_replaced) queue_.push_front(std::move(left.back()));
    }
    changed_.notify_all();
  }
}

std::vector<KvManager::Queued> KvManager::TakeBatch() {
  std::vector<Queued> batch;
  int64_t num_tokens = 0;
  while (!queue_.empty()) {
    const KvTask& task = queue_.front().task;
    num_tokens += std::ssize(task.header) + std::ssize(task.tokens);
    if (!batch.empty() && (num_tokens > kBatchTokens || !IsSameBatch(batch.front().task, task))) {
      break;
    }
    // Once the first of them is stored, the second shares it.
    const Digest& identity = queue_.front().identity;
    if (std::ranges::find(batch, identity, &Queued::identity) != batch.end()) break;
    batch.push_back(std::move(queue_.front()));
    queue_.pop_front();
  }
  return batch;
}

std::vector<KvManager::Queued> KvManager::WorkOn(std::vector<Queued> batch) {
  std::erase_if(batch, [this](const Queued& queued) { return !IsMissing(queued.task); });
  if (batch.empty()) return batch;
  std::vector<KvTask> tasks;
  for (const Queued& queued : batch) tasks.push_back(queued.task);
  Status status = Build(tasks, &interrupt_).status();
  if (status.ok()) return {};
  for (size_t i = 0; i < tasks.size() && status.code() != StatusCode::kCancelled; ++i) {
    // One chunk must not cost the others theirs.
    if (tasks.size() > 1) {
      status = IsMissing(tasks[i]) ? Build({&tasks[i], 1}, &interrupt_).status() : Status::Ok();
    }
    if (!status.ok() && status.code() != StatusCode::kCancelled) {
      Log(LogLevel::kWarning, "KV cache not stored: " + status.ToString());
    }
  }
  if (status.code() != StatusCode::kCancelled) batch.clear();
  return batch;
}

bool KvManager::IsWanted(const KvTask& task) const {
  const storage::KvOwner& owner = task.owner;
  const storage::ReadView view = database_->Read();
  if (owner.chunk != 0 && !view.GetChunk(owner.chunk).ok()) return false;
  // The task still maps the file of a model that was dropped or overwritten; reading it could end
  // the process.
  if (owner.model != 0 && !view.GetModel(owner.model).ok()) return false;
  return task.generator->file->CheckUnchanged().ok();
}

bool KvManager::IsMissing(const KvTask& task) {
  if (!IsWanted(task)) return false;
  const Result<bool> is_stored = Share(task);
  if (is_stored.ok()) return !*is_stored;
  Log(LogLevel::kWarning, "KV cache not shared: " + is_stored.status().ToString());
  return false;
}

}  // namespace intarsia::engine
