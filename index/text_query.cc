#include "index/text_query.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

namespace intarsia::index {
namespace {

bool IsSpace(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

class QueryReader {
 public:
  QueryReader(std::string_view text, TextAnalyzer* analyzer) : text_(text), analyzer_(analyzer) {}

  void ReadWords() { AddWords(text_, Occur::kShould); }

  void ReadOperators() {
    while (at_ < text_.size()) {
      if (IsSpace(text_[at_])) {
        ++at_;
        continue;
      }
      const Occur occur = ReadSign();
      if (text_[at_] == '"') {
        ReadPhrase(occur);
      } else {
        ReadWord(occur);
      }
    }
  }

  TextQuery Take() {
    TextQuery query;
    // To leave out a word that is sought finds less well; to leave out one that is required or
    // forbidden finds what was not asked for.
    const int64_t num_constraints = std::ranges::count_if(
        clauses_, [](const auto& row) { return row.second.first.occur != Occur::kShould; });
    int64_t num_free = std::max<int64_t>(0, kTextClausesMax - num_constraints);
    for (auto& [key, value] : clauses_) {
      auto& [clause, role] = value;
      if (role == Role::kFunctionWord && has_content_) continue;
      const bool is_kept = clause.occur == Occur::kShould
                               ? num_free-- > 0
                               : std::ssize(query.clauses) < kTextClausesMax;
      if (is_kept) {
        query.clauses.push_back(std::move(clause));
      } else {
        ++query.num_dropped;
      }
    }
    return query;
  }

 private:
  // Words like "why" are rare in most texts and would weigh much, but say nothing of what is
  // sought.
  enum class Role : uint8_t { kContent, kFunctionWord };

  // A sign stands in front of something; "a - b" and "a+b" have none.
  Occur ReadSign() {
    const char sign = text_[at_];
    if ((sign != '+' && sign != '-') || at_ + 1 >= text_.size() || IsSpace(text_[at_ + 1])) {
      return Occur::kShould;
    }
    ++at_;
    return sign == '+' ? Occur::kMust : Occur::kMustNot;
  }

  void ReadPhrase(Occur occur) {
    const size_t begin = at_ + 1;
    const size_t end = text_.find('"', begin);
    at_ = begin;
    if (end == std::string_view::npos) return ReadWord(occur);
    at_ = end + 1;
    std::vector<std::string> terms;
    for (TextAnalyzer::Word& part : WordsOf(text_.substr(begin, end - begin))) {
      terms.push_back(std::move(part.term));
    }
    if (terms.empty()) return;
    const auto kind = terms.size() == 1 ? TextClause::Kind::kTerm : TextClause::Kind::kPhrase;
    Add({.kind = kind, .occur = occur, .terms = std::move(terms)});
  }

  void ReadWord(Occur occur) {
    const size_t begin = at_;
    while (at_ < text_.size() && !IsSpace(text_[at_]) && text_[at_] != '"') ++at_;
    std::string_view word = text_.substr(begin, at_ - begin);
    if (word.size() < 2 || !word.ends_with('*')) return AddWords(word, occur);
    word.remove_suffix(1);
    std::vector<TextAnalyzer::Word> parts = WordsOf(word);
    if (parts.empty()) return;
    // Of "index.tex*" the first word is whole.
    Add({.kind = TextClause::Kind::kPrefix, .occur = occur, .terms = {parts.back().text}});
    parts.pop_back();
    for (TextAnalyzer::Word& part : parts) Add({.occur = occur, .terms = {std::move(part.term)}});
  }

  void AddWords(std::string_view text, Occur occur) {
    for (TextAnalyzer::Word& word : WordsOf(text)) {
      const Role role = analyzer_->IsFunctionWord(word.text) ? Role::kFunctionWord : Role::kContent;
      Add({.occur = occur, .terms = {std::move(word.term)}}, role);
    }
  }

  std::vector<TextAnalyzer::Word> WordsOf(std::string_view text) {
    std::vector<TextAnalyzer::Word> words;
    analyzer_->Analyze(text, &words);
    return words;
  }

  // What is asked for twice counts twice, and is required if one of the two is.
  void Add(TextClause clause, Role role = Role::kContent) {
    const bool is_forbidden = clause.occur == Occur::kMustNot;
    if (clause.occur != Occur::kShould) role = Role::kContent;
    const auto [found, is_new] =
        clauses_.try_emplace({is_forbidden, clause.kind, clause.terms}, std::pair(clause, role));
    has_content_ |= role == Role::kContent && !is_forbidden;
    if (is_new) return;
    auto& [known, known_role] = found->second;
    known.weight += clause.weight;
    if (clause.occur == Occur::kMust) known.occur = Occur::kMust;
    if (role == Role::kContent) known_role = Role::kContent;
  }

  const std::string_view text_;
  TextAnalyzer* const analyzer_;
  size_t at_ = 0;
  std::map<std::tuple<bool, TextClause::Kind, std::vector<std::string>>,
           std::pair<TextClause, Role>>
      clauses_;
  bool has_content_ = false;  // a clause that can match, besides function words
};

}  // namespace

bool TextQuery::has_positive() const {
  return std::ranges::any_of(
      clauses, [](const TextClause& clause) { return clause.occur != Occur::kMustNot; });
}

bool TextQuery::has_constraints() const {
  return std::ranges::any_of(
      clauses, [](const TextClause& clause) { return clause.occur != Occur::kShould; });
}

TextQuery ParseTextQuery(std::string_view text, TextSyntax syntax, TextAnalyzer* analyzer) {
  QueryReader reader(text, analyzer);
  if (syntax == TextSyntax::kWords) {
    reader.ReadWords();
  } else {
    reader.ReadOperators();
  }
  return reader.Take();
}

}  // namespace intarsia::index
