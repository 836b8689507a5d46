// Ways to search vectors: chosen by what they are predicted to cost, measured, stored, and all with
// the same results up to the recall that is promised.
#include "engine/vector_index.h"

#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/engine/engine_fixture.h"

namespace intarsia::engine {
namespace {

class VectorIndexTest : public EngineFixture {
 protected:
  VectorIndexTest() { Reopen(); }

  // With codes from 100 vectors on.
  void Reopen(int64_t graph_at_once_max = 2'000) {
    EngineOptions options;
    options.vectors.flat_max = 100;
    options.vectors.sampled_max = 64;
    options.vectors.graph_at_once_max = graph_at_once_max;
    Open(options);
  }
  // The setting `name` of the vector index as SHOW INDEXES says it, or null.
  query::Value Setting(const std::string& name) {
    const auto result = Run("SHOW INDEXES FOR many");
    const query::Value* const value = result.rows[1][5].Find(name);
    return value == nullptr ? query::Value() : *value;
  }
  std::string State(const std::string& kind) {
    const auto result = Run("SHOW INDEXES FOR many");
    for (const query::Row& row : result.rows) {
      if (row[1].AsString() == kind) return row[2].AsString();
    }
    return "";
  }
  // Scores of the best ten by one way; ties make ids differ.
  std::vector<double> Scores(const std::string& scan, const std::string& where) {
    std::vector<double> scores;
    for (const query::Row& row : Run("SEARCH 'the harbour in spring' IN many " + where +
                                     " LIMIT 10 WITH (scan = '" + scan + "', mode = 'vector')")
                                     .rows) {
      scores.push_back(row[0].AsDouble());
    }
    return scores;
  }
};

TEST_F(VectorIndexTest, SettingsAreMeasuredOnceStoredAndShown) {
  CreateMany(300);
  EXPECT_EQ(State("vector"), "not loaded");
  EXPECT_TRUE(Setting("expected_recall").is_null());
  const std::string plan = Plan("EXPLAIN SEARCH 'harbour' IN many WITH (mode = 'vector')");
  EXPECT_NE(plan.find("CODES of "), std::string::npos) << plan;
  EXPECT_NE(plan.find("PREDICTED flat scan "), std::string::npos) << plan;
  EXPECT_EQ(State("vector"), "ready");
  EXPECT_EQ(Setting("scan").AsString(), "binary");
  EXPECT_EQ(Setting("sampled").AsInteger(), 64);
  EXPECT_GT(Setting("expected_recall").AsDouble(), 0.9);
  EXPECT_GT(Setting("bit_entropy_mean").AsDouble(), 0.2);
  const query::Value bound = Setting("error_bound");
  Reopen();
  // As they were stored; nothing is loaded yet.
  EXPECT_EQ(State("vector"), "not loaded");
  EXPECT_TRUE(Setting("error_bound") == bound);
  Run("SEARCH 'harbour' IN many");
  EXPECT_TRUE(Setting("error_bound") == bound);
}

TEST_F(VectorIndexTest, ADamagedProfileIsMeasuredAgain) {
  CreateMany(150);
  Run("SEARCH 'harbour' IN many");
  const auto collection = *engine_->database()->Read().FindCollection("many");
  const auto model = *engine_->database()->Read().FindModel("e");
  const std::string key =
      "vector_profile:" + std::to_string(collection.id) + ":" + std::to_string(model.id);
  ASSERT_TRUE(engine_->database()->Read().GetSetting(key).ok());
  for (const std::string damaged :
       {"", "{", "[]", "{\"bits\": 7}", "{\"bits\": \"2\"}", "\xff\xfe"}) {
    ASSERT_TRUE(engine_->database()->PutSetting(key, damaged).ok());
    Reopen();
    EXPECT_TRUE(Setting("expected_recall").is_null());
    EXPECT_EQ(Run("SEARCH 'harbour' IN many").rows.size(), 10U);
    EXPECT_FALSE(Setting("expected_recall").is_null());
  }
  Run("DROP COLLECTION many");
  EXPECT_FALSE(engine_->database()->Read().GetSetting(key).ok());
}

TEST_F(VectorIndexTest, EveryWayFindsTheSameWithFiltersAndDeletions) {
  CreateMany(400);
  const auto compare = [this] {
    for (const std::string where :
         {"", "WHERE part < 5", "WHERE part = 3", "WHERE source = 'n17'", "WHERE part = 77"}) {
      const std::vector<double> expected = Scores("flat", where);
      for (const std::string scan : {"binary", "graph", "auto"}) {
        const std::vector<double> scores = Scores(scan, where);
        ASSERT_EQ(scores.size(), expected.size()) << scan << " " << where;
        // The test's vectors are nearly all alike, so the worst of ten may differ by a hair.
        for (size_t i = 0; i < scores.size(); ++i) {
          EXPECT_NEAR(scores[i], expected[i], 0.02) << scan << " " << where;
        }
      }
    }
  };
  compare();
  EXPECT_EQ(State("graph"), "ready");
  Run("DELETE FROM many WHERE part = 2");
  compare();
  InsertMany(380, 450);
  compare();
  const std::string plan =
      Plan("EXPLAIN SEARCH 'harbour' IN many WITH (scan = 'graph', mode = 'vector')");
  EXPECT_NE(plan.find("RETRIEVE by graph"), std::string::npos) << plan;
  EXPECT_NE(plan.find("graph "), std::string::npos);
}

TEST_F(VectorIndexTest, ASelectiveFilterFallsBackToTheScan) {
  CreateMany(400);
  Scores("graph", "");
  const std::string plan = Plan(
      "EXPLAIN SEARCH 'harbour' IN many WHERE source = 'n5' WITH (scan = 'graph', mode = "
      "'vector')");
  EXPECT_EQ(plan.find("RETRIEVE by graph"), std::string::npos) << plan;
  EXPECT_NE(plan.find(" scan"), std::string::npos) << plan;
}

TEST_F(VectorIndexTest, CopyLeavesALargeCollectionReady) {
  CreateDocs("chunk_tokens = 16, min_tokens = 1");
  std::string text;
  const std::vector<std::string> words = TinyWords();
  for (int i = 0; i < 200; ++i) {
    text += "# " + words[static_cast<size_t>(i) % words.size()] + "\n\nPart " + std::to_string(i) +
            " of the harbour.\n\n";
  }
  WriteDocument("large.md", text);
  CopyAll();
  ASSERT_GT(Number(Run("SELECT COUNT(*) FROM docs"), "count"), 100);
  const auto result = Run("SHOW INDEXES FOR docs");
  EXPECT_EQ(Text(result, "state", 1), "ready");
  EXPECT_NE(result.rows[1][5].Find("expected_recall"), nullptr);
}

TEST_F(VectorIndexTest, AGraphIsBuiltInTheBackgroundAndKeptInAFile) {
  Reopen(/*graph_at_once_max=*/0);
  CreateMany(300);
  const std::string ask = "SEARCH 'harbour' IN many LIMIT 5 WITH (scan = 'graph', mode = 'vector')";
  EXPECT_EQ(Run(ask).rows.size(), 5U);  // By whatever is there.
  ASSERT_TRUE(engine_->retriever()->Drain(nullptr).ok());
  EXPECT_EQ(State("graph"), "ready");
  const auto collection = *engine_->database()->Read().FindCollection("many");
  const std::string path =
      database_path() + "/index/graph-" + std::to_string(collection.id) + ".gidx";
  EXPECT_TRUE(std::filesystem::exists(path));
  EXPECT_TRUE(Run(ask).notices.empty());
  const auto shown = Run("SHOW INDEXES FOR many");
  ASSERT_NE(shown.rows[2][5].Find("measured_recall"), nullptr);
  EXPECT_GT(shown.rows[2][5].Find("measured_recall")->AsDouble(), 0.0);
  EXPECT_EQ(shown.rows[2][5].Find("queries")->AsInteger(), 128);
  EXPECT_NE(Plan("EXPLAIN " + ask).find("-> GRAPH: recall@10 "), std::string::npos);
  // A later opening takes the file and adds what came since.
  InsertMany(300, 320);
  Reopen(/*graph_at_once_max=*/0);
  Run(ask);
  ASSERT_TRUE(engine_->retriever()->Drain(nullptr).ok());
  EXPECT_EQ(Number(Run("SHOW INDEXES FOR many"), "rows", 2), 320);
  // Any damage costs time, not results.
  std::filesystem::resize_file(path, 100);
  Reopen(/*graph_at_once_max=*/0);
  EXPECT_EQ(Run(ask).rows.size(), 5U);
  ASSERT_TRUE(engine_->retriever()->Drain(nullptr).ok());
  EXPECT_EQ(State("graph"), "ready");
  EXPECT_EQ(Number(Run("SHOW INDEXES FOR many"), "rows", 2), 320);
  Run("DROP COLLECTION many");
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST_F(VectorIndexTest, ChangesWhileAGraphIsBuiltAreInIt) {
  Reopen(/*graph_at_once_max=*/0);
  CreateMany(200);
  const std::string ask = "SEARCH 'harbour' IN many LIMIT 5 WITH (scan = 'graph', mode = 'vector')";
  for (int i = 0; i < 5; ++i) {
    Run(ask);
    Run("DELETE FROM many WHERE source = 'n" + std::to_string(i) + "'");
    InsertMany(200 + 10 * i, 210 + 10 * i);
  }
  Run(ask);
  ASSERT_TRUE(engine_->retriever()->Drain(nullptr).ok());
  Run(ask);
  ASSERT_TRUE(engine_->retriever()->Drain(nullptr).ok());
  std::set<std::string> sources;
  for (const query::Row& row :
       Run("SEARCH 'harbour' IN many LIMIT 1000 WITH (scan = 'graph', mode = 'vector')").rows) {
    sources.insert(row[1].AsString());
  }
  EXPECT_EQ(sources.size(), 245U);
  EXPECT_FALSE(sources.contains("n3"));
}

TEST_F(VectorIndexTest, ShowIndexesIsAboutOneOrAllCollections) {
  CreateMany(20);
  EXPECT_EQ(Run("SHOW INDEXES").rows.size(), 6U);
  const auto result = Run("SHOW INDEXES FOR many");
  ASSERT_EQ(result.rows.size(), 3U);
  EXPECT_EQ(Text(result, "kind", 0), "filter");
  EXPECT_EQ(Text(result, "state", 2), "none");
  Run("SEARCH 'harbour' IN many");
  EXPECT_EQ(Number(Run("SHOW INDEXES FOR many"), "rows", 1), 20);
  EXPECT_GT(Number(Run("SHOW INDEXES FOR many"), "bytes", 0), 0);
  EXPECT_EQ(Fail("SHOW INDEXES FOR mnay").error_class, query::ErrorClass::kCatalog);
}

TEST(SearchCostsTest, PredictionsFollowTheWorkAndWhatWasMeasured) {
  SearchCosts costs;
  costs.Set(
      {.flat_ns_per_row = 100.0, .scan_ns_per_row = 10.0, .rescore_us = 50.0, .graph_us = 400.0});
  SearchWork work = {.num_rows = 100'000,
                     .num_passing = 100'000,
                     .k = 10,
                     .has_codes = true,
                     .num_in_graph = 100'000};
  EXPECT_DOUBLE_EQ(costs.Predict(work)[0], 10.0);
  EXPECT_DOUBLE_EQ(costs.Predict(work)[1], 1.05);
  EXPECT_DOUBLE_EQ(costs.Predict(work)[2], 0.4);
  // Few rows pass: comparing them is best, and a walk has no hope.
  work.num_passing = 50;
  EXPECT_LT(costs.Predict(work)[0], costs.Predict(work)[1]);
  EXPECT_TRUE(std::isinf(costs.Predict(work)[2]));
  work.num_in_graph = 0;
  work.has_codes = false;
  EXPECT_TRUE(std::isinf(costs.Predict(work)[1]));
  work.num_passing = 100'000;
  for (int i = 0; i < 100; ++i) costs.ObserveFlat(work, 20.0);
  EXPECT_NEAR(costs.Predict(work)[0], 20.0, 0.1);
}

TEST(SearchCostsTest, ADeviceIsWorthItForManyRowsOnly) {
  SearchCosts costs;
  costs.Set(
      {.flat_ns_per_row = 100.0, .scan_ns_per_row = 10.0, .rescore_us = 50.0, .graph_us = 400.0});
  SearchWork work = {.num_rows = 1'000, .num_passing = 1'000, .k = 10, .has_codes = true};
  EXPECT_TRUE(std::isinf(costs.Predict(work)[3]));
  work.device_row_bytes = 48;
  EXPECT_GT(costs.Predict(work)[3], costs.Predict(work)[1]);
  work.num_rows = work.num_passing = 1'000'000;
  EXPECT_LT(costs.Predict(work)[3], costs.Predict(work)[1]);
  // What was measured counts more than the estimate, from the first search on.
  costs.ObserveDevice(work, 40.0, 0.05);
  EXPECT_GT(costs.Predict(work)[3], costs.Predict(work)[1]);
  EXPECT_NEAR(costs.Predict(work)[3], 40.05, 0.01);
}

}  // namespace
}  // namespace intarsia::engine
