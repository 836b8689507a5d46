#include "engine/vector_index.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "base/log.h"
#include "base/stopwatch.h"
#include "engine/device_choice.h"

namespace intarsia::engine {
namespace {

// The codes' centre is found anew when there are this many times the vectors that it was found for.
constexpr int64_t kGrowthMax = 2;
// Settings are measured again when there are this many times the vectors, or one in so many.
constexpr int64_t kDriftMax = 4;
constexpr int64_t kMeasuredMin = 32;

// The slots of `filter` from `begin` on, or all if it is empty.
std::vector<uint64_t> SlotsFrom(index::SlotFilter filter, int64_t begin, int64_t num_rows) {
  std::vector<uint64_t> words(static_cast<size_t>((num_rows + 63) / 64), ~uint64_t{0});
  for (size_t i = 0; i < words.size(); ++i) {
    if (!filter.empty()) words[i] = filter[i];
    const int64_t first = static_cast<int64_t>(i) * 64;
    if (first + 64 <= begin) {
      words[i] = 0;
    } else if (first < begin) {
      words[i] &= ~uint64_t{0} << (begin - first);
    }
  }
  return words;
}

}  // namespace

Status VectorIndex::RefreshProfile(storage::Database* database, const storage::ReadView& view,
                                   storage::CollectionId collection, const RowIndex& rows,
                                   ThreadPool* pool) {
  if (flat_ == nullptr || flat_->size() <= options_.flat_max) {
    if (flat_ != nullptr && costs_.rates() == SearchRates{}) costs_.Reset(flat_->dim(), /*bits=*/2);
    profile_.reset();
    return Status::Ok();
  }
  index::RowSet there = index::RowSet::FromWords(rows.live_words());
  there.AndNot(missing_);
  const int64_t num_there = there.size();
  const auto fits = [num_there](const VectorProfile& profile) {
    return num_there <= kDriftMax * profile.num_rows && profile.num_rows <= kDriftMax * num_there;
  };
  if (profile_.has_value() && fits(*profile_)) return Status::Ok();
  profile_ = LoadProfile(view, collection, model_);
  if ((!profile_.has_value() || !fits(*profile_)) && num_there >= kMeasuredMin) {
    INTARSIA_ASSIGN_OR_RETURN(profile_, MeasureProfile(*flat_, there, options_.sampled_max, pool));
    if (database->access() != storage::AccessMode::kReadOnly) {
      const Status saved = SaveProfile(database, collection, model_, *profile_);
      if (!saved.ok()) Log(LogLevel::kWarning, "vector profile not stored: " + saved.ToString());
    }
  }
  if (!profile_.has_value()) profile_.emplace();
  if (profile_->rates == SearchRates{}) {
    costs_.Reset(flat_->dim(), profile_->bits);
  } else {
    costs_.Set(profile_->rates);
  }
  return Status::Ok();
}

Status VectorIndex::RefreshCodes(ThreadPool* pool) {
  if (!profile_.has_value()) {
    SetCodes(nullptr);
    return Status::Ok();
  }
  if (binary_ != nullptr && binary_->bits() == profile_->bits &&
      flat_->size() <= kGrowthMax * binary_->num_fitted()) {
    return binary_->Append(*flat_, pool);
  }
  INTARSIA_ASSIGN_OR_RETURN(auto codes,
                            index::BinaryIndex::Build(*flat_, {.bits = profile_->bits}, pool));
  SetCodes(std::move(codes));
  return Status::Ok();
}

void VectorIndex::SetCodes(std::unique_ptr<index::BinaryIndex> codes) {
  on_device_.Drop();
  binary_ = std::move(codes);
}

int64_t VectorIndex::num_vectors(const RowIndex& rows) const {
  if (flat_ == nullptr) return 0;
  index::RowSet there = index::RowSet::FromWords(rows.live_words());
  there.AndNot(missing_);
  return there.size();
}

int64_t VectorIndex::memory_bytes() const {
  int64_t bytes = missing_.memory_bytes();
  if (flat_ != nullptr) bytes += flat_->memory_bytes();
  if (binary_ != nullptr) bytes += binary_->memory_bytes();
  return bytes;
}

Result<std::unique_ptr<index::GraphIndex>> VectorIndex::StartGraph(std::string_view bytes) const {
  if (!bytes.empty()) {
    auto loaded = index::GraphIndex::Load(bytes, flat_.get());
    if (loaded.ok()) return loaded;
  }
  return index::GraphIndex::Create(flat_.get(), {});
}

Status VectorIndex::GrowGraph(int64_t num_rows, int num_threads) {
  return graph_->Append(std::min(flat_->size(), graph_->size() + num_rows), num_threads);
}

Result<index::GraphMeasure> VectorIndex::MeasureGraph(const RowIndex& rows) const {
  index::RowSet there = index::RowSet::FromWords(rows.live_words());
  there.AndNot(missing_);
  const std::vector<uint64_t> words = there.ToWords(flat_->size());
  const bool is_coded = binary_ != nullptr && binary_->size() == flat_->size();
  return index::MeasureGraph({.rows = flat_.get(),
                              .codes = is_coded ? binary_.get() : nullptr,
                              .graph = graph_.get(),
                              .filter = words,
                              .breadth = kGraphBreadth},
                             /*pool=*/nullptr);
}

void VectorIndex::SetGraphMeasure(const index::GraphMeasure& measure) {
  graph_measure_ = measure;
  SearchRates rates = costs_.rates();
  rates.graph_us = measure.search_us;
  costs_.Set(rates);
}

Status VectorIndex::MakeSmallGraph() {
  if (!wants_graph() || num_lacking() > options_.graph_at_once_max) return Status::Ok();
  if (graph_ == nullptr) {
    INTARSIA_ASSIGN_OR_RETURN(graph_, StartGraph({}));
  }
  return GrowGraph(flat_->size(), /*num_threads=*/1);
}

Status VectorIndex::SearchFlat(const Plan& plan, VectorMatches* matches) const {
  const Stopwatch stopwatch;
  INTARSIA_ASSIGN_OR_RETURN(matches->hits, flat_->Search(plan.params));
  matches->num_rescored = plan.work.num_passing;
  costs_.ObserveFlat(plan.work, stopwatch.milliseconds());
  return Status::Ok();
}

index::BinarySearchOptions VectorIndex::BinaryOptions() const {
  index::BinarySearchOptions options;
  options.query_bits = profile_->query_bits;
  options.error_bound = profile_->error_bound;
  return options;
}

Status VectorIndex::SearchBinary(const Plan& plan, VectorMatches* matches) const {
  INTARSIA_ASSIGN_OR_RETURN(index::BinarySearchResult found,
                            binary_->Search(*flat_, plan.params, BinaryOptions()));
  matches->hits = std::move(found.hits);
  matches->num_rescored = found.num_rescored;
  costs_.ObserveBinary(plan.work, found.scan_ms, found.rescore_ms);
  return Status::Ok();
}

Status VectorIndex::SearchGraph(const Plan& plan, VectorMatches* matches, bool* is_short) const {
  const Stopwatch stopwatch;
  INTARSIA_ASSIGN_OR_RETURN(
      const index::GraphSearchResult found,
      graph_->Search(plan.params, {.breadth = kGraphBreadth, .breadth_max = kGraphBreadthMax}));
  costs_.ObserveGraph(found.breadth, stopwatch.milliseconds());
  *is_short = found.is_short;
  if (found.is_short) return Status::Ok();
  index::TopK best(plan.params.k);
  for (const index::SearchHit& hit : found.hits) best.Push(hit);
  matches->num_rescored = found.breadth;
  if (graph_->size() < flat_->size()) {
    const std::vector<uint64_t> rest = SlotsFrom(plan.params.filter, graph_->size(), flat_->size());
    index::SearchParams params = plan.params;
    params.filter = rest;
    INTARSIA_ASSIGN_OR_RETURN(const std::vector<index::SearchHit> hits, flat_->Search(params));
    for (const index::SearchHit& hit : hits) best.Push(hit);
    matches->num_rescored += flat_->size() - graph_->size();
  }
  matches->hits = best.Take();
  return Status::Ok();
}

AccessPath VectorIndex::Choose(VectorScan scan,
                               const std::array<double, kNumAccessPaths>& ms) const {
  if (scan == VectorScan::kFlat) return AccessPath::kFlat;
  if (scan == VectorScan::kBinary && has_codes()) return AccessPath::kBinary;
  if (scan == VectorScan::kDevice && std::isfinite(ms[IndexOf(AccessPath::kDevice)])) {
    return AccessPath::kDevice;
  }
  // A graph that is asked for is taken unless the filter leaves it no hope.
  if (scan == VectorScan::kGraph && std::isfinite(ms[IndexOf(AccessPath::kGraph)])) {
    return AccessPath::kGraph;
  }
  size_t best = 0;
  for (size_t path = 1; path < ms.size(); ++path) {
    if (ms[path] < ms[best]) best = path;
  }
  return static_cast<AccessPath>(best);
}

Result<VectorMatches> VectorIndex::Search(const VectorQuery& query, const RowIndex& rows,
                                          ThreadPool* pool) const {
  VectorMatches matches;
  matches.access_path = AccessPathName(AccessPath::kFlat);
  if (flat_ == nullptr) return matches;
  const Stopwatch stopwatch;
  Plan plan;
  plan.params = {.query = query.vector, .k = query.k, .filter = {}, .pool = pool};
  plan.work.num_rows = rows.num_rows();
  plan.work.num_passing = rows.num_live();
  plan.work.k = query.k;
  plan.work.has_codes = has_codes();
  plan.work.num_in_graph = graph_ == nullptr ? 0 : graph_->size();
  if (has_codes() && query.device != nullptr && on_device_.is_promising(*query.device->codes)) {
    plan.work.device_row_bytes = binary_->bits() * flat_->dim() / 8;
  }
  std::vector<uint64_t> words;
  if (query.rows != nullptr || !missing_.is_empty()) {
    index::RowSet passing =
        query.rows != nullptr ? *query.rows : index::RowSet::FromWords(rows.live_words());
    passing.AndNot(missing_);
    words = passing.ToWords(rows.num_rows());
    plan.params.filter = words;
    plan.work.num_passing = passing.size();
  } else if (rows.num_live() < rows.num_rows()) {
    plan.params.filter = rows.live_words();
  }
  if (plan.work.num_passing == 0) return matches;
  matches.predicted_ms = costs_.Predict(plan.work);
  const std::optional<int32_t> device = FindDevice(query, &matches.predicted_ms);
  matches.path = Choose(query.scan, matches.predicted_ms);
  if (matches.path == AccessPath::kDevice) {
    INTARSIA_RETURN_IF_ERROR(SearchOnDevice(plan, *query.device, *device, &matches));
  } else {
    INTARSIA_RETURN_IF_ERROR(SearchOnCpu(plan, &matches));
  }
  matches.search_ms = stopwatch.milliseconds();
  return matches;
}

std::optional<int32_t> VectorIndex::FindDevice(const VectorQuery& query,
                                               std::array<double, kNumAccessPaths>* ms) const {
  constexpr size_t kDevice = IndexOf(AccessPath::kDevice);
  std::optional<int32_t> device;
  // Looking for one starts its driver, so only a search that would go there does.
  if (Choose(query.scan, *ms) == AccessPath::kDevice) device = query.device->find();
  if (!device.has_value()) (*ms)[kDevice] = std::numeric_limits<double>::infinity();
  return device;
}

Status VectorIndex::SearchOnCpu(const Plan& plan, VectorMatches* matches) const {
  matches->access_path = AccessPathName(matches->path);
  if (matches->path == AccessPath::kGraph) {
    bool is_short = false;
    INTARSIA_RETURN_IF_ERROR(SearchGraph(plan, matches, &is_short));
    if (!is_short) return Status::Ok();
    constexpr double kNever = std::numeric_limits<double>::infinity();
    std::array<double, kNumAccessPaths> left = matches->predicted_ms;
    left[IndexOf(AccessPath::kGraph)] = kNever;
    left[IndexOf(AccessPath::kDevice)] = kNever;
    matches->path = Choose(VectorScan::kAuto, left);
    matches->access_path = "graph, then " + std::string(AccessPathName(matches->path));
  }
  if (matches->path != AccessPath::kBinary) return SearchFlat(plan, matches);
  matches->access_path += ", rescored";
  return SearchBinary(plan, matches);
}

Status VectorIndex::SearchOnDevice(const Plan& plan, const SearchDevice& device, int32_t index,
                                   VectorMatches* matches) const {
  const Status status = SearchAt(plan, device, index, matches);
  if (status.ok()) return status;
  matches->notice = "vectors were searched on the CPU, because " + CudaName(index) +
                    " could not: " + std::string(status.message());
  matches->predicted_ms[IndexOf(AccessPath::kDevice)] = std::numeric_limits<double>::infinity();
  matches->path = Choose(VectorScan::kAuto, matches->predicted_ms);
  return SearchOnCpu(plan, matches);
}

Status VectorIndex::SearchAt(const Plan& plan, const SearchDevice& device, int32_t index,
                             VectorMatches* matches) const {
  INTARSIA_ASSIGN_OR_RETURN(const DeviceCodeCopy::Lease lease,
                            on_device_.Bring(device.codes, index, *binary_));
  index::BinarySearchOptions options = BinaryOptions();
  options.scanner = lease.scanner.get();
  Result<index::BinarySearchResult> found = binary_->Search(*flat_, plan.params, options);
  if (!found.ok()) {
    // A damaged vector or a bad query is not the device's fault, and any other way finds it, too.
    const StatusCode code = found.status().code();
    if (code != StatusCode::kCorruption && code != StatusCode::kInvalidArgument) {
      on_device_.Fail(lease.scanner);
    }
    return found.status();
  }
  matches->access_path =
      std::string(AccessPathName(AccessPath::kDevice)) + " at " + CudaName(index) + ", rescored";
  matches->num_rescored = found->num_rescored;
  matches->hits = std::move(found->hits);
  // What comes first to a device waits for more than a scan: that would be a poor prediction.
  if (!lease.is_new) costs_.ObserveDevice(plan.work, found->scan_ms, found->rescore_ms);
  return Status::Ok();
}

}  // namespace intarsia::engine
