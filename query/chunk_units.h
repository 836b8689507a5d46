// ChunkUnits: the pieces of a text that a chunker puts together and never cuts.
//
// Thread safety: owned by one thread.
// Lifetime: text and counter must outlive a TokenMeter and a UnitBuilder.
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "query/chunker.h"

namespace intarsia::query {

struct ChunkUnit {
  ByteRange range;
  int64_t num_tokens = 0;    // with the blanks before it, so that the sum over units is a chunk's
  int32_t section = 0;       // that its text is in
  int32_t top_section = 0;   // of the first heading in it; without one the same as `section`
  bool has_heading = false;  // it begins with one
};

// Counts tokens in pieces that are short enough for any tokenizer.
class TokenMeter {
 public:
  TokenMeter(std::string_view text, const TokenCounter& counter) : text_(text), counter_(counter) {}

  std::string_view text() const { return text_; }
  int64_t Count(ByteRange range) const;

 private:
  std::string_view text_;
  const TokenCounter& counter_;
};

// Cuts `range` at blanks, and words that are too long between code points, into units of at most
// `tokens_max` tokens. Neighbours are joined up to `tokens_joined` tokens, so that the number of
// units is bounded by the tokens of the text and not by its words. `gap_begin` is where the blanks
// before `range` begin.
std::vector<ChunkUnit> SplitWords(const TokenMeter& meter, int64_t gap_begin, ByteRange range,
                                  int64_t tokens_max, int64_t tokens_joined);

// The two halves of `range`, cut at a blank near the middle, else between code points. The second
// is empty if there is one code point only.
std::pair<ByteRange, ByteRange> SplitHalves(std::string_view text, ByteRange range);

// The units of a document for the structure chunker: every unit has at most `tokens_max` tokens by
// the meter, begins with the headings that directly precede its text, and ends with the block that
// its lead-in announces.
std::vector<ChunkUnit> BuildUnits(const ExtractedText& document, const TokenMeter& meter,
                                  int64_t tokens_max);

}  // namespace intarsia::query
