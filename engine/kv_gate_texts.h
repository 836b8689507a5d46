// KvGateTexts: the built-in passages and questions that a model's forms of caches are judged by.
//
// Every passage has one question. A prompt asks the question of one of its four passages, which
// stand in another company and at another place in each prompt.
//
// Thread safety: all functions may be called concurrently.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

namespace intarsia::engine {

struct KvGateText {
  std::string_view title;
  std::string_view text;
  std::string_view question;
};

std::span<const KvGateText> KvGateTexts();  // 12

// Passages of prompt `index`, in their order, and whose question it asks; all are indices of
// KvGateTexts(). REQUIRES: 0 <= index < the number of texts.
struct KvGatePrompt {
  std::array<size_t, 4> passages;
  size_t question = 0;
};
KvGatePrompt KvGatePromptAt(int64_t index);

}  // namespace intarsia::engine
