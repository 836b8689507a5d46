#include "storage/kv_memory.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>
#include <utility>

namespace intarsia::storage {
namespace {

constexpr int64_t kLayerAlignment = AlignedArray<uint8_t>::kAlignment;
// Half-lives in uses for each cache that is held (bench/storage/kv_eviction_bench).
constexpr std::array<double, 3> kHalfLivesPerEntry = {2.0, 6.0, 20.0};
// What a half-life was right about counts this much less with each use.
constexpr double kForgetting = 0.99;
// No half-life weighs less, so that each can come back.
constexpr double kWeightMin = 0.001;
// Everything may be asked for, however cold it is.
constexpr double kRateMin = 1e-5;
constexpr double kEntriesMin = 16.0;
// Caches that are not held and whose heat is remembered.
constexpr size_t kRememberedMax = 16'384;

int64_t Aligned(int64_t num_bytes) {
  return (num_bytes + kLayerAlignment - 1) / kLayerAlignment * kLayerAlignment;
}

// The time that computing takes grows with the tokens and layers.
double SavedPerByte(const KvEntry& entry) {
  return static_cast<double>(entry.shape.num_tokens) * static_cast<double>(entry.shape.num_layers) /
         static_cast<double>(std::max<int64_t>(1, KvMemory::BytesOf(entry)));
}

}  // namespace

std::shared_ptr<KvMemoryEntry> KvMemoryEntry::Create(const KvEntry& entry,
                                                     std::shared_ptr<MemorySource> source,
                                                     SourceUse use) {
  std::shared_ptr<KvMemoryEntry> held(new KvMemoryEntry(entry.extents.size()));
  for (size_t i = 0; i < held->layers_.size(); ++i) {
    held->layers_[i].offset = held->num_bytes_;
    held->layers_[i].num_bytes = entry.extents[i].num_bytes;
    held->num_bytes_ += Aligned(entry.extents[i].num_bytes);
  }
  if (source != nullptr) held->block_ = source->Take(held->num_bytes_);
  if (held->is_from_source()) {
    held->source_ = std::move(source);
    held->data_ = static_cast<uint8_t*>(held->block_.data);
    return held;
  }
  if (use == SourceUse::kRequired) return nullptr;
  Result<AlignedArray<uint8_t>> memory = AlignedArray<uint8_t>::TryCreate(held->num_bytes_);
  if (!memory.ok()) return nullptr;
  held->memory_ = *std::move(memory);
  held->data_ = held->memory_.data();
  return held;
}

KvMemoryEntry::~KvMemoryEntry() {
  if (is_from_source()) source_->Give(block_);
}

const uint8_t* KvMemoryEntry::InSource(int64_t layer) const {
  if (!is_from_source()) return nullptr;
  for (const Layer& one : layers_) {
    // Acquire: as in Read.
    if (one.state.load(std::memory_order_acquire) != kFilled) return nullptr;
  }
  return data_ + layers_[static_cast<size_t>(layer)].offset;
}

void KvMemoryEntry::SetFilled() {
  for (Layer& layer : layers_) layer.state.store(kFilled, std::memory_order_release);
}

bool KvMemoryEntry::Read(int64_t layer, std::span<uint8_t> target) const {
  const Layer& from = layers_[static_cast<size_t>(layer)];
  // Acquire: pairs with the release in Keep, so that the bytes are there.
  if (from.state.load(std::memory_order_acquire) != kFilled) return false;
  std::memcpy(target.data(), data_ + from.offset, static_cast<size_t>(from.num_bytes));
  return true;
}

void KvMemoryEntry::Keep(int64_t layer, std::span<const uint8_t> payload) {
  Layer& to = layers_[static_cast<size_t>(layer)];
  uint8_t expected = kEmpty;
  if (!to.state.compare_exchange_strong(expected, kFilling, std::memory_order_relaxed)) return;
  std::memcpy(data_ + to.offset, payload.data(), payload.size());
  to.state.store(kFilled, std::memory_order_release);
}

double KvMemory::HalfLife(size_t index) const {
  return kHalfLivesPerEntry[index] * std::max(kEntriesMin, static_cast<double>(held_.size()));
}

std::array<double, KvMemory::kNumHalfLives> KvMemory::UsesNow(const Heat& heat) const {
  std::array<double, kNumHalfLives> uses = heat.uses;
  const auto age = static_cast<double>(clock_ - heat.last_use);
  for (size_t i = 0; i < uses.size(); ++i) uses[i] *= std::exp2(-age / HalfLife(i));
  return uses;
}

double KvMemory::RateNow(const Heat& heat) const {
  const std::array<double, kNumHalfLives> uses = UsesNow(heat);
  double rate = 0.0;
  for (size_t i = 0; i < uses.size(); ++i) rate += weights_[i] * uses[i] / HalfLife(i);
  return rate;
}

void KvMemory::Touch(Heat* heat) const {
  heat->uses = UsesNow(*heat);
  for (double& uses : heat->uses) uses += 1.0;
  heat->last_use = clock_;
}

void KvMemory::Learn(const Heat& heat) {
  // A cache that is asked for once in T uses has a heat of T's inverse times half-life / ln 2.
  const std::array<double, kNumHalfLives> uses = UsesNow(heat);
  for (size_t i = 0; i < uses.size(); ++i) {
    const double rate = std::numbers::ln2 * uses[i] / HalfLife(i);
    log_likelihoods_[i] = kForgetting * log_likelihoods_[i] + std::log(rate + kRateMin);
  }
  const double best = std::ranges::max(log_likelihoods_);
  double sum = 0.0;
  for (size_t i = 0; i < weights_.size(); ++i) {
    weights_[i] = std::exp(log_likelihoods_[i] - best) + kWeightMin;
    sum += weights_[i];
  }
  for (double& weight : weights_) weight /= sum;
}

int64_t KvMemory::BytesOf(const KvEntry& entry) {
  int64_t num_bytes = 0;
  for (const KvExtent& extent : entry.extents) num_bytes += Aligned(extent.num_bytes);
  return num_bytes;
}

std::shared_ptr<KvMemoryEntry> KvMemory::Use(const KvEntry& entry) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (bytes_max_ == 0 && held_.empty()) return nullptr;
  ++clock_;
  if (const auto found = held_.find(entry.identity); found != held_.end()) {
    ++counters_.hits;
    Learn(found->second.heat);
    Touch(&found->second.heat);
    return found->second.entry;
  }
  ++counters_.misses;
  const auto before = remembered_.find(entry.identity);
  Heat heat = before == remembered_.end() ? Heat() : before->second;
  const bool is_known = before != remembered_.end();
  if (is_known) Learn(heat);
  Touch(&heat);
  const bool is_retained = retained_.contains(entry.identity);
  const double worth = is_retained ? HUGE_VAL : RateNow(heat) * SavedPerByte(entry);
  if (is_known || is_retained) {
    if (auto held = Admit(entry, heat, worth); held != nullptr) return held;
  }
  Remember(entry.identity, heat);
  return nullptr;
}

