// BpeMerges: which two neighbouring symbols byte-level BPE joins, and in which order.
//
// Symbols are byte strings with numbers; 0 to 255 are the single bytes. A word is merged by taking,
// again and again, the pair with the lowest rank, the leftmost among equals, until no pair has one.
// A queue holds the pairs, so a word of n bytes takes n log n.
//
// Thread safety: concurrent const calls only.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "model/string_pool.h"

namespace intarsia::model {

class BpeMerges {
 public:
  // `merges` are lines "left right" in the byte alphabet, the most urgent first. Of equal pairs the
  // first counts; a pair outside the alphabet can never occur and is ignored, as llama.cpp does.
  // Errors: kCorruption if a line has no blank between two parts.
  static Result<BpeMerges> Parse(std::span<const std::string_view> merges);

  // The number of the symbol with these bytes, added if it is new.
  int32_t AddSymbol(std::string_view bytes) { return symbols_.FindOrAppend(bytes); }
  // The number of the symbol with these bytes, or -1.
  int32_t FindSymbol(std::string_view bytes) const { return symbols_.Find(bytes); }
  std::string_view symbol(int32_t index) const { return symbols_.Get(index); }
  int32_t num_symbols() const { return symbols_.size(); }

  // The symbols into which `word` merges. REQUIRES: 0 < word.size() < 2^31.
  std::vector<int32_t> Merge(std::string_view word) const;

 private:
  struct Entry {
    uint64_t pair;
    int32_t rank;  // -1 where the slot is free.
    int32_t merged;
  };
  struct Candidate;
  struct Node;
  class Queue;

  BpeMerges();
  const Entry* Find(int32_t left, int32_t right) const;
  void Insert(int32_t left, int32_t right, int32_t rank, int32_t merged);

  StringPool symbols_;
  std::vector<Entry> entries_;  // Open addressing, a power of two.
};

}  // namespace intarsia::model
