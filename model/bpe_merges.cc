#include "model/bpe_merges.h"

#include <algorithm>
#include <bit>
#include <optional>
#include <string>

#include "model/byte_alphabet.h"

namespace intarsia::model {
namespace {

constexpr int32_t kNumBytes = 256;
constexpr int32_t kFree = -1;

uint64_t PairOf(int32_t left, int32_t right) {
  return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
}

size_t HashOf(uint64_t pair) {
  constexpr uint64_t kMultiplier = 0x9E3779B97F4A7C15ULL;
  const uint64_t product = pair * kMultiplier;
  return static_cast<size_t>(product ^ product >> 32);
}

}  // namespace

// A pair that might be merged. It is out of date once one of the two has been merged away or has
// grown.
struct BpeMerges::Candidate {
  int32_t rank;
  int32_t left;
  int32_t right;
  int32_t left_symbol;
  int32_t right_symbol;
  int32_t merged;

  // The order of a heap, whose front is the greatest.
  bool operator<(const Candidate& other) const {
    return rank != other.rank ? rank > other.rank : left > other.left;
  }
};

// A symbol in the list that a word is; kFree as its symbol once it has been merged away.
struct BpeMerges::Node {
  int32_t symbol;
  int32_t previous;
  int32_t next;
};

class BpeMerges::Queue {
 public:
  explicit Queue(const BpeMerges* merges) : merges_(merges) {}

  void Add(const std::vector<Node>& nodes, int32_t left, int32_t right) {
    if (left < 0 || right < 0) return;
    const int32_t left_symbol = nodes[static_cast<size_t>(left)].symbol;
    const int32_t right_symbol = nodes[static_cast<size_t>(right)].symbol;
    const Entry* entry = merges_->Find(left_symbol, right_symbol);
    if (entry == nullptr) return;
    heap_.push_back({entry->rank, left, right, left_symbol, right_symbol, entry->merged});
    std::push_heap(heap_.begin(), heap_.end());
  }

  std::optional<Candidate> Pop() {
    if (heap_.empty()) return std::nullopt;
    std::pop_heap(heap_.begin(), heap_.end());
    const Candidate candidate = heap_.back();
    heap_.pop_back();
    return candidate;
  }

 private:
  const BpeMerges* merges_;
  std::vector<Candidate> heap_;
};

BpeMerges::BpeMerges() {
  for (int32_t byte = 0; byte < kNumBytes; ++byte) {
    const char bytes[] = {static_cast<char>(byte)};
    symbols_.Append({bytes, 1});
  }
}

Result<BpeMerges> BpeMerges::Parse(std::span<const std::string_view> merges) {
  BpeMerges result;
  result.entries_.assign(std::bit_ceil(merges.size() * 2 + 2), Entry{0, kFree, kFree});
  for (size_t i = 0; i < merges.size(); ++i) {
    const std::string_view line = merges[i];
    // From 1: a left part is at least one byte long.
    const size_t blank = line.find(' ', 1);
    if (blank == std::string_view::npos || blank + 1 == line.size()) {
      return Status(StatusCode::kCorruption,
                    "merge rule is not two parts with a blank between: index=" + std::to_string(i));
    }
    const auto left = DecodeByteAlphabet(line.substr(0, blank));
    const auto right = DecodeByteAlphabet(line.substr(blank + 1));
    if (!left || !right) continue;
    const int32_t left_symbol = result.AddSymbol(*left);
    const int32_t right_symbol = result.AddSymbol(*right);
    const int32_t merged = result.AddSymbol(*left + *right);
    result.Insert(left_symbol, right_symbol, static_cast<int32_t>(i), merged);
  }
  return result;
}

const BpeMerges::Entry* BpeMerges::Find(int32_t left, int32_t right) const {
  const uint64_t pair = PairOf(left, right);
  const size_t mask = entries_.size() - 1;
  for (size_t slot = HashOf(pair) & mask;; slot = (slot + 1) & mask) {
    const Entry& entry = entries_[slot];
    if (entry.rank == kFree) return nullptr;
    if (entry.pair == pair) return &entry;
  }
}

void BpeMerges::Insert(int32_t left, int32_t right, int32_t rank, int32_t merged) {
  const uint64_t pair = PairOf(left, right);
  const size_t mask = entries_.size() - 1;
  size_t slot = HashOf(pair) & mask;
  while (entries_[slot].rank != kFree && entries_[slot].pair != pair) slot = (slot + 1) & mask;
  if (entries_[slot].rank == kFree) entries_[slot] = {pair, rank, merged};
}

std::vector<int32_t> BpeMerges::Merge(std::string_view word) const {
  const auto size = static_cast<int32_t>(word.size());
  std::vector<Node> nodes;
  nodes.reserve(word.size());
  for (int32_t i = 0; i < size; ++i) {
    const auto byte = static_cast<uint8_t>(word[static_cast<size_t>(i)]);
    nodes.push_back({byte, i - 1, i + 1 < size ? i + 1 : kFree});
  }
  Queue queue(this);
  for (int32_t i = 0; i + 1 < size; ++i) queue.Add(nodes, i, i + 1);
  while (const auto candidate = queue.Pop()) {
    Node& left = nodes[static_cast<size_t>(candidate->left)];
    Node& right = nodes[static_cast<size_t>(candidate->right)];
    if (left.symbol != candidate->left_symbol || right.symbol != candidate->right_symbol) continue;
    left.symbol = candidate->merged;
    left.next = right.next;
    right.symbol = kFree;
    if (left.next >= 0) nodes[static_cast<size_t>(left.next)].previous = candidate->left;
    queue.Add(nodes, left.previous, candidate->left);
    queue.Add(nodes, candidate->left, left.next);
  }
  std::vector<int32_t> symbols;
  for (int32_t i = 0; i >= 0; i = nodes[static_cast<size_t>(i)].next) {
    symbols.push_back(nodes[static_cast<size_t>(i)].symbol);
  }
  return symbols;
}

}  // namespace intarsia::model
