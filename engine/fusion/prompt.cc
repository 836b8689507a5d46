#include "engine/fusion/prompt.h"

#include <string>

#include "base/check.h"

namespace intarsia::engine {

Result<Prompt> Prompt::Create(const PromptPart& header, std::span<const PromptPart> chunks,
                              std::span<const int32_t> question) {
  if (question.empty()) {
    return Status(StatusCode::kInvalidArgument, "a prompt ends with a question of >= 1 token");
  }
  Prompt prompt;
  prompt.has_header_ = !header.tokens.empty();
  const auto append = [&prompt](const PromptPart& part) {
    const int64_t begin = prompt.num_tokens();
    const auto size = static_cast<int64_t>(part.tokens.size());
    if (part.cached != nullptr && part.cached->num_tokens() != size) {
      return Status(StatusCode::kInvalidArgument,
                    "a KV cache has another number of tokens than its part of the prompt: want=" +
                        std::to_string(size) + " got=" + std::to_string(part.cached->num_tokens()));
    }
    prompt.tokens_.insert(prompt.tokens_.end(), part.tokens.begin(), part.tokens.end());
    prompt.segments_.push_back({.begin = begin, .end = begin + size, .cached = part.cached});
    return Status::Ok();
  };
  if (prompt.has_header_) INTARSIA_RETURN_IF_ERROR(append(header));
  for (const PromptPart& chunk : chunks) INTARSIA_RETURN_IF_ERROR(append(chunk));
  prompt.question_begin_ = prompt.num_tokens();
  prompt.tokens_.insert(prompt.tokens_.end(), question.begin(), question.end());
  prompt.MarkExact();
  return prompt;
}

void Prompt::MarkExact() {
  for (size_t index = 0; index < segments_.size(); ++index) {
    const size_t first_chunk = has_header_ ? 1 : 0;
    segments_[index].is_exact = segments_[index].cached != nullptr && index <= first_chunk;
  }
}

Prompt Prompt::WithoutCache(size_t segment_index) const {
  INTARSIA_CHECK(segment_index < segments_.size());
  Prompt prompt = *this;
  prompt.segments_[segment_index].cached = nullptr;
  prompt.MarkExact();
  return prompt;
}

Prompt Prompt::WithSource(size_t segment_index, const KvSource* cached) const {
  INTARSIA_CHECK(segment_index < segments_.size());
  INTARSIA_CHECK(segments_[segment_index].cached != nullptr && cached != nullptr &&
                 cached->num_tokens() == segments_[segment_index].size());
  Prompt prompt = *this;
  prompt.segments_[segment_index].cached = cached;
  return prompt;
}

std::vector<int32_t> Prompt::Candidates() const {
  std::vector<int32_t> positions;
  for (const Segment& segment : segments_) {
    if (segment.cached == nullptr || segment.is_exact) continue;
    for (int64_t at = segment.begin; at < segment.end; ++at) {
      positions.push_back(static_cast<int32_t>(at));
    }
  }
  return positions;
}

std::vector<int32_t> Prompt::FreshPositions() const {
  std::vector<int32_t> positions;
  const auto append = [&positions](int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; ++at) positions.push_back(static_cast<int32_t>(at));
  };
  for (const Segment& segment : segments_) {
    if (segment.cached == nullptr) append(segment.begin, segment.end);
  }
  append(question_begin_, num_tokens());
  return positions;
}

}  // namespace intarsia::engine
