// PreTokenizer: cuts text into the words inside which byte-level BPE merges.
//
// Each rule is defined by regular expressions over Unicode categories; the splitters here are
// written by hand and give the same words in one pass, in time linear in the text and without
// memory of their own. llama.cpp's reading of the rules is the standard: contractions ('s, 'll) are
// ASCII, and \s is the Unicode property White_Space.
//
// Thread safety: all functions may be called concurrently.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>

namespace intarsia::model {

enum class PreTokenizer : uint8_t {
  kDefault,  // Runs of punctuation, then kGpt2, then digits in threes.
  kGpt2,     // Contractions, letters, numbers, other, each with one blank before; white space.
  kSmollm,   // Each digit alone, then kGpt2.
  kQwen2,    // As kLlama3, but each digit alone.
  kLlama3,   // Contractions, letters with any one character before, up to three digits, other.
};

// The rule that a model file calls `name` (tokenizer.ggml.pre); none for an unknown name.
std::optional<PreTokenizer> PreTokenizerByName(std::string_view name);

// Calls `emit` for every word of `text`, in order; joined, they are `text`.
// REQUIRES: `text` is well-formed UTF-8.
void SplitIntoWords(PreTokenizer rule, std::string_view text,
                    const std::function<void(std::string_view)>& emit);

}  // namespace intarsia::model
