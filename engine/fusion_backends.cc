#include "engine/fusion_backends.h"

#include <utility>

#include "base/cancellable_lock.h"
#include "engine/fusion/cpu_backend.h"

namespace intarsia::engine {
namespace {

constexpr const char* kCpuName = "cpu";

// What the CPU can do instead.
bool IsBeyondTheDevice(const Status& status) {
  return status.code() == StatusCode::kUnsupported ||
         status.code() == StatusCode::kResourceExhausted;
}

}  // namespace

Status FusionBackends::ErrorAt(const std::string& device, const Status& status) {
  if (device == kCpuName) return status;
  const std::string what = device + ": " + std::string(status.message());
  switch (status.code()) {
    case StatusCode::kUnsupported:
      return {status.code(), what + "; SET device = 'cpu' or 'auto' uses the CPU"};
    case StatusCode::kResourceExhausted:
      return {status.code(), what +
                                 "; SET device.kv_bytes_max changes what keys and values may take "
                                 "there, and SET device = 'cpu' or 'auto' uses the CPU"};
    case StatusCode::kInternal:
      return {
          status.code(),
          what + "; SET device = 'cpu' uses the CPU, and a new start of the program the device"};
    default:
      return status;
  }
}

Result<std::string> FusionBackends::FallbackNotice(const DeviceChoice& choice, int32_t index,
                                                   const Status& status) {
  if (choice.kind != DeviceChoice::Kind::kAuto || !IsBeyondTheDevice(status)) {
    return ErrorAt(CudaName(index), status);
  }
  return "computed on the CPU, because " + CudaName(index) +
         " could not: " + std::string(status.message());
}

Status FusionBackends::Check(const DeviceChoice& choice) {
  if (choice.kind == DeviceChoice::Kind::kCuda) {
    const Status status = devices_->Check(choice.index);
    if (!status.ok()) {
      return {status.code(), CudaName(choice.index) + " cannot be used: " +
                                 std::string(status.message()) + "; SET device = 'cpu' or 'auto'"};
    }
  }
  for (const auto& [key, place] : Places()) {
    const std::scoped_lock lock(place->mutex);
    place->failure = Status::Ok();
  }
  return Status::Ok();
}

std::vector<std::pair<FusionBackends::PlaceKey, std::shared_ptr<FusionBackends::Place>>>
FusionBackends::Places() {
  const std::scoped_lock lock(mutex_);
  return {places_.begin(), places_.end()};
}

std::vector<std::shared_ptr<FusionBackend>> FusionBackends::LoadedBackends() {
  std::vector<std::shared_ptr<FusionBackend>> backends;
  for (const auto& [key, place] : Places()) {
    const std::scoped_lock lock(place->mutex);
    if (place->backend != nullptr) backends.push_back(place->backend);
  }
  return backends;
}

void FusionBackends::ForgetRemovedCaches() {
  for (const std::shared_ptr<FusionBackend>& backend : LoadedBackends()) {
    backend->ForgetCaches([this](const Digest& identity) { return !kv_->Contains(identity); });
  }
}

std::optional<storage::KvMemoryStats> FusionBackends::CacheStats() {
  const std::vector<std::shared_ptr<FusionBackend>> backends = LoadedBackends();
  if (backends.empty()) return std::nullopt;
  storage::KvMemoryStats sum;
  for (const std::shared_ptr<FusionBackend>& backend : backends) {
    const storage::KvMemoryStats stats = backend->cache_stats();
    sum.num_entries += stats.num_entries;
    sum.num_bytes += stats.num_bytes;
    sum.bytes_max += stats.bytes_max;
    sum.num_pins += stats.num_pins;
    sum.hits += stats.hits;
    sum.misses += stats.misses;
    sum.admissions += stats.admissions;
    sum.evictions += stats.evictions;
  }
  return sum;
}

void FusionBackends::SetBudgets(const BudgetChange& change) {
  {
    const std::scoped_lock lock(mutex_);
    const Budgets before = budgets_;
    budgets_.kv_bytes_max = change.kv_bytes_max.value_or(before.kv_bytes_max);
    budgets_.cache_bytes_max = change.cache_bytes_max.value_or(before.cache_bytes_max);
    if (budgets_ == before) return;
  }
  for (const auto& [key, place] : Places()) {
    if (key.second == kCpu) continue;
    std::shared_ptr<FusionBackend> gone;
    {
      const std::scoped_lock lock(place->mutex);
      gone = std::move(place->backend);
      place->failure = Status::Ok();
      ++place->num_budgets;
    }
    NoteLeaving(gone);
  }
}

void FusionBackends::NoteLeaving(const std::shared_ptr<FusionBackend>& backend) {
  if (backend == nullptr) return;
  const std::scoped_lock lock(mutex_);
  leaving_.push_back(backend);
}

bool FusionBackends::IsAnyLeaving() {
  const std::scoped_lock lock(mutex_);
  std::erase_if(leaving_, [](const auto& backend) { return backend.expired(); });
  return !leaving_.empty();
}

void FusionBackends::Forget(storage::ModelId model) {
  std::vector<std::shared_ptr<Place>> gone;
  {
    const std::scoped_lock lock(mutex_);
    for (auto row = places_.begin(); row != places_.end();) {
      if (row->first.first != model) {
        ++row;
        continue;
      }
      gone.push_back(std::move(row->second));
      row = places_.erase(row);
    }
  }
  for (const std::shared_ptr<Place>& place : gone) {
    std::shared_ptr<FusionBackend> backend;
    {
      const std::scoped_lock lock(place->mutex);
      backend = place->backend;
    }
    NoteLeaving(backend);
  }
}

std::shared_ptr<FusionBackends::Place> FusionBackends::PlaceOf(storage::ModelId model,
                                                               int32_t index) {
  const std::scoped_lock lock(mutex_);
  std::shared_ptr<Place>& place = places_[{model, index}];
  if (place == nullptr) place = std::make_shared<Place>();
  return place;
}

bool FusionBackends::HasFirstDevice() {
  {
    const std::scoped_lock lock(mutex_);
    if (first_device_.has_value()) return first_device_->ok();
  }
  // Takes a driver's start the first time. Two that ask at once get the same answer.
  Status status = devices_->Check(0);
  const std::scoped_lock lock(mutex_);
  first_device_ = std::move(status);
  return first_device_->ok();
}

std::optional<int32_t> FusionBackends::DeviceFor(const DeviceChoice& choice) {
  if (choice.kind == DeviceChoice::Kind::kCuda) return choice.index;
  if (choice.kind == DeviceChoice::Kind::kCpu || !HasFirstDevice()) return std::nullopt;
  return 0;
}

int32_t FusionBackends::IndexFor(const DeviceChoice& choice, storage::ModelId model) {
  const std::optional<int32_t> index = DeviceFor(choice);
  if (!index.has_value()) return kCpu;
  if (choice.kind == DeviceChoice::Kind::kCuda) return *index;
  return LoadedAt(PlaceOf(model, *index).get()).ok() ? *index : kCpu;
}

int32_t FusionBackends::BuilderIndexFor(const DeviceChoice& choice, const Generator& generator) {
  const bool is_of_device_arithmetic =
      generator.transformer->compute() != kernels::ComputeType::kInt8 &&
      DeviceComputeOf(generator.info) == model::CudaCompute::kBf16;
  return is_of_device_arithmetic ? IndexFor(choice, generator.info.id) : kCpu;
}

std::string FusionBackends::DeviceName(int32_t index) {
  return index == kCpu ? kCpuName : CudaName(index);
}

FusionBackends::Placement FusionBackends::PlacementOf(const DeviceChoice& choice,
                                                      const Generator& generator) {
  const int32_t index = IndexFor(choice, generator.info.id);
  const std::shared_ptr<Place> place = PlaceOf(generator.info.id, index);
  return {.device = DeviceName(index), .costs = {place, &place->costs}};
}

std::optional<std::string> FusionBackends::TakeAbsenceNotice() {
  const std::scoped_lock lock(mutex_);
  if (!devices_->is_built() || !first_device_.has_value() || first_device_->ok() ||
      is_absence_told_) {
    return std::nullopt;
  }
  is_absence_told_ = true;
  return "answers are computed on the CPU: " + std::string(first_device_->message());
}

void FusionBackends::PinMemory() {
  const std::scoped_lock lock(mutex_);
  if (!is_memory_pinned_) kv_->SetMemorySource(devices_->PinnedMemory());
  is_memory_pinned_ = true;
}

Result<std::shared_ptr<FusionBackend>> FusionBackends::LoadedAt(Place* place) {
  const std::scoped_lock lock(place->mutex);
  if (place->failure.ok() && place->backend != nullptr) place->failure = place->backend->Health();
  if (!place->failure.ok()) return place->failure;
  return place->backend;
}

Result<std::shared_ptr<FusionBackend>> FusionBackends::BackendOf(Place* place,
                                                                 const Generator& generator,
                                                                 int32_t index,
                                                                 const CancelToken* cancel) {
  INTARSIA_ASSIGN_OR_RETURN(std::shared_ptr<FusionBackend> backend, LoadedAt(place));
  if (backend != nullptr) return backend;
  INTARSIA_ASSIGN_OR_RETURN(const auto loading, LockUnlessCancelled(&place->loading, cancel));
  // Another prompt may have brought it meanwhile.
  INTARSIA_ASSIGN_OR_RETURN(backend, LoadedAt(place));
  if (backend != nullptr) return backend;
  int64_t num_budgets = 0;
  {
    const std::scoped_lock lock(place->mutex);
    num_budgets = place->num_budgets;
  }
  Budgets budgets;
  {
    const std::scoped_lock lock(mutex_);
    budgets = budgets_;
  }
  const bool is_crowded = IsAnyLeaving();
  auto loaded = devices_->Load(*generator.file, {.index = index,
                                                 .kv_bytes_max = budgets.kv_bytes_max,
                                                 .cache_bytes_max = budgets.cache_bytes_max,
                                                 .compute = DeviceComputeOf(generator.info),
                                                 .threads = threads_});
  if (loaded.ok()) {
    PinMemory();
    backend = *std::move(loaded);
  }
  // With budgets that have changed meanwhile it answers this prompt, or fails it, and the next one
  // brings it anew. Nor does it last that there was no room beside what was leaving.
  const bool is_for_now = is_crowded && loaded.status().code() == StatusCode::kResourceExhausted;
  bool is_kept = false;
  {
    const std::scoped_lock lock(place->mutex);
    is_kept = place->num_budgets == num_budgets;
    if (is_kept && !is_for_now) place->failure = loaded.status();
    if (is_kept) place->backend = backend;
  }
  if (!is_kept) NoteLeaving(backend);
  if (!loaded.ok()) return loaded.status();
  return backend;
}

Result<StartedRun> FusionBackends::PrefillAt(Place* place, const Generator& generator,
                                             int32_t index, const PrefillRequest& request) {
  if (index == kCpu) {
    // Of this generator: the registry may have loaded the model anew.
    return CpuBackend(generator.transformer)
        .Prefill(*request.prompt, request.fusion, request.num_new_tokens_max, request.cancel);
  }
  INTARSIA_ASSIGN_OR_RETURN(const std::shared_ptr<FusionBackend> backend,
                            BackendOf(place, generator, index, request.cancel));
  INTARSIA_ASSIGN_OR_RETURN(StartedRun started,
                            backend->Prefill(*request.prompt, request.fusion,
                                             request.num_new_tokens_max, request.cancel));
  started.backend = backend;
  return started;
}

bool FusionBackends::WouldBuildCaches(const DeviceChoice& choice, const Generator& generator) {
  return BuilderIndexFor(choice, generator) != kCpu;
}

Result<PlacedCaches> FusionBackends::BuildCaches(const DeviceChoice& choice,
                                                 const Generator& generator, const KvRuns& runs) {
  PlacedCaches placed;
  const int32_t index = BuilderIndexFor(choice, generator);
  if (index == kCpu) return placed;
  const std::shared_ptr<Place> place = PlaceOf(generator.info.id, index);
  const auto build = [&]() -> Result<std::vector<std::unique_ptr<MemoryKv>>> {
    INTARSIA_ASSIGN_OR_RETURN(const std::shared_ptr<FusionBackend> backend,
                              BackendOf(place.get(), generator, index, runs.cancel));
    return backend->BuildCaches(runs);
  };
  auto built = build();
  if (built.ok()) {
    placed.caches = *std::move(built);
    return placed;
  }
  INTARSIA_ASSIGN_OR_RETURN(std::string notice, FallbackNotice(choice, index, built.status()));
  placed.notices.push_back(std::move(notice));
  return placed;
}

Result<PlacedRun> FusionBackends::Prefill(const DeviceChoice& choice, const Generator& generator,
                                          const PrefillRequest& request) {
  PlacedRun placed;
  int32_t index = IndexFor(choice, generator.info.id);
  std::shared_ptr<Place> place = PlaceOf(generator.info.id, index);
  Result<StartedRun> started = PrefillAt(place.get(), generator, index, request);
  if (!started.ok() && index != kCpu) {
    INTARSIA_ASSIGN_OR_RETURN(std::string notice, FallbackNotice(choice, index, started.status()));
    placed.notices.push_back(std::move(notice));
    index = kCpu;
    place = PlaceOf(generator.info.id, index);
    started = PrefillAt(place.get(), generator, index, request);
  }
  if (!started.ok()) return started.status();
  if (choice.kind == DeviceChoice::Kind::kAuto) {
    if (auto notice = TakeAbsenceNotice(); notice.has_value()) {
      placed.notices.push_back(*std::move(notice));
    }
  }
  placed.started = *std::move(started);
  placed.device = DeviceName(index);
  placed.costs = {place, &place->costs};
  return placed;
}

}  // namespace intarsia::engine
