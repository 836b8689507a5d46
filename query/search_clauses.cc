#include "query/search_clauses.h"

#include <array>
#include <limits>
#include <utility>

#include "base/check.h"
#include "query/lexer.h"
#include "query/suggest.h"

namespace intarsia::query {
namespace {

Option TextOption(const char* name, std::string value, const SourceRange& range) {
  return {.name = {name, range}, .value = {Value(std::move(value)), /*is_word=*/false, range}};
}

Diagnostic UnknownArgument(const Name& name, std::string_view clause,
                           std::span<const std::string_view> known) {
  return BinderError(name.range, "unknown argument \"" + name.text + "\" of " + std::string(clause),
                     "It takes " + JoinAlternatives(known) + ".");
}

Failure BindMatch(const MatchClause& match, std::vector<Option>* options) {
  static constexpr std::array<std::string_view, 1> kKnown = {"topn"};
  const bool is_text = match.kind == MatchClause::Kind::kText;
  for (const Argument& argument : match.arguments) {
    if (!EqualsIgnoringCase(argument.name.text, "topn")) {
      return UnknownArgument(argument.name, is_text ? "MATCH TEXT" : "MATCH VECTOR", kKnown);
    }
    options->push_back({.name = {is_text ? "text_top" : "vector_top", argument.name.range},
                        .value = argument.value});
  }
  return {};
}

// weights => [1, 2], in the order of the MATCH clauses.
Failure BindWeights(const SearchClause& search, const Argument& argument,
                    std::vector<Option>* options) {
  const Value& value = argument.value.value;
  if (value.kind() != ValueKind::kList || value.AsList().size() != search.matches.size()) {
    return BinderError(argument.value.range,
                       "weights must be a list with a number for each MATCH: [1, 1]");
  }
  for (size_t i = 0; i < search.matches.size(); ++i) {
    const bool is_text = search.matches[i].kind == MatchClause::Kind::kText;
    options->push_back({.name = {is_text ? "text_weight" : "vector_weight", argument.name.range},
                        .value = {value.AsList()[i], /*is_word=*/false, argument.value.range}});
  }
  return {};
}

Failure BindFusion(const SearchClause& search, std::vector<Option>* options) {
  static constexpr std::array<std::string_view, 2> kKnown = {"k", "weights"};
  const FusionClause& fusion = *search.fusion;
  if (search.matches.size() < 2) {
    return BinderError(fusion.method.range, "FUSION joins two searches, and there is one",
                       "Add MATCH TEXT (content, 'text') or MATCH VECTOR (embedding, 'text').");
  }
  options->push_back(TextOption("rank_fusion", fusion.method.text, fusion.method.range));
  for (const Argument& argument : fusion.arguments) {
    if (EqualsIgnoringCase(argument.name.text, "k")) {
      options->push_back({.name = {"rrf_k", argument.name.range}, .value = argument.value});
    } else if (EqualsIgnoringCase(argument.name.text, "weights")) {
      INTARSIA_FAIL_IF(BindWeights(search, argument, options));
    } else {
      return UnknownArgument(argument.name, "FUSION", kKnown);
    }
  }
  return {};
}

}  // namespace

Failure RefuseEmptySearch(const Text& text) {
  if (text.text.find_first_not_of(" \t\r\n") != std::string::npos) return {};
  return InputError(text.range, "the text to search is empty",
                    "SELECT ... FROM collection lists chunks without a search.");
}

Outcome<BoundSearchClauses> BindSearchClauses(const Select& statement) {
  INTARSIA_CHECK(statement.search.has_value() && !statement.search->matches.empty());
  for (const SelectItem& item : statement.items) {
    if (item.kind != SelectItem::Kind::kCount) continue;
    return BinderError(item.column.range,
                       "COUNT(*) does not go with SEARCH, which finds as many as LIMIT says");
  }
  if (!statement.order_by.empty()) {
    return BinderError(statement.order_by.front().column.range,
                       "ORDER BY does not go with SEARCH: the best chunks come first");
  }
  const SearchClause& clause = *statement.search;
  BoundSearchClauses bound;
  Search& search = bound.search;
  search.text = clause.matches.front().text;
  search.collection = statement.collection;
  search.where = statement.where;
  if (statement.limit.has_value()) {
    constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
    const int64_t offset = statement.offset.value_or(0);
    search.limit = *statement.limit > kMost - offset ? kMost : *statement.limit + offset;
  }
  const bool is_hybrid = clause.matches.size() == 2;
  const bool is_text = clause.matches.front().kind == MatchClause::Kind::kText;
  search.options.push_back(TextOption("mode",
                                      is_hybrid ? "hybrid"
                                      : is_text ? "text"
                                                : "vector",
                                      clause.matches.front().range));
  for (const MatchClause& match : clause.matches) {
    INTARSIA_FAIL_IF(RefuseEmptySearch(match.text));
    INTARSIA_FAIL_IF(BindMatch(match, &search.options));
    if (match.kind == MatchClause::Kind::kText) {
      search.text = match.text;
    } else {
      bound.vector_text = match.text.text;
    }
  }
  if (clause.fusion.has_value()) INTARSIA_FAIL_IF(BindFusion(clause, &search.options));
  if (statement.rerank.has_value()) {
    const RerankClause& rerank = *statement.rerank;
    search.options.push_back(TextOption("rerank", rerank.model.text, rerank.model.range));
    if (rerank.top.has_value()) {
      search.options.push_back(
          {.name = {"rerank_top", rerank.model.range},
           .value = {Value(*rerank.top), /*is_word=*/false, rerank.model.range}});
    }
    if (rerank.text.has_value()) bound.rerank_text = rerank.text->text;
  }
  return bound;
}

}  // namespace intarsia::query
