// Which caches to hold in memory: KvMemory, the disk's policy and four textbook ones on traces.
//
// The traces are drawn from a seed: caches of 60 to 1,000 tokens, asked for by Zipf's law, with
// favourites that move on, and with every fourth request from a scan of everything. The figure is
// the share of the bytes asked for that a tier of some size has; no time is measured.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include <benchmark/benchmark.h>

#include "storage/kv_eviction.h"
#include "storage/kv_memory.h"

namespace intarsia::storage {
namespace {

constexpr int kNumCaches = 3'000;
constexpr int kNumRequests = 60'000;
constexpr int64_t kBytesPerToken = 1'024;

enum Trace : int { kZipf, kShifting, kScanned };
enum Policy : int { kLru, kLfu, kGdsf, kS3Fifo, kDiskPolicy, kMemory };

struct Requests {
  explicit Requests(Trace trace) : bytes(kNumCaches), ids(kNumRequests) {
    std::mt19937_64 random(7);
    std::normal_distribution<double> log_tokens(5.6, 0.6);
    for (int64_t& size : bytes) {
      const double tokens = 60 + std::min(940.0, std::exp(log_tokens(random)));
      size = static_cast<int64_t>(tokens) * kBytesPerToken;
    }
    std::vector<double> weights(kNumCaches);
    for (int i = 0; i < kNumCaches; ++i) weights[static_cast<size_t>(i)] = std::pow(i + 1, -0.9);
    std::discrete_distribution<size_t> zipf(weights.begin(), weights.end());
    std::vector<int> names(kNumCaches);
    std::iota(names.begin(), names.end(), 0);
    std::shuffle(names.begin(), names.end(), random);
    for (int i = 0; i < kNumRequests; ++i) {
      if (trace == kShifting && i % 10'000 == 0) {
        std::rotate(names.begin(), names.begin() + kNumCaches / 5, names.end());
      }
      const int drawn = names[zipf(random)];
      ids[static_cast<size_t>(i)] = trace == kScanned && i % 4 == 3 ? i / 4 % kNumCaches : drawn;
    }
  }
  int64_t total_bytes() const { return std::accumulate(bytes.begin(), bytes.end(), int64_t{0}); }

  std::vector<int64_t> bytes;  // [kNumCaches]
  std::vector<int> ids;        // [kNumRequests]
};

// A tier of some size: whether it has what is asked for, after which it may hold it.
using Tier = std::function<bool(int id)>;

// Gives up what is of least worth; worth depends on uses, time and what went before.
class Ranked {
 public:
  struct Use {
    uint64_t last = 0;
    uint64_t count = 0;
    double credit = 0.0;  // GDSF: what had to be given up when it was last used
  };
  using Worth = std::function<double(const Use&, uint64_t now, int64_t bytes)>;
  Ranked(const Requests* requests, int64_t capacity, Worth worth)
      : requests_(requests), capacity_(capacity), worth_(std::move(worth)) {}

  bool Ask(int id) {
    ++now_;
    const auto found = held_.find(id);
    if (found != held_.end()) {
      found->second = {.last = now_, .count = found->second.count + 1, .credit = inflation_};
      return true;
    }
    const int64_t size = requests_->bytes[static_cast<size_t>(id)];
    while (num_bytes_ + size > capacity_) GiveUp();
    held_[id] = {.last = now_, .count = 1, .credit = inflation_};
    num_bytes_ += size;
    return false;
  }

 private:
  void GiveUp() {
    auto worst = held_.begin();
    double least = HUGE_VAL;
    for (auto it = held_.begin(); it != held_.end(); ++it) {
      const int64_t size = requests_->bytes[static_cast<size_t>(it->first)];
      if (const double worth = worth_(it->second, now_, size); worth < least) {
        least = worth;
        worst = it;
      }
    }
    inflation_ = least;
    num_bytes_ -= requests_->bytes[static_cast<size_t>(worst->first)];
    held_.erase(worst);
  }

  const Requests* requests_;
  const int64_t capacity_;
  const Worth worth_;
  std::unordered_map<int, Use> held_;
  int64_t num_bytes_ = 0;
  uint64_t now_ = 0;
  double inflation_ = 0.0;
};

// S3-FIFO: a small queue for what is new, a main queue, and the names of what went.
class S3Fifo {
 public:
  S3Fifo(const Requests* requests, int64_t capacity) : requests_(requests), capacity_(capacity) {}

  bool Ask(int id) {
    const auto found = slots_.find(id);
    if (found != slots_.end() && found->second.queue != kGhost) {
      found->second.uses = std::min(3, found->second.uses + 1);
      return true;
    }
    const bool is_ghost = found != slots_.end();
    while (bytes_[kSmall] + bytes_[kMain] + Size(id) > capacity_) {
      bytes_[kSmall] >= capacity_ / 10 || queues_[kMain].empty() ? ShrinkSmall() : ShrinkMain();
    }
    if (is_ghost) Take(kGhost, id);
    Push(is_ghost ? kMain : kSmall, id);
    return false;
  }

