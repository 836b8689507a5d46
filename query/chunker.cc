#include "query/chunker.h"

#include <algorithm>
#include <utility>

#include "query/chunk_units.h"

namespace intarsia::query {
namespace {

// Raised whenever equal input gives other chunks than before.
constexpr int kStructureVersion = 1;
constexpr int kFixedVersion = 1;

constexpr int64_t kChunkTokensMin = 16;
constexpr int64_t kChunkTokensMax = 65'536;
// The grain of the fixed chunker: its units have at most this share of a chunk.
constexpr int64_t kFixedShare = 16;

// The default of min_tokens is this share of a chunk.
constexpr int64_t kMinShare = 4;

int64_t MinTokensOf(const ChunkerOptions& options) {
  return options.min_tokens < 0 ? options.chunk_tokens / kMinShare : options.min_tokens;
}

// A chunk as a run of units.
struct UnitRun {
  size_t first = 0;
  size_t end = 0;
  int64_t num_tokens = 0;
};

// Puts units together.
class Packer {
 public:
  Packer(const ExtractedText& document, const ChunkerOptions& options, const TokenMeter& meter,
         std::vector<ChunkUnit> units)
      : document_(document),
        options_(options),
        min_tokens_(MinTokensOf(options)),
        meter_(meter),
        units_(std::move(units)) {}

  std::vector<ChunkSpan> PackByStructure() {
    SumSections();
    for (size_t i = 0; i < units_.size(); ++i) {
      // The end of a section is weighed once all of it is there.
      if (units_[i].has_heading) BalanceLast();
      if (runs_.empty() || !Joins(runs_.back(), units_[i])) runs_.push_back({i, i, 0});
      runs_.back().end = i + 1;
      runs_.back().num_tokens += units_[i].num_tokens;
    }
    BalanceLast();
    for (const UnitRun& run : runs_) EmitRun(run);
    return std::move(chunks_);
  }

  // Fills each chunk to the brim.
  std::vector<ChunkSpan> PackAll() {
    for (size_t i = 0; i < units_.size(); ++i) {
      if (runs_.empty() || runs_.back().num_tokens + units_[i].num_tokens > Budget()) {
        runs_.push_back({i, i, 0});
      }
      runs_.back().end = i + 1;
      runs_.back().num_tokens += units_[i].num_tokens;
    }
    for (const UnitRun& run : runs_) EmitRun(run);
    return std::move(chunks_);
  }

 private:
  int64_t Budget() const { return options_.chunk_tokens - options_.overlap_tokens; }
  int32_t ParentOf(int32_t section) const {
    return document_.sections[static_cast<size_t>(section)].parent;
  }

  // Whether `section` is `outer` or lies inside of it. Sections nest ten deep at most.
  bool IsInside(int32_t section, int32_t outer) const {
    while (section > outer) section = ParentOf(section);
    return section == outer;
  }

  void SumSections() {
    section_tokens_.assign(document_.sections.size(), 0);
    for (const ChunkUnit& unit : units_) {
      section_tokens_[static_cast<size_t>(unit.section)] += unit.num_tokens;
    }
    for (size_t i = section_tokens_.size(); i > 1; --i) {
      const int32_t parent = ParentOf(static_cast<int32_t>(i - 1));
      section_tokens_[static_cast<size_t>(parent)] += section_tokens_[i - 1];
    }
  }

  // Whether `unit` goes into `run`, which ends just before it.
  bool Joins(const UnitRun& run, const ChunkUnit& unit) const {
    if (run.num_tokens + unit.num_tokens > Budget()) return false;
    if (!unit.has_heading) return true;
    const int32_t top = units_[run.first].top_section;
    const bool is_related =
        ParentOf(unit.top_section) == ParentOf(top) || IsInside(unit.top_section, top);
    if (!is_related) return false;
    if (run.num_tokens < min_tokens_) return true;
    const int64_t section_tokens = section_tokens_[static_cast<size_t>(unit.top_section)];
    return section_tokens < min_tokens_ && run.num_tokens + section_tokens <= Budget();
  }

  // Moves units of one section from the last run but one into the last while that is too small.
  void BalanceLast() {
    if (runs_.size() < 2) return;
    UnitRun& left = runs_[runs_.size() - 2];
    UnitRun& right = runs_.back();
    while (right.num_tokens < min_tokens_ && left.end - left.first > 1) {
      const ChunkUnit& next = units_[right.first];
      const ChunkUnit& moved = units_[left.end - 1];
      if (next.has_heading || moved.has_heading || moved.section != next.section) return;
      if (right.num_tokens + moved.num_tokens > left.num_tokens - moved.num_tokens) return;
      --left.end;
      --right.first;
      left.num_tokens -= moved.num_tokens;
      right.num_tokens += moved.num_tokens;
    }
  }

  // How far the chunk of `run` reaches back into the one before: to the beginning of a unit.
  int64_t OverlapBegin(const UnitRun& run) const {
    size_t first = run.first;
    int64_t num_tokens = 0;
    const bool is_fixed = options_.kind == ChunkerKind::kFixed;
    while (first > 0 && !units_[first].has_heading && !chunks_.empty() &&
           units_[first - 1].range.begin > chunks_.back().range.begin &&
           (is_fixed || units_[first - 1].section == units_[run.first].section) &&
           num_tokens + units_[first - 1].num_tokens <= options_.overlap_tokens) {
      --first;
      num_tokens += units_[first].num_tokens;
    }
    return units_[first].range.begin;
  }

