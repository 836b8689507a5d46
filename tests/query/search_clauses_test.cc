#include "query/search_clauses.h"

#include <string>
#include <string_view>
#include <variant>

#include <gtest/gtest.h>

#include "query/ast_printer.h"
#include "query/options.h"
#include "query/parser.h"

namespace intarsia::query {
namespace {

Outcome<BoundSearchClauses> Bind(std::string_view clauses) {
  const Outcome<Statement> parsed =
      ParseStatement("SELECT source FROM docs SEARCH " + std::string(clauses));
  if (!parsed.ok()) return parsed.diagnostic();
  return BindSearchClauses(std::get<Select>(*parsed));
}

// The SEARCH that the clauses mean, or the error.
std::string Meaning(std::string_view clauses) {
  const Outcome<BoundSearchClauses> bound = Bind(clauses);
  if (!bound.ok()) return bound.diagnostic().message;
  std::string meaning = ToSql(Statement(bound->search));
  if (bound->vector_text.has_value()) meaning += " vector: " + *bound->vector_text;
  if (bound->rerank_text.has_value()) meaning += " rerank: " + *bound->rerank_text;
  return meaning;
}

TEST(SearchClausesTest, ClausesMeanTheOptionsOfSearch) {
  EXPECT_EQ(Meaning("MATCH TEXT (content, 'a b')"), "SEARCH 'a b' IN docs WITH (mode = 'text');");
  EXPECT_EQ(Meaning("MATCH VECTOR (embedding, EMBED('a'), topn => 7) WHERE x = 1 LIMIT 3"),
            "SEARCH 'a' IN docs WHERE x = 1 LIMIT 3 WITH (mode = 'vector', vector_top = 7); "
            "vector: a");
  EXPECT_EQ(Meaning("MATCH VECTOR (embedding, 'a'), MATCH TEXT (content, 'b'), FUSION linear "
                    "(weights => [2, 0.5]) RERANK 'q' ON content USING ce TOP 9 LIMIT 8 OFFSET 4"),
            "SEARCH 'b' IN docs LIMIT 12 WITH (mode = 'hybrid', rank_fusion = 'linear', "
            "vector_weight = 2, text_weight = 0.5, rerank = 'ce', rerank_top = 9); "
            "vector: a rerank: q");
  EXPECT_EQ(Meaning("MATCH TEXT (content, 'a'), MATCH VECTOR (embedding, 'a'), FUSION rrf (k => 9)"
                    " RERANK USING ce"),
            "SEARCH 'a' IN docs WITH (mode = 'hybrid', rank_fusion = 'rrf', rrf_k = 9, rerank = "
            "'ce'); vector: a");
}

TEST(SearchClausesTest, WhatAClauseDoesNotTakeIsNamed) {
  EXPECT_EQ(Meaning("MATCH TEXT (content, 'a', top => 3)"),
            "unknown argument \"top\" of MATCH TEXT");
  EXPECT_EQ(Meaning("MATCH TEXT (content, 'a'), FUSION rrf"),
            "FUSION joins two searches, and there is one");
  const std::string both = "MATCH TEXT (content, 'a'), MATCH VECTOR (embedding, 'a'), FUSION rrf ";
  EXPECT_EQ(Meaning(both + "(c => 3)"), "unknown argument \"c\" of FUSION");
  for (const std::string weights : {"[1]", "[1, 2, 3]", "1", "[]"}) {
    EXPECT_EQ(Meaning(both + "(weights => " + weights + ")"),
              "weights must be a list with a number for each MATCH: [1, 1]");
  }
  EXPECT_EQ(Meaning("MATCH TEXT (content, 'a') ORDER BY source"),
            "ORDER BY does not go with SEARCH: the best chunks come first");
}

TEST(SearchClausesTest, ValuesAreCheckedAsOptions) {
  const auto problem = [](std::string_view clauses) {
    const Outcome<BoundSearchClauses> bound = Bind(clauses);
    EXPECT_TRUE(bound.ok()) << clauses;
    const auto options = BindOptions(OptionTable::kSearch, bound->search.options);
    return options.ok() ? "" : options.diagnostic().message;
  };
  const std::string both = "MATCH TEXT (content, 'a'), MATCH VECTOR (embedding, 'a'), FUSION ";
  EXPECT_EQ(problem(both + "rrf (k => 60, weights => [1, 1])"), "");
  EXPECT_EQ(problem(both + "max"), "rank_fusion must be 'rrf', 'relative' or 'linear', not 'max'");
  EXPECT_EQ(problem(both + "rrf (k => 0)"), "rrf_k must be a number from 1 to 1000000, not 0");
  EXPECT_EQ(problem(both + "rrf (weights => ['a', 1])"),
            "text_weight must be a number from 0 to 1000000, not 'a'");
  EXPECT_EQ(problem("MATCH TEXT (content, 'a', topn => 0)"),
            "text_top must be an integer from 1 to 1000000, not 0");
  EXPECT_EQ(problem("MATCH TEXT (content, 'a', topn => 1, topn => 2)"),
            "option \"text_top\" is given twice");
}

TEST(SearchClausesTest, ALargeOffsetDoesNotOverflow) {
  EXPECT_EQ(Bind("MATCH TEXT (content, 'a') LIMIT 9223372036854775807 OFFSET 5")->search.limit,
            9223372036854775807);
}

}  // namespace
}  // namespace intarsia::query
