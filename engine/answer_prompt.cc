#include "engine/answer_prompt.h"

#include <algorithm>

namespace intarsia::engine {
namespace {

constexpr std::string_view kSystem =
    "You answer questions with the given passages. Use only facts that stand in the passages. "
    "Answer briefly, in one or two full sentences.";
constexpr std::string_view kUserPrefix = "Passages:\n\n";
constexpr std::string_view kQuestionPrefix =
    "Answer the question with the passages above, in one or two full sentences.\n\nQuestion: ";

}  // namespace

Result<std::vector<int32_t>> EncodeAnswerHeader(const Generator& generator) {
  return generator.chat->EncodeHeader(*generator.tokenizer, kSystem, kUserPrefix);
}

Result<std::vector<int32_t>> EncodeAnswerQuestion(const Generator& generator,
                                                  std::string_view question) {
  return generator.chat->EncodeTail(*generator.tokenizer,
                                    std::string(kQuestionPrefix) + std::string(question));
}

Result<Passage> EncodePassage(const model::Tokenizer& tokenizer, const storage::Document& document,
                              const storage::Chunk& chunk, std::string_view text) {
  std::string wrapped = document.title.empty() ? document.source : document.title;
  for (const std::string& heading : chunk.heading_path) {
    if (heading != document.title) wrapped += " > " + heading;
  }
  wrapped = "## " + wrapped;
  std::string heading = wrapped;
  wrapped += "\n";
  const auto begin = static_cast<int64_t>(wrapped.size());
  const int64_t end = begin + static_cast<int64_t>(text.size());
  wrapped.append(text).append("\n\n");
  INTARSIA_ASSIGN_OR_RETURN(model::EncodedText encoded, tokenizer.EncodeWithRanges(wrapped));
  Passage passage = {.tokens = std::move(encoded.ids),
                     .ranges = std::move(encoded.ranges),
                     .heading = std::move(heading)};
  for (model::TokenRange& range : passage.ranges) {
    range.begin = std::clamp(range.begin, begin, end) - begin;
    range.end = std::clamp(range.end, begin, end) - begin;
  }
  return passage;
}

}  // namespace intarsia::engine
