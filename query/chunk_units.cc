#include "query/chunk_units.h"

#include <algorithm>
#include <utility>

#include "query/sentences.h"

namespace intarsia::query {
namespace {

// The longest text that a token counter is given.
constexpr int64_t kCountBytesMax = 8'192;
// How far a cut may move from where it should be to a blank.
constexpr int64_t kCutSlackBytes = 256;
// Parts of a block that is cut are joined up to this share of a chunk.
constexpr int64_t kJoinedShare = 8;
// A paragraph that begins with "Table" or "Figure" and is shorter than this is a caption.
constexpr int64_t kCaptionBytesMax = 400;

bool IsBlank(char byte) { return byte == ' ' || (byte >= '\t' && byte <= '\r'); }
bool IsContinuationByte(char byte) { return (static_cast<uint8_t>(byte) & 0xC0) == 0x80; }

char At(std::string_view text, int64_t offset) { return text[static_cast<size_t>(offset)]; }

// The beginning of the code point at or before `offset`.
int64_t CodePointBegin(std::string_view text, int64_t offset, int64_t begin) {
  while (offset > begin && IsContinuationByte(At(text, offset))) --offset;
  return offset;
}

// Where to cut [begin, end) near `wanted`: before a blank if there is one close by, else between
// code points. Equals `begin` if neither is possible.
int64_t CutNear(std::string_view text, ByteRange range, int64_t wanted) {
  const int64_t lowest = std::max(range.begin + 1, wanted - kCutSlackBytes);
  for (int64_t cut = wanted; cut >= lowest; --cut) {
    if (cut < range.end && IsBlank(At(text, cut))) return cut;
  }
  return CodePointBegin(text, wanted, range.begin);
}

ByteRange Trim(std::string_view text, ByteRange range) {
  while (range.begin < range.end && IsBlank(At(text, range.begin))) ++range.begin;
  while (range.end > range.begin && IsBlank(At(text, range.end - 1))) --range.end;
  return range;
}

// The lines of `range` that are not blank, with their indent.
std::vector<ByteRange> SplitLines(std::string_view text, ByteRange range) {
  std::vector<ByteRange> lines;
  for (int64_t begin = range.begin; begin < range.end;) {
    const size_t found = text.find('\n', static_cast<size_t>(begin));
    const int64_t next = found == std::string_view::npos
                             ? range.end
                             : std::min(range.end, static_cast<int64_t>(found) + 1);
    if (const ByteRange line = Trim(text, {begin, next}); line.size() > 0) {
      lines.push_back({begin, line.end});
    }
    begin = next;
  }
  return lines;
}

// Joins parts as they come, up to a number of tokens.
class Joiner {
 public:
  Joiner(int64_t tokens_joined, std::vector<ChunkUnit>* units)
      : tokens_joined_(tokens_joined), units_(units) {}

  void Add(ByteRange range, int64_t num_tokens) {
    if (is_open_ && units_->back().num_tokens + num_tokens <= tokens_joined_) {
      units_->back().range.end = range.end;
      units_->back().num_tokens += num_tokens;
    } else {
      ChunkUnit unit;
      unit.range = range;
      unit.num_tokens = num_tokens;
      units_->push_back(unit);
    }
    is_open_ = true;
  }

