// AnswerPrompt: the words around the passages of an answer, and their tokens.
//
// The header stands before every passage and is part of each cache's identity, so its words change
// rarely. A passage is its chunk's text in a fixed wrapping, tokenised alone.
//
// Thread safety: all functions may be called concurrently.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "engine/model_registry.h"
#include "model/tokenizer.h"
#include "storage/document.h"

namespace intarsia::engine {

// Ids of what stands before the passages.
Result<std::vector<int32_t>> EncodeAnswerHeader(const Generator& generator);

// Ids of what stands behind them: the question and the opening of the answer.
Result<std::vector<int32_t>> EncodeAnswerQuestion(const Generator& generator,
                                                  std::string_view question);

struct Passage {
  std::vector<int32_t> tokens;
  // Per token its bytes of the chunk's text, relative to the chunk; empty for the wrapping.
  std::vector<model::TokenRange> ranges;
  std::string heading;  // the line above the text, without its end
};

// The title and headings, the text, and an empty line. `text` is the chunk's.
// Errors: those of Tokenizer::EncodeWithRanges.
Result<Passage> EncodePassage(const model::Tokenizer& tokenizer, const storage::Document& document,
                              const storage::Chunk& chunk, std::string_view text);

}  // namespace intarsia::engine
