// TopK: the k best of a stream of scored ids, in a heap.
//
// The order is total: a higher score first, then a lower id. So the result depends neither on the
// order of the stream nor on how it was shared between threads.
//
// Thread safety: owned by one thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

namespace intarsia::index {

struct SearchHit {
  uint64_t id = 0;
  float score = 0.0F;

  bool operator==(const SearchHit&) const = default;
};

inline bool IsBetter(const SearchHit& a, const SearchHit& b) {
  return a.score > b.score || (a.score == b.score && a.id < b.id);
}

class TopK {
 public:
  explicit TopK(int64_t k) : k_(k) {}

  bool is_full() const { return static_cast<int64_t>(heap_.size()) >= k_; }
  // A hit with a lower score cannot enter. Minus infinity until k hits are there.
  float threshold() const {
    if (k_ <= 0) return std::numeric_limits<float>::infinity();
    return is_full() ? heap_.front().score : -std::numeric_limits<float>::infinity();
  }

  void Push(const SearchHit& hit) {
    if (!is_full()) {
      heap_.push_back(hit);
      std::push_heap(heap_.begin(), heap_.end(), IsBetter);
    } else if (k_ > 0 && IsBetter(hit, heap_.front())) {
      std::pop_heap(heap_.begin(), heap_.end(), IsBetter);
      heap_.back() = hit;
      std::push_heap(heap_.begin(), heap_.end(), IsBetter);
    }
  }
  void Merge(const TopK& other) {
    for (const SearchHit& hit : other.heap_) Push(hit);
  }

  // The hits, best first; the heap is empty afterwards.
  std::vector<SearchHit> Take() {
    std::sort_heap(heap_.begin(), heap_.end(), IsBetter);
    return std::exchange(heap_, {});
  }

 private:
  int64_t k_;
  std::vector<SearchHit> heap_;  // The worst hit in front.
};

}  // namespace intarsia::index