 private:
  int64_t tokens_joined_;
  std::vector<ChunkUnit>* units_;
  bool is_open_ = false;
};

// Adds `word`, halving it until each part is small enough.
void AddWord(const TokenMeter& meter, ByteRange word, int64_t tokens_max, Joiner* joiner) {
  std::vector<ByteRange> rest = {word};
  while (!rest.empty()) {
    const ByteRange part = rest.back();
    rest.pop_back();
    const bool is_countable = part.size() <= kCountBytesMax;
    const int64_t num_tokens = is_countable ? meter.Count(part) : tokens_max + 1;
    const auto [left, right] =
        num_tokens > tokens_max ? SplitHalves(meter.text(), part) : std::pair(part, ByteRange{});
    if (right.size() == 0) {
      joiner->Add(part, num_tokens);
    } else {
      rest.push_back(right);
      rest.push_back(left);
    }
  }
}

}  // namespace

int64_t TokenMeter::Count(ByteRange range) const {
  int64_t total = 0;
  while (range.size() > kCountBytesMax) {
    const int64_t cut = CutNear(text_, range, range.begin + kCountBytesMax);
    total += std::max<int64_t>(0, counter_(ByteRange{range.begin, cut}.Of(text_)));
    range.begin = cut;
  }
  return range.size() == 0 ? total : total + std::max<int64_t>(0, counter_(range.Of(text_)));
}

std::pair<ByteRange, ByteRange> SplitHalves(std::string_view text, ByteRange range) {
  int64_t cut = CutNear(text, range, range.begin + range.size() / 2);
  if (cut == range.begin) {
    // The first code point is more than half of the range.
    do {
      ++cut;
    } while (cut < range.end && IsContinuationByte(At(text, cut)));
  }
  return {Trim(text, {range.begin, cut}), Trim(text, {cut, range.end})};
}

std::vector<ChunkUnit> SplitWords(const TokenMeter& meter, int64_t gap_begin, ByteRange range,
                                  int64_t tokens_max, int64_t tokens_joined) {
  std::vector<ChunkUnit> units;
  Joiner joiner(std::min(tokens_joined, tokens_max), &units);
  const std::string_view text = meter.text();
  for (int64_t at = range.begin; at < range.end;) {
    int64_t begin = at;
    while (begin < range.end && IsBlank(At(text, begin))) ++begin;
    int64_t end = begin;
    while (end < range.end && !IsBlank(At(text, end))) ++end;
    if (begin == end) break;
    const ByteRange word{begin, end};
    const bool is_countable = end - gap_begin <= kCountBytesMax;
    const int64_t num_tokens = is_countable ? meter.Count({gap_begin, end}) : tokens_max + 1;
    if (num_tokens <= tokens_max) {
      joiner.Add(word, num_tokens);
    } else {
      AddWord(meter, word, tokens_max, &joiner);
    }
    at = end;
    gap_begin = end;
  }
  return units;
}

namespace {

class UnitBuilder {
 public:
  UnitBuilder(const ExtractedText& document, const TokenMeter& meter, int64_t tokens_max)
      : document_(document), meter_(meter), tokens_max_(tokens_max) {}

  std::vector<ChunkUnit> Build() {
    const Block* before = nullptr;
    for (const Block& block : document_.blocks) {
      const int64_t num_tokens = meter_.Count({gap_begin_, block.range.end});
      if (block.kind == BlockKind::kHeading && num_tokens <= tokens_max_ / 2) {
        AddHeading(block, num_tokens);
      } else {
        AddContent(before, block, num_tokens);
      }
      gap_begin_ = block.range.end;
      before = &block;
    }
    FlushHeadings();
    return std::move(units_);
  }

 private:
  // Headings wait for the text below them. One whose section has none is a unit of its own.
  void AddHeading(const Block& block, int64_t num_tokens) {
    const int32_t parent = document_.sections[static_cast<size_t>(block.section)].parent;
    if (headings_.has_heading &&
        (parent != headings_.section || headings_.num_tokens + num_tokens > tokens_max_ / 2)) {
      FlushHeadings();
    }
    if (!headings_.has_heading) {
      headings_.range = block.range;
      headings_.top_section = block.section;
      headings_.has_heading = true;
    }
    headings_.range.end = block.range.end;
    headings_.num_tokens += num_tokens;
    headings_.section = block.section;
  }

  void FlushHeadings() {
    if (headings_.has_heading) units_.push_back(headings_);
    headings_ = ChunkUnit{};
  }

