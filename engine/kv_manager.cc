#include "engine/kv_manager.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <string_view>
#include <utility>

#include "base/log.h"
#include "engine/fusion/kv_builder.h"

namespace intarsia::engine {
namespace {

constexpr size_t kQueueMax = 1'000;
constexpr size_t kAskedMax = 16'384;
constexpr std::chrono::minutes kReclaimEvery(1);

// A cache in the store, pinned while it is in use.
class StoredKv : public KvSource {
 public:
  StoredKv(storage::KvStore* store, storage::KvHandle handle)
      : store_(store), handle_(std::move(handle)) {
    // Asked once, so that it is the same for all layers whatever others do meanwhile.
    is_pinned_ = handle_.shape().num_layers > 0 && store_->LayerInSource(handle_, 0) != nullptr;
  }

  KvPayloadType type() const override {
    return static_cast<KvPayloadType>(handle_.shape().quantizer);
  }
  int64_t num_tokens() const override { return handle_.shape().num_tokens; }
  const Digest* identity() const override { return &handle_.identity(); }
  Status ReadLayer(int32_t layer, std::span<uint8_t> target) const override {
    INTARSIA_RETURN_IF_ERROR(CheckShape(layer, std::ssize(target)));
    return Miss(store_->ReadLayer(handle_, layer, target));
  }
  bool StartLayer(int32_t layer, std::span<uint8_t> target, AsyncReader* reader,
                  int64_t tag) const override {
    return layer < handle_.shape().num_layers && handle_.DirectBytes(layer) == std::ssize(target) &&
           store_->StartLayer(handle_, layer, target, reader, tag);
  }
  Status FinishLayer(int32_t layer, std::span<uint8_t> target, int64_t num_read) const override {
    INTARSIA_RETURN_IF_ERROR(CheckShape(layer, std::ssize(target)));
    return Miss(store_->FinishLayer(handle_, layer, target, num_read));
  }

  const uint8_t* PinnedLayer(int32_t layer) const override {
    const bool is_layer = layer >= 0 && layer < handle_.shape().num_layers;
    return is_pinned_ && is_layer ? store_->LayerInSource(handle_, layer) : nullptr;
  }

 private:
  Status CheckShape(int32_t layer, int64_t num_bytes) const {
    if (layer >= 0 && layer < handle_.shape().num_layers &&
        handle_.layer_bytes(layer) == num_bytes) {
      return Status::Ok();
    }
    return Status(StatusCode::kNotFound, "a stored KV cache has another shape than its model");
  }
  static Status Miss(const Status& status) {
    // A cache that the disk does not give back is a miss like one that is damaged.
    if (status.code() != StatusCode::kIo) return status;
    Log(LogLevel::kWarning, "KV cache cannot be read: " + status.ToString());
    return Status(StatusCode::kNotFound, std::string(status.message()));
  }

  storage::KvStore* const store_;
  const storage::KvHandle handle_;
  bool is_pinned_ = false;
};

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

KvManager::KvManager(storage::Database* database)
    : database_(database), thread_([this] { Work(); }) {}

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

Result<std::shared_ptr<const KvSource>> KvManager::Header(
    const std::shared_ptr<const Generator>& generator, std::span<const int32_t> header,
    const KvFamily& family, const CancelToken* cancel) {
  {
    const std::scoped_lock lock(mutex_);
    if (header_ != nullptr && header_family_ == family.digest) return header_;
  }
  // A header is some dozens of tokens: computing it costs less than looking after it on disk.
  INTARSIA_ASSIGN_OR_RETURN(std::shared_ptr<const KvSource> computed,
                            BuildKv(*generator->transformer, nullptr, header, cancel));
  const std::scoped_lock lock(mutex_);
  header_ = computed;
  header_family_ = family.digest;
  return computed;
}

Result<storage::KvPutOutcome> KvManager::Build(const KvTask& task, const CancelToken* cancel) {
  INTARSIA_ASSIGN_OR_RETURN(const std::shared_ptr<const KvSource> header,
                            Header(task.generator, task.header, task.family, cancel));
  Result<std::unique_ptr<MemoryKv>> built =
      BuildKv(*task.generator->transformer, header.get(), task.tokens, task.family.type, cancel);
  if (built.status().code() == StatusCode::kUnsupported) {
    return Status(
        StatusCode::kUnsupported,
        std::string(built.status().message()) +
            "; a collection made WITH (kv_dtype = 'bf16') keeps the caches of this model");
  }
  INTARSIA_ASSIGN_OR_RETURN(const std::unique_ptr<MemoryKv> computed, std::move(built));
  std::vector<std::string_view> layers;
  for (const std::vector<uint8_t>& layer : computed->layers()) {
    layers.emplace_back(reinterpret_cast<const char*>(layer.data()), layer.size());
  }
  return database_->kv()->Put({.identity = KvIdentityOf(task.family, task.tokens),
                               .shape = {.num_layers = std::ssize(layers),
                                         .num_tokens = computed->num_tokens(),
                                         .quantizer = static_cast<uint32_t>(computed->type())},
                               .layers = layers,
                               .owner = task.owner,
                               .generation = task.generation});
}

void KvManager::Enqueue(KvTask task) {
  const Digest identity = KvIdentityOf(task.family, task.tokens);
  const storage::KvSpace space = database_->kv()->space();
  // The store gives up an eighth of its budget at once, so from three quarters on it is filled with
  // what was worth keeping.
  const bool is_space_short = space.live_bytes > space.bytes_max - space.bytes_max / 4;
  const std::scoped_lock lock(mutex_);
  if (!IsAdmitted(identity, is_space_short)) return;
  const auto same = std::ranges::find(queue_, identity, &Queued::identity);
  if (same != queue_.end()) {
    same->task = std::move(task);
    return;
  }
  queue_.push_back({.identity = identity, .task = std::move(task)});
  if (queue_.size() > kQueueMax) queue_.pop_front();
  changed_.notify_all();
}

bool KvManager::IsAdmitted(const Digest& identity, bool is_space_short) {
  if (!is_space_short || asked_.erase(identity) > 0) return true;
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
  return std::ssize(queue_) + (is_working_ ? 1 : 0);
}

Status KvManager::Drain(const CancelToken* cancel) {
  std::unique_lock lock(mutex_);
  while (!queue_.empty() || is_working_) {
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
    Queued next = std::move(queue_.front());
    queue_.pop_front();
    is_working_ = true;
    interrupt_.Reset();
    lock.unlock();
    Status status;
    if (IsNeeded(next)) status = Build(next.task, &interrupt_).status();
    lock.lock();
    is_working_ = false;
    if (status.code() == StatusCode::kCancelled) {
      const bool is_replaced =
          std::ranges::find(queue_, next.identity, &Queued::identity) != queue_.end();
      if (!is_replaced) queue_.push_front(std::move(next));
    } else if (!status.ok()) {
      Log(LogLevel::kWarning, "KV cache not stored: " + status.ToString());
    }
    changed_.notify_all();
  }
}

bool KvManager::IsNeeded(const Queued& queued) const {
  const storage::KvOwner& owner = queued.task.owner;
  const storage::ReadView view = database_->Read();
  if (owner.chunk != 0 && !view.GetChunk(owner.chunk).ok()) return false;
  // The task still maps the file of a model that was dropped or overwritten; reading it could end
  // the process.
  if (owner.model != 0 && !view.GetModel(owner.model).ok()) return false;
  if (!queued.task.generator->file->CheckUnchanged().ok()) return false;
  return !database_->kv()->Contains(queued.identity);
}

}  // namespace intarsia::engine