 private:
  enum Queue : uint8_t { kSmall, kMain, kGhost };
  struct Slot {
    Queue queue = kSmall;
    int uses = 0;
  };
  int64_t Size(int id) const { return requests_->bytes[static_cast<size_t>(id)]; }
  void Push(Queue queue, int id) {
    queues_[queue].push_front(id);
    bytes_[queue] += Size(id);
    slots_[id] = {.queue = queue, .uses = 0};
  }
  void Take(Queue queue, int id) {
    queues_[queue].remove(id);
    bytes_[queue] -= Size(id);
  }
  int Pop(Queue queue) {
    const int id = queues_[queue].back();
    queues_[queue].pop_back();
    bytes_[queue] -= Size(id);
    return id;
  }
  void ShrinkMain() {
    while (!queues_[kMain].empty()) {
      const int id = Pop(kMain);
      const int uses = slots_[id].uses;
      if (uses == 0) {
        slots_.erase(id);
        return;
      }
      Push(kMain, id);
      slots_[id].uses = uses - 1;
    }
  }
  void ShrinkSmall() {
    while (!queues_[kSmall].empty()) {
      const int id = Pop(kSmall);
      if (slots_[id].uses > 1) {
        Push(kMain, id);
        continue;
      }
      Push(kGhost, id);
      while (bytes_[kGhost] > capacity_ * 9 / 10) slots_.erase(Pop(kGhost));
      return;
    }
  }

  const Requests* requests_;
  const int64_t capacity_;
  std::list<int> queues_[3];
  int64_t bytes_[3] = {};
  std::unordered_map<int, Slot> slots_;
};

Tier MakeTier(Policy policy, const Requests& requests, int64_t capacity) {
  const auto ranked = [&](Ranked::Worth worth) -> Tier {
    auto tier = std::make_shared<Ranked>(&requests, capacity, std::move(worth));
    return [tier](int id) { return tier->Ask(id); };
  };
  using Use = Ranked::Use;
  switch (policy) {
    case kLfu:
      return ranked([](const Use& use, uint64_t, int64_t) {
        return static_cast<double>(use.count) + 1e-9 * static_cast<double>(use.last);
      });
    case kGdsf:  // What a cache saves grows with its size, so cost by bytes is the same for all.
      return ranked([](const Use& use, uint64_t, int64_t) {
        return use.credit + static_cast<double>(use.count);
      });
    case kS3Fifo: {
      auto tier = std::make_shared<S3Fifo>(&requests, capacity);
      return [tier](int id) { return tier->Ask(id); };
    }
    case kDiskPolicy:
      return ranked([](const Use& use, uint64_t now, int64_t bytes) {
        return KvEvictionPolicy::LeastRecentlyUsed()->Worth(
            {.last_use = use.last, .now = now, .num_uses = use.count, .num_bytes = bytes});
      });
    case kMemory: {
      auto memory = std::make_shared<KvMemory>(capacity);
      return [memory, &requests](int id) {
        const int64_t size = requests.bytes[static_cast<size_t>(id)];
        KvEntry entry;
        entry.identity = DigestOf(std::to_string(id));
        entry.shape = {.num_layers = 1, .num_tokens = size / kBytesPerToken, .quantizer = 3};
        entry.extents = {{.offset = 0, .num_bytes = size, .checksum = {}}};
        const int64_t hits = memory->stats().hits;
        memory->Use(entry);
        return memory->stats().hits > hits;
      };
    }
    case kLru:
      break;
  }
  return ranked([](const Use& use, uint64_t, int64_t) { return static_cast<double>(use.last); });
}

double HitShare(Policy policy, const Requests& requests, int64_t capacity) {
  const Tier ask = MakeTier(policy, requests, capacity);
  int64_t num_hit = 0;
  int64_t num_asked = 0;
  for (const int id : requests.ids) {
    const int64_t size = requests.bytes[static_cast<size_t>(id)];
    num_asked += size;
    if (ask(id)) num_hit += size;
  }
  return static_cast<double>(num_hit) / static_cast<double>(num_asked);
}

// Arguments: trace, policy, size of the tier in percent of all caches.
void BM_KvEviction_HitBytes(benchmark::State& state) {
  static constexpr const char* kTraces[] = {"zipf", "shifting", "scanned"};
  static constexpr const char* kPolicies[] = {"lru", "lfu", "gdsf", "s3-fifo", "disk", "memory"};
  const Requests requests(static_cast<Trace>(state.range(0)));
  const int64_t capacity = requests.total_bytes() * state.range(2) / 100;
  double share = 0.0;
  for (auto _ : state) {
    share = HitShare(static_cast<Policy>(state.range(1)), requests, capacity);
  }
  state.SetLabel(std::string(kTraces[state.range(0)]) + " " + kPolicies[state.range(1)]);
  state.counters["hit_bytes"] = share;
  state.counters["of_lru"] = share / HitShare(kLru, requests, capacity);
}
BENCHMARK(BM_KvEviction_HitBytes)
    ->ArgsProduct({{kZipf, kShifting, kScanned},
                   {kLru, kLfu, kGdsf, kS3Fifo, kDiskPolicy, kMemory},
                   {5, 20}})
    ->Iterations(1);

}  // namespace
}  // namespace intarsia::storage