  // Adds a block that is no heading, below the headings that wait.
  void AddContent(const Block* before, const Block& block, int64_t num_tokens) {
    const int64_t room = tokens_max_ - headings_.num_tokens;
    std::vector<ChunkUnit> parts(1);
    parts[0].range = block.range;
    parts[0].num_tokens = num_tokens;
    if (num_tokens > room) parts = Split(block, room);
    for (ChunkUnit& part : parts) part.section = part.top_section = block.section;
    if (headings_.has_heading) {
      parts[0].range.begin = headings_.range.begin;
      parts[0].num_tokens += headings_.num_tokens;
      parts[0].top_section = headings_.top_section;
      parts[0].has_heading = true;
      headings_ = ChunkUnit{};
    } else if (before != nullptr && BelongTogether(*before, block) && !units_.empty() &&
               units_.back().num_tokens + parts[0].num_tokens <= tokens_max_) {
      units_.back().range.end = parts[0].range.end;
      units_.back().num_tokens += parts[0].num_tokens;
      parts.erase(parts.begin());
    }
    units_.insert(units_.end(), parts.begin(), parts.end());
  }

  std::vector<ChunkUnit> Split(const Block& block, int64_t room) const {
    const bool has_lines = block.kind == BlockKind::kCode || block.kind == BlockKind::kTable;
    const std::string_view text = meter_.text();
    std::vector<ByteRange> pieces;
    if (has_lines) {
      pieces = SplitLines(text, block.range);
    } else {
      pieces = SplitSentences(block.range.Of(text));
      for (ByteRange& piece : pieces) {
        piece.begin += block.range.begin;
        piece.end += block.range.begin;
      }
    }
    const int64_t tokens_joined = std::max<int64_t>(1, tokens_max_ / kJoinedShare);
    std::vector<ChunkUnit> units;
    Joiner joiner(std::min(tokens_joined, room), &units);
    int64_t gap_begin = gap_begin_;
    for (const ByteRange& piece : pieces) {
      const int64_t num_tokens = meter_.Count({gap_begin, piece.end});
      if (num_tokens <= room) {
        joiner.Add(piece, num_tokens);
      } else {
        for (const ChunkUnit& part : SplitWords(meter_, gap_begin, piece, room, tokens_joined)) {
          joiner.Add(part.range, part.num_tokens);
        }
      }
      gap_begin = piece.end;
    }
    return units;
  }

  // Whether `next` should stay with `before`: what a lead-in announces, and a table's caption.
  bool BelongTogether(const Block& before, const Block& next) const {
    if (before.section != next.section || before.kind == BlockKind::kHeading) return false;
    const std::string_view text = before.range.Of(meter_.text());
    const bool is_announced = next.kind == BlockKind::kListItem || next.kind == BlockKind::kCode ||
                              next.kind == BlockKind::kTable;
    if (before.kind == BlockKind::kParagraph && is_announced && text.back() == ':') return true;
    return (next.kind == BlockKind::kTable && IsCaption(before)) ||
           (before.kind == BlockKind::kTable && IsCaption(next));
  }

  bool IsCaption(const Block& block) const {
    if (block.kind != BlockKind::kParagraph || block.range.size() > kCaptionBytesMax) return false;
    std::string_view text = block.range.Of(meter_.text());
    text.remove_prefix(std::min(text.find_first_not_of("*_"), text.size()));
    return text.substr(0, 6) == "Table " || text.substr(0, 7) == "Figure ";
  }

  const ExtractedText& document_;
  const TokenMeter& meter_;
  int64_t tokens_max_;
  std::vector<ChunkUnit> units_;
  ChunkUnit headings_;     // those that wait, if it has one
  int64_t gap_begin_ = 0;  // where the block before ended
};

}  // namespace

std::vector<ChunkUnit> BuildUnits(const ExtractedText& document, const TokenMeter& meter,
                                  int64_t tokens_max) {
  return UnitBuilder(document, meter, tokens_max).Build();
}

}  // namespace intarsia::query
