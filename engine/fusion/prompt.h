// Prompt: the tokens of one request in order, cut into the segments that fusion knows.
//
//   header | chunk 1 | ... | chunk n | question and template tail
//
// Token ids are joined, never tokenised again: a chunk's ids, and so its cache, do not depend on
// what stands beside it.
//
// Thread safety: immutable after construction.
// Lifetime: the KvSources must outlive it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "engine/fusion/kv_source.h"

namespace intarsia::engine {

struct Segment {
  int64_t begin = 0;  // position of its first token
  int64_t end = 0;
  const KvSource* cached = nullptr;  // null: its tokens are computed in this prompt
  // Its cache is what a full prefill would compute: the header, and a chunk right behind it. More
  // chunks when a caller knows that they were computed behind the same prefix.
  bool is_exact = false;

  int64_t size() const { return end - begin; }
};

struct PromptPart {
  std::vector<int32_t> tokens;
  const KvSource* cached = nullptr;
};

class Prompt {
 public:
  // Errors: kInvalidArgument if the question is empty or a cache has another number of tokens than
  // its part.
  static Result<Prompt> Create(const PromptPart& header, std::span<const PromptPart> chunks,
                               std::span<const int32_t> question);

  std::span<const int32_t> tokens() const { return tokens_; }
  int64_t num_tokens() const { return static_cast<int64_t>(tokens_.size()); }
  // The header first, if it has tokens, then the chunks; without the question.
  std::span<const Segment> segments() const { return segments_; }
  int64_t question_begin() const { return question_begin_; }

  // The same prompt with the segment's cache taken away: a miss that showed late.
  Prompt WithoutCache(size_t segment_index) const;

  // The same prompt with the segment's cache taken from `cached`, which has as many tokens.
  // REQUIRES: the segment has a cache.
  Prompt WithSource(size_t segment_index, const KvSource* cached) const;

  // Positions of tokens that have a cache which is not exact, ascending: the tokens that a selector
  // may pick.
  std::vector<int32_t> Candidates() const;
  // Positions of tokens that have no cache: those of missed segments and the question. Ascending.
  std::vector<int32_t> FreshPositions() const;

 private:
  Prompt() = default;
  void MarkExact();

  std::vector<int32_t> tokens_;
  std::vector<Segment> segments_;
  bool has_header_ = false;
  int64_t question_begin_ = 0;
};

}  // namespace intarsia::engine