  // Adds the chunk of `run`. The sum over units is nearly always its number of tokens; where tokens
  // of neighbours interact so that it is larger than allowed, it is cut in two.
  void EmitRun(const UnitRun& run) {
    const ByteRange range{units_[run.first].range.begin, units_[run.end - 1].range.end};
    int32_t section = units_[run.first].section;
    for (size_t i = run.first; i < run.end; ++i) {
      while (!IsInside(units_[i].section, section)) section = ParentOf(section);
    }
    const int64_t overlap_begin = OverlapBegin(run);
    if (overlap_begin < range.begin && Emit({overlap_begin, range.end}, section)) return;
    if (Emit(range, section)) return;
    if (run.end - run.first > 1) {
      const size_t middle = run.first + (run.end - run.first) / 2;
      EmitRun({run.first, middle, 0});
      EmitRun({middle, run.end, 0});
      return;
    }
    std::vector<ByteRange> rest = {range};
    while (!rest.empty()) {
      const ByteRange part = rest.back();
      rest.pop_back();
      if (Emit(part, section)) continue;
      const auto [left, right] = SplitHalves(meter_.text(), part);
      if (right.size() == 0) {
        chunks_.push_back({part, document_.HeadingPath(section), meter_.Count(part)});
        continue;
      }
      rest.push_back(right);
      rest.push_back(left);
    }
  }

  // Adds the chunk, unless it is too large.
  bool Emit(ByteRange range, int32_t section) {
    const int64_t num_tokens = meter_.Count(range);
    if (num_tokens > options_.chunk_tokens) return false;
    chunks_.push_back({range, document_.HeadingPath(section), num_tokens});
    return true;
  }

  const ExtractedText& document_;
  const ChunkerOptions& options_;
  int64_t min_tokens_;
  const TokenMeter& meter_;
  std::vector<ChunkUnit> units_;
  std::vector<int64_t> section_tokens_;  // of each section with all that it holds
  std::vector<UnitRun> runs_;
  std::vector<ChunkSpan> chunks_;
};

// Words in reading order, each in the section of the block that it begins in.
std::vector<ChunkUnit> FixedUnits(const ExtractedText& document, const TokenMeter& meter,
                                  int64_t tokens_max) {
  const ByteRange all{0, static_cast<int64_t>(document.text.size())};
  std::vector<ChunkUnit> units =
      SplitWords(meter, 0, all, tokens_max, std::max<int64_t>(1, tokens_max / kFixedShare));
  size_t block = 0;
  for (ChunkUnit& unit : units) {
    while (block + 1 < document.blocks.size() &&
           document.blocks[block + 1].range.begin <= unit.range.begin) {
      ++block;
    }
    unit.section = unit.top_section = document.blocks.empty() ? 0 : document.blocks[block].section;
  }
  return units;
}

Status OutOfRange(std::string_view name, int64_t value, int64_t min, int64_t max) {
  return Status(StatusCode::kInvalidArgument,
                "chunker option out of range: " + std::string(name) + "=" + std::to_string(value) +
                    " min=" + std::to_string(min) + " max=" + std::to_string(max));
}

}  // namespace

std::string_view ChunkerKindName(ChunkerKind kind) {
  return kind == ChunkerKind::kFixed ? "fixed" : "structure";
}

Status ValidateChunkerOptions(const ChunkerOptions& options) {
  if (options.chunk_tokens < kChunkTokensMin || options.chunk_tokens > kChunkTokensMax) {
    return OutOfRange("chunk_tokens", options.chunk_tokens, kChunkTokensMin, kChunkTokensMax);
  }
  if (options.overlap_tokens < 0 || options.overlap_tokens > options.chunk_tokens / 2) {
    return OutOfRange("overlap_tokens", options.overlap_tokens, 0, options.chunk_tokens / 2);
  }
  if (options.min_tokens < -1 || options.min_tokens > options.chunk_tokens) {
    return OutOfRange("min_tokens", options.min_tokens, -1, options.chunk_tokens);
  }
  return Status::Ok();
}

std::string ChunkerSignature(const ChunkerOptions& options) {
  const bool is_fixed = options.kind == ChunkerKind::kFixed;
  std::string signature(ChunkerKindName(options.kind));
  signature += "/" + std::to_string(is_fixed ? kFixedVersion : kStructureVersion);
  signature += " chunk_tokens=" + std::to_string(options.chunk_tokens);
  signature += " overlap_tokens=" + std::to_string(options.overlap_tokens);
  if (!is_fixed) signature += " min_tokens=" + std::to_string(MinTokensOf(options));
  return signature;
}

Result<std::vector<ChunkSpan>> ChunkText(const ExtractedText& document,
                                         const ChunkerOptions& options,
                                         const TokenCounter& count_tokens) {
  INTARSIA_RETURN_IF_ERROR(ValidateChunkerOptions(options));
  const TokenMeter meter(document.text, count_tokens);
  const int64_t budget = options.chunk_tokens - options.overlap_tokens;
  if (options.kind == ChunkerKind::kFixed) {
    return Packer(document, options, meter, FixedUnits(document, meter, budget)).PackAll();
  }
  return Packer(document, options, meter, BuildUnits(document, meter, budget)).PackByStructure();
}

}  // namespace intarsia::query