std::shared_ptr<KvMemoryEntry> KvMemory::Hold(const KvEntry& entry) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!retained_.contains(entry.identity)) return nullptr;
  if (const auto found = held_.find(entry.identity); found != held_.end()) {
    return found->second.entry;
  }
  const auto before = remembered_.find(entry.identity);
  return Admit(entry, before == remembered_.end() ? Heat() : before->second, HUGE_VAL);
}

std::shared_ptr<KvMemoryEntry> KvMemory::Admit(const KvEntry& entry, const Heat& heat,
                                               double worth) {
  const int64_t num_bytes = BytesOf(entry);
  if (!MakeRoom(num_bytes, worth, bytes_max_)) return nullptr;
  auto held = KvMemoryEntry::Create(entry, source_, source_use_);
  if (held == nullptr && source_use_ == SourceUse::kRequired &&
      MakeRoom(num_bytes, worth, num_bytes_)) {
    held = KvMemoryEntry::Create(entry, source_, source_use_);
  }
  if (held == nullptr) return nullptr;
  remembered_.erase(entry.identity);
  num_bytes_ += held->num_bytes();
  ++counters_.admissions;
  held_[entry.identity] = {.heat = heat, .saved_per_byte = SavedPerByte(entry), .entry = held};
  return held;
}

std::vector<KvMemory::Candidate> KvMemory::CandidatesBelow(double worth) const {
  std::vector<Candidate> candidates;
  for (const auto& [identity, slot] : held_) {
    // New uses are given out under the lock only, so what is unused here stays unused.
    if (slot.entry.use_count() > 1 || retained_.contains(identity)) continue;
    const double worth_now = RateNow(slot.heat) * slot.saved_per_byte;
    if (worth_now < worth) candidates.push_back({worth_now, identity, slot.entry->num_bytes()});
  }
  std::ranges::sort(candidates, {},
                    [](const Candidate& row) { return std::pair(row.worth, row.identity); });
  return candidates;
}

