// KvMemory: the KV caches that are worth their memory, between the segments on disk and a request.
//
// A cache is held once it was asked for twice, if it is worth more than what goes for it: how soon
// it is asked for again, times the time that loading it saves, by bytes. How soon is said by its
// heat, the uses that count half as much after each half-life. A short half-life follows questions
// that move on, a long one knows the favourites of questions that do not; so there are three, which
// weigh as much as they were right about what was asked for lately (a mixture by likelihood that
// forgets: Herbster and Warmuth, "Tracking the best expert", 1998, section 5). What is not held
// keeps its heat for a while, so that it does not begin anew, and counts for the weights too.
// Layers come in as they are read and verified; the store reads the others from disk. Invariants:
//   1. The bytes of all held caches never exceed the budget; what is in use counts and stays.
//      A budget that is made smaller waits for what is in use, and for nothing else.
//   2. A layer is served only after a reader has verified and kept it.
//   3. What is retained never goes for what is not.
//
// Thread safety: thread-safe.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/aligned_array.h"
#include "base/hash.h"
#include "base/memory_source.h"
#include "storage/kv_entry.h"

namespace intarsia::storage {

// What is done where a source of memory has none left.
enum class SourceUse : uint8_t {
  kPreferred,  // ordinary memory is taken
  kRequired,   // the cache is not held
};

// The layers of one cache, as far as they have been read. Thread safety: thread-safe.
class KvMemoryEntry {
 public:
  // In memory of `source`, or, if it is preferred, in ordinary memory where that has none or is
  // null. Null if there is no memory.
  static std::shared_ptr<KvMemoryEntry> Create(const KvEntry& entry,
                                               std::shared_ptr<MemorySource> source, SourceUse use);
  ~KvMemoryEntry();
  KvMemoryEntry(const KvMemoryEntry&) = delete;
  KvMemoryEntry& operator=(const KvMemoryEntry&) = delete;

  bool Has(int64_t layer) const {
    return layers_[static_cast<size_t>(layer)].state.load(std::memory_order_relaxed) == kFilled;
  }
  // Copies a layer into `target`, which has its size; false if it is not here yet.
  bool Read(int64_t layer, std::span<uint8_t> target) const;
  // Keeps a verified layer. The first of two readers does, the other changes nothing.
  void Keep(int64_t layer, std::span<const uint8_t> payload);
  int64_t num_bytes() const { return num_bytes_; }

  // Whether the memory came from the source.
  bool is_from_source() const { return block_.data != nullptr; }
  // A layer where it lies in memory of the source; null for ordinary memory, or until all layers
  // are here. Aligned as AlignedArray, valid as long as the entry.
  const uint8_t* InSource(int64_t layer) const;

  // For memory of a source that the host cannot write: where a layer is to be put, and that all of
  // them were. REQUIRES: is_from_source(), and nobody calls Read or Keep.
  uint8_t* Target(int64_t layer) { return data_ + layers_[static_cast<size_t>(layer)].offset; }
  void SetFilled();

 private:
  explicit KvMemoryEntry(size_t num_layers) : layers_(num_layers) {}

  enum State : uint8_t { kEmpty, kFilling, kFilled };
  struct Layer {
    int64_t offset = 0;
    int64_t num_bytes = 0;
    std::atomic<uint8_t> state{kEmpty};
  };

  std::vector<Layer> layers_;
  int64_t num_bytes_ = 0;  // with the padding that aligns layers
  std::shared_ptr<MemorySource> source_;
  MemoryBlock block_;             // from source_, or
  AlignedArray<uint8_t> memory_;  // ordinary memory
  uint8_t* data_ = nullptr;       // of either
};

class KvMemory {
 public:
  // `bytes_max` 0 holds nothing.
  explicit KvMemory(int64_t bytes_max) : bytes_max_(bytes_max) {
    weights_.fill(1.0 / static_cast<double>(kNumHalfLives));
  }

  // Counts a use of the cache. Returns where its layers are held or go now, or null if it is not to
  // be held. It stays while the pointer lives, unless it is removed.
  std::shared_ptr<KvMemoryEntry> Use(const KvEntry& entry);

  // Forgets a cache that left the store. Whoever uses it may go on.
  void Remove(const Digest& identity);
  // Forgets all caches for which `is_gone` says so. It must not call this.
  void RemoveIf(const std::function<bool(const Digest&)>& is_gone);
  // From now on the cache is held, once it was used, whatever it is worth; until Release.
  void Retain(const KvEntry& entry);
  void Release(const Digest& identity);
  // Where the layers of a retained cache are held or go now; null if it is not retained or if what
  // is in use leaves no room. Counts no use.
  std::shared_ptr<KvMemoryEntry> Hold(const KvEntry& entry);
  // What a cache takes here.
  static int64_t BytesOf(const KvEntry& entry);
  // What comes in from now on lies in memory of `source`; null: in ordinary memory. A required
  // source that has no more bounds what is held as the budget does: what is worth less makes room.
  void SetSource(std::shared_ptr<MemorySource> source, SourceUse use);
  // A smaller budget takes effect at once, but for what is in use. REQUIRES: bytes_max >= 0.
  void SetBudget(int64_t bytes_max);
  KvMemoryStats stats() const;

 private:
  static constexpr size_t kNumHalfLives = 3;
  struct Heat {
    std::array<double, kNumHalfLives> uses = {};  // as of last_use, by half-life
    uint64_t last_use = 0;
  };
  struct Slot {
    Heat heat;
    double saved_per_byte = 0.0;
    std::shared_ptr<KvMemoryEntry> entry;
  };

  // These are called with mutex_ held.
  double HalfLife(size_t index) const;
  std::array<double, kNumHalfLives> UsesNow(const Heat& heat) const;
  // How often it is asked for, as the half-lives say by their weights.
  double RateNow(const Heat& heat) const;
  void Touch(Heat* heat) const;
  // Weighs the half-lives anew when a cache is asked for whose heat is known.
  void Learn(const Heat& heat);
  struct Candidate {
    double worth;
    Digest identity;
    int64_t num_bytes;
  };
  // What may go for something of `worth`, the least worth first.
  std::vector<Candidate> CandidatesBelow(double worth) const;
  void GiveUp(const Candidate& candidate);
  // Makes room for `num_bytes` within `bytes_max` by what is worth less than `worth`; false if that
  // is not enough, and then nothing went.
  bool MakeRoom(int64_t num_bytes, double worth, int64_t bytes_max);
  // Holds the cache; null if the budget or the memory does not allow it.
  std::shared_ptr<KvMemoryEntry> Admit(const KvEntry& entry, const Heat& heat, double worth);
  void Remember(const Digest& identity, const Heat& heat);
  void ReleaseLocked(const Digest& identity);

  mutable std::mutex mutex_;
  // Guarded by mutex_.
  int64_t bytes_max_;
  std::shared_ptr<MemorySource> source_;
  SourceUse source_use_ = SourceUse::kPreferred;
  int64_t num_bytes_ = 0;
  uint64_t clock_ = 0;  // uses so far
  // By half-life: the logarithm of how likely it found what was asked for, and the weight.
  std::array<double, kNumHalfLives> log_likelihoods_ = {};
  std::array<double, kNumHalfLives> weights_;
  std::unordered_map<Digest, Slot, DigestHash> held_;
  std::unordered_map<Digest, Heat, DigestHash> remembered_;
  std::unordered_map<Digest, int64_t, DigestHash> retained_;  // with their bytes
  int64_t retained_bytes_ = 0;
  KvMemoryStats counters_;
};

}  // namespace intarsia::storage
