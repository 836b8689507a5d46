// EXPLAIN and EXPLAIN ANALYZE.
#include <string>

#include <gtest/gtest.h>

#include "tests/engine/engine_fixture.h"

namespace intarsia::engine {
namespace {

class ExplainStatementTest : public EngineFixture {};

TEST_F(ExplainStatementTest, OfASearchNamesTheScan) {
  CreateFilledDocs();
  const std::string plan =
      Plan("EXPLAIN SEARCH 'harbour' IN docs WHERE source LIKE '%.txt' WITH (mode = vector)");
  EXPECT_TRUE(plan.starts_with("SEARCH in docs with e\n  -> RETRIEVE by flat scan: 10 vectors, "))
      << plan;
  const int64_t num_passing =
      Number(Run("SELECT COUNT(*) FROM docs WHERE source LIKE '%.txt'"), "count");
  EXPECT_TRUE(Has(plan, std::to_string(num_passing) + " pass the filter")) << plan;
  EXPECT_FALSE(Has(plan, " ms"));
  EXPECT_TRUE(Has(Plan("EXPLAIN ANALYZE SEARCH 'harbour' IN docs"), "embed "));
}

TEST_F(ExplainStatementTest, OfAHybridSearchShowsBothLegs) {
  CreateFilledDocs();
  const std::string plan = Plan("EXPLAIN SEARCH 'harbour -fish' IN docs WITH (text_weight = 2)");
  EXPECT_TRUE(Has(plan, "RETRIEVE by rank fusion rrf k=60, text weight 2, vector weight 1: "))
      << plan;
  EXPECT_TRUE(Has(plan, "\n    -> MATCH TEXT: 2 words or phrases with ")) << plan;
  EXPECT_TRUE(Has(plan, "\n    -> MATCH VECTOR by flat scan: 10 vectors, ")) << plan;
  EXPECT_TRUE(Has(plan, "\n    -> WORDS behind + and -: ")) << plan;
  EXPECT_FALSE(Has(plan, " ms"));
  const std::string words = Plan("EXPLAIN ANALYZE SEARCH 'harbour' IN docs WITH (mode = text)");
  EXPECT_TRUE(words.starts_with("SEARCH in docs\n  -> RETRIEVE by words: 1 words or phrases with "))
      << words;
  EXPECT_TRUE(Has(words, " blocks decoded, search ")) << words;
  EXPECT_FALSE(Has(words, "VECTOR"));
}

TEST_F(ExplainStatementTest, OfAnAnswerAgreesWithTheAnswerAndRunsNothing) {
  CreateFilledDocs();
  Run("CACHE COLLECTION docs WHERE source LIKE '%harbour.md' OR source LIKE '%railway.md'");
  const std::string ask = "ANSWER 'harbour?' FROM docs WITH (min_score = -1, max_tokens = 4)";
  const int64_t num_writes = Number(Run("SHOW CACHE"), "writes");
  const std::string plan = Plan("EXPLAIN " + ask);
  Finish();
  EXPECT_EQ(Number(Run("SHOW CACHE"), "writes"), num_writes);
  EXPECT_FALSE(Has(plan, "GENERATE"));
  EXPECT_TRUE(Has(plan, "FUSION selector=attention ratio=0.15 propagate=two_sided")) << plan;
  const auto answer = Run(ask);
  EXPECT_TRUE(Has(plan, "PROMPT " + std::to_string(Usage(answer, "prompt_tokens")) + " tokens = " +
                            std::to_string(Usage(answer, "reused_tokens")) + " reused + " +
                            std::to_string(Usage(answer, "recomputed_tokens")) + " recomputed + " +
                            std::to_string(Usage(answer, "fresh_tokens")) + " fresh"))
      << plan;
}

TEST_F(ExplainStatementTest, AnalyzeRunsTheAnswerAndShowsTimes) {
  CreateFilledDocs();
  Run("CACHE COLLECTION docs");
  const std::string ask = "ANSWER 'harbour?' FROM docs WITH (min_score = -1, max_tokens = 4)";
  const std::string plan = Plan("EXPLAIN ANALYZE " + ask);
  EXPECT_TRUE(Has(plan, "8 of 8 chunks cached")) << plan;
  EXPECT_TRUE(Has(plan, "question pass ")) << plan;
  EXPECT_TRUE(Has(plan, "GENERATE 4 tokens, first after ")) << plan;
  EXPECT_FALSE(Has(plan, "nan"));
  EXPECT_FALSE(Has(plan, "inf"));
}

TEST_F(ExplainStatementTest, ARefusalSaysSo) {
  CreateDocs();
  for (const std::string kind : {"EXPLAIN ", "EXPLAIN ANALYZE "}) {
    const auto result = Run(kind + "ANSWER 'harbour?' FROM docs");
    EXPECT_EQ(result.rows.back()[0].AsString(), "  -> REFUSE without a model");
    EXPECT_TRUE(HasNotice(result, "nothing to answer from"));
  }
}

}  // namespace
}  // namespace intarsia::engine