void KvMemory::GiveUp(const Candidate& candidate) {
  const auto found = held_.find(candidate.identity);
  Remember(found->first, found->second.heat);
  held_.erase(found);
  num_bytes_ -= candidate.num_bytes;
  ++counters_.evictions;
}

bool KvMemory::MakeRoom(int64_t num_bytes, double worth, int64_t bytes_max) {
  if (num_bytes > bytes_max) return false;
  if (num_bytes_ + num_bytes <= bytes_max) return true;
  const std::vector<Candidate> candidates = CandidatesBelow(worth);
  int64_t num_freed = 0;
  size_t num_gone = 0;
  while (num_bytes_ - num_freed + num_bytes > bytes_max) {
    if (num_gone == candidates.size()) return false;
    num_freed += candidates[num_gone++].num_bytes;
  }
  for (size_t i = 0; i < num_gone; ++i) GiveUp(candidates[i]);
  return true;
}

void KvMemory::Remember(const Digest& identity, const Heat& heat) {
  remembered_[identity] = heat;
  if (remembered_.size() <= kRememberedMax) return;
  // A half at once, the coldest: a sweep for every new one would cost more than it is worth.
  std::vector<std::pair<double, Digest>> rows;
  for (const auto& [other, its_heat] : remembered_) rows.emplace_back(RateNow(its_heat), other);
  std::ranges::nth_element(rows, rows.begin() + kRememberedMax / 2);
  for (size_t i = 0; i < kRememberedMax / 2; ++i) remembered_.erase(rows[i].second);
}

void KvMemory::Retain(const KvEntry& entry) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!retained_.emplace(entry.identity, BytesOf(entry)).second) return;
  retained_bytes_ += BytesOf(entry);
}

void KvMemory::Release(const Digest& identity) {
  const std::lock_guard<std::mutex> lock(mutex_);
  ReleaseLocked(identity);
}

void KvMemory::ReleaseLocked(const Digest& identity) {
  const auto retained = retained_.find(identity);
  if (retained == retained_.end()) return;
  retained_bytes_ -= retained->second;
  retained_.erase(retained);
}

void KvMemory::Remove(const Digest& identity) {
  const std::lock_guard<std::mutex> lock(mutex_);
  remembered_.erase(identity);
  ReleaseLocked(identity);
  const auto found = held_.find(identity);
  if (found == held_.end()) return;
  num_bytes_ -= found->second.entry->num_bytes();
  held_.erase(found);
}

void KvMemory::RemoveIf(const std::function<bool(const Digest&)>& is_gone) {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::erase_if(remembered_, [&](const auto& row) { return is_gone(row.first); });
  std::erase_if(held_, [&](const auto& row) {
    if (!is_gone(row.first)) return false;
    num_bytes_ -= row.second.entry->num_bytes();
    ReleaseLocked(row.first);
    return true;
  });
}

void KvMemory::SetSource(std::shared_ptr<MemorySource> source, SourceUse use) {
  const std::lock_guard<std::mutex> lock(mutex_);
  source_ = std::move(source);
  source_use_ = use;
}

void KvMemory::SetBudget(int64_t bytes_max) {
  const std::lock_guard<std::mutex> lock(mutex_);
  bytes_max_ = bytes_max;
  if (num_bytes_ <= bytes_max_) return;
  // The least valuable go until the rest fits; what is in use goes with a later call or admission.
  for (const Candidate& candidate : CandidatesBelow(HUGE_VAL)) {
    if (num_bytes_ <= bytes_max_) return;
    GiveUp(candidate);
  }
}

KvMemoryStats KvMemory::stats() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  KvMemoryStats stats = counters_;
  stats.num_entries = static_cast<int64_t>(held_.size());
  stats.num_bytes = num_bytes_;
  stats.bytes_max = bytes_max_;
  stats.num_retained = std::ssize(retained_);
  stats.retained_bytes = retained_bytes_;
  for (const auto& [identity, slot] : held_) {
    if (slot.entry->is_from_source()) stats.source_bytes += slot.entry->num_bytes();
  }
  stats.num_pins = std::ranges::count_if(
      held_, [](const auto& row) { return row.second.entry.use_count() > 1; });
  return stats;
}

}  // namespace intarsia::storage
