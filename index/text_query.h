// TextQuery: what is searched for in a text index, as clauses over terms.
//
// Words are alternatives: each that a chunk holds adds to its score. Words that only hold a
// question together, such as "what does", count where there are no others, in phrases, and behind
// +. In front of a word or a phrase, + makes it required and - forbids it. Double quotes hold a
// phrase, and a word that ends in * stands for all that begin with it.
//
// Thread safety: plain values; concurrent const calls only.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "index/text_analyzer.h"

namespace intarsia::index {

enum class TextSyntax : uint8_t {
  kWords,      // every character is text: a question in someone's words
  kOperators,  // + - " * are as above
};

enum class Occur : uint8_t { kShould, kMust, kMustNot };

struct TextClause {
  enum class Kind : uint8_t { kTerm, kPhrase, kPrefix };

  Kind kind = Kind::kTerm;
  Occur occur = Occur::kShould;
  // kTerm: one. kPhrase: two or more, in order. kPrefix: one, the beginning of words.
  std::vector<std::string> terms;
  double weight = 1.0;  // how often it was asked for

  bool operator==(const TextClause&) const = default;
};

struct TextQuery {
  std::vector<TextClause> clauses;  // sorted, each once
  int64_t num_dropped = 0;          // clauses beyond kTextClausesMax, those without + or - first

  bool has_positive() const;     // else nothing can match
  bool has_constraints() const;  // + or -
};

// Distinct clauses of a query; the words of a whole page fit.
inline constexpr int64_t kTextClausesMax = 1024;

// Reads `text`, well-formed UTF-8. There are no errors: a quote without its partner is no quote, an
// operator without a word is text, and what has no words gives no clauses.
TextQuery ParseTextQuery(std::string_view text, TextSyntax syntax, TextAnalyzer* analyzer);

}  // namespace intarsia::index
