#include "engine/session.h"

#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "tests/engine/engine_fixture.h"

namespace intarsia::engine {
namespace {

using SessionTest = EngineFixture;

TEST_F(SessionTest, SettingsBelongToTheirSession) {
  CreateDocs();
  Run("SET search.limit = 3");
  EXPECT_EQ(Text(Run("SHOW SETTINGS LIKE 'search.limit'"), "value"), "3");
  Session other(engine_.get());
  const auto shown = other.Execute("SHOW SETTINGS LIKE 'search.limit'", {});
  ASSERT_TRUE(shown.ok());
  EXPECT_EQ(Text(*shown, "value"), "10");
  EXPECT_EQ(Run("SHOW SETTINGS").rows.size(),
            query::OptionsOf(query::OptionTable::kSettings).size());
  EXPECT_EQ(Fail("SET search.limt = 3").hint, "Did you mean \"search.limit\"?");
}

TEST_F(SessionTest, TheDiskBudgetIsWhatTheSettingSays) {
  const int64_t by_default = Number(Run("SHOW CACHE"), "bytes_max");
  EXPECT_EQ(by_default, Number(Run("SHOW SETTINGS LIKE 'kv.disk_bytes_max'"), "value"));
  Run("SET KV.Disk_Bytes_Max = '1GiB'");
  EXPECT_EQ(Number(Run("SHOW CACHE"), "bytes_max"), int64_t{1} << 30);
  // Another setting of another session leaves it alone.
  Session other(engine_.get());
  ASSERT_TRUE(other.Execute("SET search.limit = 3", {}).ok());
  EXPECT_EQ(Number(Run("SHOW CACHE"), "bytes_max"), int64_t{1} << 30);
}

TEST_F(SessionTest, AStatementStopsAtItsTimeout) {
  CreateFilledDocs();
  Run("SET statement_timeout_ms = 1");
  // A question that takes many times as long to read, however fast the machine is.
  std::string question;
  for (int i = 0; i < 2'000; ++i) question += "harbour ";
  const auto answer =
      Fail("ANSWER '" + question + "' FROM docs WITH (min_score = -1, max_tokens = 3)");
  EXPECT_EQ(answer.error_class, query::ErrorClass::kTimeout);
  EXPECT_EQ(answer.message, "the statement ran longer than statement_timeout_ms = 1");
  for (int i = 0; i < 200; ++i) {
    WriteDocument("many/" + std::to_string(i), "Fish " + std::to_string(i));
  }
  const auto copy = Fail("COPY docs FROM '" + DocumentPath("many") + "'");
  EXPECT_EQ(copy.error_class, query::ErrorClass::kTimeout);
  EXPECT_NE(copy.hint.find(" committed before; "), std::string::npos);
  Run("SET statement_timeout_ms = 60000");
  Run("ANSWER 'harbour?' FROM docs WITH (min_score = -1, max_tokens = 3)");
  Run("SET statement_timeout_ms = 0");
  EXPECT_EQ(Number(Run("COPY docs FROM '" + DocumentPath("many") + "'"), "skipped"), 0);
}

TEST_F(SessionTest, ACancelledStatementIsNoTimeout) {
  CreateFilledDocs();
  Run("SET statement_timeout_ms = 60000");
  CancelToken token;
  token.Cancel();
  context_.cancel = &token;
  for (const std::string sql :
       {"ANSWER 'harbour?' FROM docs", "SELECT * FROM docs", "CACHE COLLECTION docs",
        "DELETE FROM docs WHERE source LIKE '%'", "SEARCH 'a' IN docs WHERE source LIKE '%'"}) {
    EXPECT_EQ(Fail(sql).error_class, query::ErrorClass::kCancelled) << sql;
  }
  context_ = {};
  EXPECT_EQ(Number(Run("SELECT COUNT(*) FROM docs"), "count"), 10);
}

TEST_F(SessionTest, ErrorsPointAtTheirPlace) {
  CreateDocs();
  struct Case {
    const char* sql;
    int64_t line;
    int64_t column;
  };
  for (const Case& one :
       {Case{"SEARCH 'a' IN dosc", 1, 15},
        Case{"SELECT source\nFROM docs\nWHERE sorce = 'a'", 3, 7},
        Case{"ANSWER 'a' FROM docs USING x", 1, 28},
        Case{"ANSWER 'a' FROM docs WITH (k = 0)", 1, 32}, Case{"SELEC * FROM docs", 1, 1},
        Case{"DROP MODEL nothing", 1, 12}, Case{"COPY docs FROM '/nowhere/at/all'", 1, 16}}) {
    const auto error = Fail(one.sql);
    EXPECT_TRUE(error.has_place()) << one.sql;
    EXPECT_EQ(error.position.line, one.line) << one.sql;
    EXPECT_EQ(error.position.column, one.column) << one.sql;
  }
  EXPECT_EQ(Fail("SEARCH 'a' IN dosc").hint, "Did you mean \"docs\"?");
}

TEST_F(SessionTest, AReadOnlyDatabaseAnswersAndRefusesToChange) {
  CreateFilledDocs();
  Run("CACHE COLLECTION docs WHERE source LIKE '%harbour.md'");
  const std::string ask = "ANSWER 'harbour?' FROM docs WITH (min_score = -1, max_tokens = 8)";
  const auto before = Run(ask);
  Finish();
  const int64_t num_entries = Number(Run("SHOW CACHE"), "entries");
  Open({.access = storage::AccessMode::kReadOnly});
  EXPECT_EQ(Run("SEARCH 'harbour' IN docs LIMIT 3").rows.size(), 3u);
  EXPECT_EQ(Run("SHOW MODELS").rows.size(), 2u);
  EXPECT_EQ(Number(Run("SELECT COUNT(*) FROM docs"), "count"), 10);
  const auto after = Run(ask);
  EXPECT_EQ(Usage(after, "prompt_tokens"), Usage(before, "prompt_tokens"));
  EXPECT_GT(Usage(after, "reused_tokens"), Usage(before, "reused_tokens"));
  EXPECT_EQ(Number(Run("SHOW CACHE"), "queued"), 0);
  Run("EXPLAIN " + ask);
  Run("SET search.limit = 4");
  for (const std::string& sql :
       {std::string("CREATE MODEL x FROM '" + generator_path() + "'"), std::string("DROP MODEL g"),
        std::string("SET DEFAULT GENERATE g"), std::string("CREATE COLLECTION c"),
        std::string("DROP COLLECTION docs"),
        std::string("COPY docs FROM '" + DocumentPath("") + "'"),
        std::string("INSERT INTO docs (id, content) VALUES ('a', 'Ice.')"),
        std::string("DELETE FROM docs WHERE source = 'a'"), std::string("CACHE COLLECTION docs"),
        std::string("CLEAR CACHE"), std::string("PIN CACHE FOR docs"),
        std::string("UNPIN CACHE FOR docs"), std::string("COMPACT DATABASE"),
        std::string("ALTER COLLECTION docs SET (kv_ttl = 1)")}) {
    const auto error = Fail(sql);
    EXPECT_EQ(error.error_class, query::ErrorClass::kUnsupported) << sql;
    EXPECT_EQ(error.message, "the database is open read-only: " + database_path()) << sql;
  }
  Open();
  EXPECT_EQ(Number(Run("SHOW CACHE"), "entries"), num_entries);
  EXPECT_EQ(Number(Run("SELECT COUNT(*) FROM docs"), "count"), 10);
}

TEST_F(SessionTest, SessionsWorkSideBySide) {
  Open({.num_threads = 2});
  CreateFilledDocs();
  Run("CACHE COLLECTION docs");
  const std::string ask = "ANSWER 'harbour?' FROM docs WITH (min_score = -1, max_tokens = 6)";
  const std::string wanted = Text(Run(ask), "answer");
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&, i] {
      Session session(engine_.get());
      for (int round = 0; round < 4; ++round) {
        const std::string name = "t" + std::to_string(i) + "_" + std::to_string(round);
        EXPECT_TRUE(session
                        .Execute("INSERT INTO docs (id, content) VALUES ('" + name +
                                     "', 'Oil and glass " + name + "')",
                                 {})
                        .ok());
        const auto found = session.Execute("SEARCH 'oil' IN docs", {});
        EXPECT_TRUE(found.ok()) << found.diagnostic().message;
        const auto answer = session.Execute(
            "ANSWER 'harbour?' FROM docs WHERE source LIKE '%.%' "
            "WITH (min_score = -1, max_tokens = 6)",
            {});
        EXPECT_TRUE(answer.ok());
        if (answer.ok()) {
          EXPECT_EQ(Text(*answer, "answer"), wanted);
        }
        EXPECT_TRUE(session.Execute("DELETE FROM docs WHERE source = '" + name + "'", {}).ok());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(Number(Run("SELECT COUNT(*) FROM docs"), "count"), 10);
  Finish();
}

}  // namespace
}  // namespace intarsia::engine
