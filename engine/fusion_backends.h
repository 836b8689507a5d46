// FusionBackends: which backend runs a model's prompts, and what happens if it cannot.
//
// A model comes to a device with the first prompt that is run there and stays. Under `auto`, what a
// device cannot do (a model that it has no kernels or memory for, a selector) is done by the CPU,
// and a notice says so. A device that fails during an answer fails that answer; under `auto` the
// next ones run on the CPU.
//
// Thread safety: thread-safe. Only prompts wait for a model that is coming to a device; settings
// and statistics never do. Of the locks, `loading` is taken before all others, and the rest one at
// a time.
// Lifetime: the provider, the pool and the store must outlive it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/cancel.h"
#include "base/result.h"
#include "base/thread_pool.h"
#include "engine/device_choice.h"
#include "engine/device_provider.h"
#include "engine/fusion/cost_model.h"
#include "engine/fusion/fusion_backend.h"
#include "engine/model_registry.h"
#include "storage/kv_store.h"

namespace intarsia::engine {

struct PrefillRequest {
  const Prompt* prompt = nullptr;
  FusionOptions fusion;
  int64_t num_new_tokens_max = 0;
  const CancelToken* cancel = nullptr;  // may be null
};

// A prompt that was run, and where.
struct PlacedRun {
  StartedRun started;
  std::string device;  // "cpu" or "cuda:N"
  std::shared_ptr<FusionCostModel> costs;
  std::vector<std::string> notices;
};

// Caches that were computed on a device.
struct PlacedCaches {
  // One a run; nothing where the CPU has to compute them.
  std::optional<std::vector<std::unique_ptr<MemoryKv>>> caches;
  std::vector<std::string> notices;
};

class FusionBackends {
 public:
  // Caches that come into the memory of `kv` lie in pinned memory from the first load on.
  FusionBackends(DeviceProvider* devices, ThreadPool* threads, storage::KvStore* kv)
      : devices_(devices), threads_(threads), kv_(kv) {}
  FusionBackends(const FusionBackends&) = delete;
  FusionBackends& operator=(const FusionBackends&) = delete;

  // Whether `choice` can be met at all; a device that could not take a model is tried again.
  // Errors: those of DeviceProvider::Check for a device, with the remedy.
  Status Check(const DeviceChoice& choice);

  // What each model may take on a device beside its weights, as DeviceModelOptions say.
  struct Budgets {
    int64_t kv_bytes_max = 0;
    int64_t cache_bytes_max = 0;
    bool operator==(const Budgets&) const = default;
  };
  // Those that are not set stay as they are, whoever set them.
  struct BudgetChange {
    std::optional<int64_t> kv_bytes_max = {};
    std::optional<int64_t> cache_bytes_max = {};
  };
  // Models that are on a device come there anew if this changes something. What runs there goes on
  // with what it has.
  void SetBudgets(const BudgetChange& change);

  // Makes devices forget the caches that the store no longer has.
  void ForgetRemovedCaches();
  // Of all devices; nothing if no model is on one.
  std::optional<storage::KvMemoryStats> CacheStats();

  struct Placement {
    std::string device;                      // "cpu" or "cuda:N"
    std::shared_ptr<FusionCostModel> costs;  // what loading and computing cost there
  };
  // Where a prompt would be run.
  Placement PlacementOf(const DeviceChoice& choice, const Generator& generator);

  // The device that `choice` means for what is not a model's; not set: the CPU.
  std::optional<int32_t> DeviceFor(const DeviceChoice& choice);

  // Runs a prompt. Errors: those of FusionBackend::Prefill and DeviceProvider::Load; a device's
  // with its name and the remedy.
  Result<PlacedRun> Prefill(const DeviceChoice& choice, const Generator& generator,
                            const PrefillRequest& request);

  // Computes caches if `choice` is a device and the model's caches are those of a device's
  // arithmetic: not of products in 8 bits (docs/decisions/0010-caches-from-a-device.md).
  // Errors: those of FusionBackend::BuildCaches and DeviceProvider::Load; a device's with its name
  // and the remedy.
  Result<PlacedCaches> BuildCaches(const DeviceChoice& choice, const Generator& generator,
                                   const KvRuns& runs);
  // Whether BuildCaches would try.
  bool WouldBuildCaches(const DeviceChoice& choice, const Generator& generator);

  // An error of what runs at `device`, with its name and the remedy; as it is if that is the CPU.
  static Status ErrorAt(const std::string& device, const Status& status);

  // Gives up the memory that a dropped model has on devices.
  void Forget(storage::ModelId model);

 private:
  static constexpr int32_t kCpu = -1;

  // A model at one place.
  struct Place {
    FusionCostModel costs;
    std::mutex loading;  // held by whoever brings the model there, which takes seconds
    std::mutex mutex;    // held for moments
    // Guarded by mutex.
    std::shared_ptr<FusionBackend> backend;  // null until the first prompt, and on the CPU
    Status failure;                          // why it cannot be there
    int64_t num_budgets = 0;                 // how often they have changed
  };
  using PlaceKey = std::pair<storage::ModelId, int32_t>;

  // The device's index, or kCpu.
  int32_t IndexFor(const DeviceChoice& choice, storage::ModelId model);
  // The same for computing the model's caches.
  int32_t BuilderIndexFor(const DeviceChoice& choice, const Generator& generator);
  // What an answer says for which a device was asked in vain; the error where the CPU may not
  // stand in.
  static Result<std::string> FallbackNotice(const DeviceChoice& choice, int32_t index,
                                            const Status& status);
  static std::string DeviceName(int32_t index);
  std::shared_ptr<Place> PlaceOf(storage::ModelId model, int32_t index);
  // All places as they are now, to be looked at without mutex_.
  std::vector<std::pair<PlaceKey, std::shared_ptr<Place>>> Places();
  // Brings the model there if it is not. Errors: those of DeviceProvider::Load and
  // FusionBackend::Health; kCancelled while another prompt brings it.
  Result<std::shared_ptr<FusionBackend>> BackendOf(Place* place, const Generator& generator,
                                                   int32_t index, const CancelToken* cancel);
  // The model as it is at `place`, null if it has to come there first.
  static Result<std::shared_ptr<FusionBackend>> LoadedAt(Place* place);
  Result<StartedRun> PrefillAt(Place* place, const Generator& generator, int32_t index,
                               const PrefillRequest& request);
  // Says that a place has no use for `backend` any more, which its runs may keep.
  void NoteLeaving(const std::shared_ptr<FusionBackend>& backend);
  // Whether runs keep a backend on a device that has no place any more.
  bool IsAnyLeaving();
  // The backends that are on devices now.
  std::vector<std::shared_ptr<FusionBackend>> LoadedBackends();
  // Whether there is a device for `auto`.
  bool HasFirstDevice();
  std::optional<std::string> TakeAbsenceNotice();
  void PinMemory();

  DeviceProvider* const devices_;
  ThreadPool* const threads_;
  storage::KvStore* const kv_;

  std::mutex mutex_;
  // Guarded by mutex_.
  std::map<PlaceKey, std::shared_ptr<Place>> places_;
  Budgets budgets_;
  std::vector<std::weak_ptr<FusionBackend>> leaving_;  // until they are gone
  std::optional<Status> first_device_;  // whether `auto` has a device; unknown until asked
  bool is_absence_told_ = false;
  bool is_memory_pinned_ = false;
};

}  // namespace intarsia::engine
