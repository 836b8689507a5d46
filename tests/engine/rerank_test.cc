// Reranking, and SELECT with SEARCH.
#include <filesystem>
#include <string>

#include <gtest/gtest.h>

#include "tests/engine/engine_fixture.h"

namespace intarsia::engine {
namespace {

class RerankTest : public EngineFixture {
 protected:
  RerankTest() { WriteTinyReranker(reranker_path()); }

  std::string reranker_path() const { return folder_ / "reranker"; }
  static void ExpectDescending(const query::ResultSet& result, const std::string& column) {
    for (size_t row = 1; row < result.rows.size(); ++row) {
      EXPECT_GE(Cell(result, column, row - 1).AsDouble(), Cell(result, column, row).AsDouble());
    }
  }
};

TEST_F(RerankTest, ACrossEncoderOrdersTheBestAndKeepsTheOtherScores) {
  CreateFilledDocs();
  EXPECT_TRUE(HasNotice(Run("CREATE MODEL ce TYPE RERANK FROM '" + reranker_path() + "'"),
                        "model ce is now the default to rerank"));
  const auto plain = Run("SEARCH 'harbour of glass' IN docs LIMIT 10");
  const auto found = Run("SEARCH 'harbour of glass' IN docs LIMIT 10 WITH (rerank = ce)");
  ASSERT_EQ(found.rows.size(), plain.rows.size());
  EXPECT_EQ(found.columns.front().name, "rerank_score");
  ExpectDescending(found, "rerank_score");
  // Each chunk has the scores that it has without a reranker.
  for (size_t row = 0; row < found.rows.size(); ++row) {
    bool is_there = false;
    for (size_t i = 0; i < plain.rows.size(); ++i) {
      if (Text(plain, "chunk_id", i) != Text(found, "chunk_id", row)) continue;
      is_there = true;
      for (const std::string column : {"score", "text_score", "vector_score"}) {
        EXPECT_EQ(Text(plain, column, i), Text(found, column, row));
      }
    }
    EXPECT_TRUE(is_there);
  }
  // 'auto' is the same model, in any mode.
  for (const std::string mode : {"hybrid", "vector", "text"}) {
    const std::string sql = "SEARCH 'harbour of glass' IN docs LIMIT 3 WITH (mode = " + mode;
    const auto by_name = Run(sql + ", rerank = ce)");
    const auto by_default = Run(sql + ", rerank = auto)");
    ASSERT_EQ(by_name.rows.size(), by_default.rows.size());
    for (size_t row = 0; row < by_name.rows.size(); ++row) {
      EXPECT_EQ(Text(by_name, "chunk_id", row), Text(by_default, "chunk_id", row));
    }
    ExpectDescending(by_name, "rerank_score");
  }
}

TEST_F(RerankTest, OnlyTheBestAreRankedAgain) {
  CreateFilledDocs();
  Run("CREATE MODEL ce TYPE RERANK FROM '" + reranker_path() + "'");
  const auto plain = Run("SEARCH 'harbour' IN docs LIMIT 8");
  const auto found = Run("SEARCH 'harbour' IN docs LIMIT 8 WITH (rerank = ce, rerank_top = 3)");
  ASSERT_EQ(found.rows.size(), 8U);
  for (size_t row = 0; row < 8; ++row) {
    EXPECT_EQ(Cell(found, "rerank_score", row).is_null(), row >= 3) << row;
    if (row < 3) continue;
    EXPECT_EQ(Text(found, "chunk_id", row), Text(plain, "chunk_id", row));
  }
  // More are ranked than are shown.
  const std::string plan =
      Plan("EXPLAIN ANALYZE SEARCH 'harbour' IN docs LIMIT 2 WITH (rerank = ce, rerank_top = 6)");
  EXPECT_NE(plan.find("-> RERANK by cross-encoder ce: 6 chunks ranked again, 2 kept, "),
            std::string::npos)
      << plan;
  EXPECT_NE(plan.find(" ms"), std::string::npos);
}

TEST_F(RerankTest, AGeneratorRanksByTheLikelihoodOfTheQuestion) {
  CreateFilledDocs();
  const auto found =
      Run("SEARCH 'harbour lighthouse' IN docs LIMIT 4 WITH (rerank = auto, rerank_top = 5)");
  ASSERT_EQ(found.rows.size(), 4U);
  ExpectDescending(found, "rerank_score");
  for (size_t row = 0; row < 4; ++row) EXPECT_LT(Cell(found, "rerank_score", row).AsDouble(), 0.0);
  // A chunk's score does not depend on the others, nor on their order.
  const auto fewer =
      Run("SEARCH 'harbour lighthouse' IN docs LIMIT 1 WITH (rerank = g, rerank_top = 1)");
  ASSERT_EQ(fewer.rows.size(), 1U);
  bool is_there = false;
  const auto all = Run("SEARCH 'harbour lighthouse' IN docs LIMIT 10 WITH (rerank = g)");
  for (size_t row = 0; row < all.rows.size(); ++row) {
    if (Text(all, "chunk_id", row) != Text(fewer, "chunk_id")) continue;
    is_there = true;
    EXPECT_NEAR(Cell(all, "rerank_score", row).AsDouble(), Cell(fewer, "rerank_score").AsDouble(),
                1e-3);
  }
  EXPECT_TRUE(is_there);
  const std::string plan = Plan("EXPLAIN SEARCH 'harbour' IN docs WITH (rerank = g)");
  EXPECT_NE(plan.find("-> RERANK by question likelihood by g: 10 chunks ranked again, 10 kept\n"),
            std::string::npos)
      << plan;
  // Nothing to rank, and no question to rank by.
  EXPECT_TRUE(Run("SEARCH 'harbour' IN docs WHERE source = 'none' WITH (rerank = g)").rows.empty());
  EXPECT_FALSE(Run("SEARCH '-' IN docs WITH (rerank = g)").rows.empty());
}

TEST_F(RerankTest, AnAnswerReadsTheChunksThatWereRankedAgain) {
  CreateFilledDocs();
  Run("CREATE MODEL ce TYPE RERANK FROM '" + reranker_path() + "'");
  const std::string search =
      "SEARCH 'harbour?' IN docs LIMIT 2 WITH (rerank = ce, rerank_top = 10)";
  const auto found = Run(search);
  const std::string plan = Plan(
      "EXPLAIN ANSWER 'harbour?' FROM docs WITH (k = 2, min_score = -1, rerank = ce, "
      "rerank_top = 10)");
  EXPECT_NE(plan.find("RERANK by cross-encoder ce: 10 chunks ranked again, 2 kept"),
            std::string::npos)
      << plan;
  for (size_t row = 0; row < 2; ++row) {
    const std::string place = Text(found, "source", row) + " bytes " +
                              Text(found, "byte_start", row) + "-" + Text(found, "byte_end", row);
    EXPECT_NE(plan.find(place), std::string::npos) << plan;
  }
}

TEST_F(RerankTest, WhatCannotRerankIsRefused) {
  Run("CREATE MODEL e TYPE EMBEDDING FROM '" + embedder_path() + "'");
  Run("CREATE COLLECTION docs");
  Run("INSERT INTO docs (id, content) VALUES ('a', 'A roof of ice.')");
  const auto nobody = Fail("SEARCH 'ice' IN docs WITH (rerank = auto)");
  EXPECT_EQ(nobody.message, "there is no model to rerank by");
  EXPECT_NE(nobody.hint.find("TYPE RERANK"), std::string::npos);
  EXPECT_EQ(Fail("SEARCH 'ice' IN docs WITH (rerank = e)").message,
            "model \"e\" embeds and does not rerank");
  EXPECT_EQ(Fail("SEARCH 'ice' IN docs WITH (rerank = f)").hint, "Did you mean \"e\"?");
  EXPECT_NE(Fail("CREATE MODEL ce TYPE RERANK FROM '" + embedder_path() + "'")
                .message.find("no cross-encoder"),
            std::string::npos);
  Run("CREATE MODEL ce TYPE RERANK FROM '" + reranker_path() + "'");
  EXPECT_NE(Fail("ANSWER 'ice?' FROM docs USING ce").message.find("does not generate"),
            std::string::npos);
  EXPECT_NE(Fail("SET DEFAULT EMBEDDING ce").message.find("is of type rerank"), std::string::npos);
  EXPECT_NE(Fail("CREATE COLLECTION other WITH (embedding = ce)").message.find("not an embedding"),
            std::string::npos);
  Run("SEARCH 'ice' IN docs WITH (rerank = ce)");
  Run("DROP MODEL ce");
  EXPECT_EQ(Fail("SEARCH 'ice' IN docs WITH (rerank = auto)").message,
            "there is no model to rerank by");
}

TEST_F(RerankTest, ADamagedRerankerIsNoticed) {
  CreateFilledDocs();
  Run("CREATE MODEL ce TYPE RERANK FROM '" + reranker_path() + "'");
  WriteTinyReranker(reranker_path(), /*seed=*/99);
  Open();
  EXPECT_EQ(Fail("SEARCH 'harbour' IN docs WITH (rerank = ce)").error_class,
            query::ErrorClass::kCorruption);
  std::filesystem::remove_all(reranker_path());
  EXPECT_NE(Fail("SEARCH 'harbour' IN docs WITH (rerank = ce)").message.find("put the file back"),
            std::string::npos);
  EXPECT_FALSE(Run("SEARCH 'harbour' IN docs").rows.empty());
}

TEST_F(RerankTest, SelectWithSearchHasThePlanOfTheOptions) {
  CreateFilledDocs();
  Run("CREATE MODEL ce TYPE RERANK FROM '" + reranker_path() + "'");
  const std::string clauses =
      "SEARCH MATCH TEXT (content, 'harbour'), MATCH VECTOR (embedding, EMBED('harbour')), FUSION "
      "rrf (k => 20, weights => [1, 2]) WHERE source LIKE '%.md' RERANK USING ce TOP 4 LIMIT 3";
  const std::string options =
      "SEARCH 'harbour' IN docs WHERE source LIKE '%.md' LIMIT 3 WITH (rrf_k = 20, vector_weight = "
      "2, rerank = ce, rerank_top = 4)";
  EXPECT_EQ(Plan("EXPLAIN SELECT source FROM docs " + clauses), Plan("EXPLAIN " + options));
  const auto selected = Run(
      "SELECT RERANK_SCORE(), SCORE(), TEXT_SCORE(), VECTOR_SCORE(), chunk_id, SNIPPET(content) "
      "FROM docs " +
      clauses);
  const auto searched = Run(options);
  ASSERT_EQ(selected.rows.size(), 3U);
  for (size_t row = 0; row < 3; ++row) {
    for (const std::string column :
         {"rerank_score", "score", "text_score", "vector_score", "chunk_id", "snippet"}) {
      EXPECT_EQ(Text(selected, column, row), Text(searched, column, row)) << column;
    }
  }
}

TEST_F(RerankTest, SelectWithSearchHasColumnsTextsAndAnOffset) {
  CreateFilledDocs();
  const std::string from = " FROM docs SEARCH MATCH TEXT (content, 'lamp') ";
  const auto all = Run("SELECT *, SCORE()" + from);
  ASSERT_GE(all.rows.size(), 2U);
  EXPECT_EQ(all.columns.front().name, "doc_id");
  EXPECT_EQ(all.columns.back().name, "score");
  EXPECT_NE(Text(all, "content").find("lamp"), std::string::npos);
  const auto second = Run("SELECT content, SCORE()" + from + "LIMIT 1 OFFSET 1");
  ASSERT_EQ(second.rows.size(), 1U);
  EXPECT_EQ(Text(second, "content"), Text(all, "content", 1));
  EXPECT_EQ(Run("SELECT content" + from + "OFFSET 1").rows.size(), all.rows.size() - 1);
  EXPECT_TRUE(Run("SELECT content" + from + "OFFSET 1000").rows.empty());
  // Each leg has its own text: the words rank the chunk alone that the vectors give no weight.
  const auto apart =
      Run("SELECT source, TEXT_SCORE(), VECTOR_SCORE() FROM docs SEARCH MATCH TEXT (content, "
          "'railway'),"
          " MATCH VECTOR (embedding, EMBED('A fire destroyed the market in 1899.')), FUSION rrf "
          "(weights => [1, 0]) LIMIT 1");
  EXPECT_NE(Text(apart, "source").find("railway.md"), std::string::npos);
  const auto mixed = Run(
      "SELECT source, VECTOR_SCORE() FROM docs SEARCH MATCH TEXT (content, 'railway'), MATCH "
      "VECTOR (embedding, EMBED('A fire destroyed the market in 1899.')), FUSION rrf (weights => "
      "[0, 1]) LIMIT 1");
  const auto alone =
      Run("SEARCH 'A fire destroyed the market in 1899.' IN docs LIMIT 1 WITH (mode = vector)");
  EXPECT_EQ(Text(mixed, "vector_score"), Text(alone, "vector_score"));
}

TEST_F(RerankTest, SelectWithSearchNamesItsMistakes) {
  CreateFilledDocs();
  const std::string search = " FROM docs SEARCH MATCH TEXT (content, 'lamp')";
  EXPECT_EQ(Fail("SEARCH 'a' IN docs WITH (rerank = nothing)").position.column, 35);
  EXPECT_EQ(Fail("SEARCH 'a' IN docs WITH (text_weight = 0, vector_weight = 0)").message,
            "text_weight and vector_weight may not both be 0");
  EXPECT_EQ(Fail("SELECT COUNT(*)" + search).message,
            "COUNT(*) does not go with SEARCH, which finds as many as LIMIT says");
  EXPECT_NE(Fail("SELECT sorce" + search).message.find("sorce"), std::string::npos);
  EXPECT_NE(Fail("SELECT SCORE() FROM docs").message.find("SCORE() needs a search"),
            std::string::npos);
  EXPECT_EQ(Fail("SELECT source FROM dcs SEARCH MATCH TEXT (content, 'a')").error_class,
            query::ErrorClass::kCatalog);
  for (const std::string mode : {"hybrid", "vector", "text"}) {
    for (const std::string limit : {"0", "1000001", "9223372036854775807"}) {
      EXPECT_EQ(
          Fail("SEARCH 'lamp' IN docs LIMIT " + limit + " WITH (mode = " + mode + ")").message,
          "a search finds from 1 to 1000000 rows, OFFSET included, not " + limit);
    }
  }
  EXPECT_NE(Fail("SELECT source" + search + " LIMIT 1000000 OFFSET 1").message.find("OFFSET"),
            std::string::npos);
  EXPECT_NE(Fail("SELECT source" + search + " RERANK USING nobody").message.find("nobody"),
            std::string::npos);
}

}  // namespace
}  // namespace intarsia::engine
