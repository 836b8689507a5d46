// TokenSink: where the tokens of one Encode call are collected, with a memory of its words.
//
// Text repeats its words, so a tokenizer that works word by word asks Repeat first and calls
// Remember after the work. The memory lasts for one call, which keeps tokenizers immutable.
//
// Thread safety: owned by one thread.
// Lifetime: words that are remembered must outlive the sink.
#pragma once

#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "model/tokenizer.h"

namespace intarsia::model {

enum class TokenRanges : uint8_t { kOmit, kKeep };

class TokenSink {
 public:
  explicit TokenSink(TokenRanges ranges) : keeps_ranges_(ranges == TokenRanges::kKeep) {}

  // Appends `id`, which stands for the bytes [begin, end) of the text.
  void Add(int32_t id, int64_t begin, int64_t end) {
    encoded_.ids.push_back(id);
    if (keeps_ranges_) encoded_.ranges.push_back({begin, end});
  }

  // Appends the tokens of an equal word remembered earlier, moved to `offset`; false if there is
  // none.
  bool Repeat(std::string_view word, int64_t offset);
  // Remembers that the tokens from `first` on are those of `word`, which lies at `offset`.
  void Remember(std::string_view word, int64_t offset, int64_t first);

  int64_t size() const { return static_cast<int64_t>(encoded_.ids.size()); }
  EncodedText Take() && { return std::move(encoded_); }

 private:
  struct Remembered {
    int64_t offset;
    int64_t first;
    int64_t last;
  };

  bool keeps_ranges_;
  EncodedText encoded_;
  std::unordered_map<std::string_view, Remembered> words_;
};

}  // namespace intarsia::model
