// TextAnalyzer: a text as the sequence of terms under which it is indexed and searched.
//
// Words are cut by the rules of Unicode (UAX 29, with dictionaries for scripts without spaces),
// brought to one form (NFKC, case folded) and cut down to their stems. Words with dots, colons and
// underscores inside, such as file names, are cut there too, except between digits. No word is
// dropped for being common: phrases need it, and somebody may look for it.
//
// Thread safety: owned by one thread.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace intarsia::index {

// No term has more bytes; what is longer is cut.
inline constexpr int64_t kTermBytesMax = 200;

class TextAnalyzer {
 public:
  // `language` as Snowball names it, for example "english", or "none" for words as they are.
  // Errors: kUnsupported if there is no stemmer for it.
  static Result<std::unique_ptr<TextAnalyzer>> Create(const std::string& language);
  // The languages that Create takes, without "none".
  static std::span<const std::string_view> Languages();
  ~TextAnalyzer();

  // A word in its one form, and the term that it is indexed under. Each has 1 to kTermBytesMax
  // bytes and no zero byte.
  struct Word {
    std::string text;
    std::string term;
  };
  // Appends the words of `text`, well-formed UTF-8, in their order.
  void Analyze(std::string_view text, std::vector<Word>* words);

  // Whether `word`, as in Word::text, only holds a sentence or a question together: "the", "does",
  // "why". Known for English; false in other languages.
  bool IsFunctionWord(std::string_view word) const;

  // Changes whenever the same text could give other terms. What was indexed under another
  // signature has to be indexed again.
  std::string Signature() const;

 private:
  struct State;
  explicit TextAnalyzer(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
};

}  // namespace intarsia::index
