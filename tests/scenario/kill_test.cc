// kill -9 at seeded moments: what the program acknowledged is found afterwards, with its exact
// text.
//
// The oracle is the list of statements whose result the program had printed when it was killed.
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "engine/engine.h"
#include "engine/session.h"
#include "tests/engine/tiny_engine_models.h"
#include "tests/scenario/program.h"

namespace intarsia::client {
namespace {

constexpr int kRounds = 10;
constexpr int kDocumentsPerRound = 150;

class KillTest : public testing::Test {
 protected:
  KillTest() {
    storage::WriteFile(folder_ / "generator.gguf", engine::TinyGeneratorBytes({}));
    engine::WriteTinyEmbedder(folder_ / "embedder");
  }
  std::string database() const { return folder_ / "database"; }

  static std::string SourceOf(int round, int index) {
    return "r" + std::to_string(round) + "_" + std::to_string(index);
  }
  static std::string TextOf(int round, int index) {
    const std::vector<std::string> words = engine::TinyWords();
    const auto at = static_cast<size_t>(round * kDocumentsPerRound + index);
    return "The " + words[at % words.size()] + " and the " +
           words[(at / words.size()) % words.size()] + " of " + SourceOf(round, index) + " ü.";
  }
  // One document a statement, and now and then an answer, so that caches are written too.
  static std::string Script(int round) {
    std::string script;
    for (int i = 0; i < kDocumentsPerRound; ++i) {
      script += "INSERT INTO docs (id, content) VALUES ('" + SourceOf(round, i) + "', '" +
                TextOf(round, i) + "');\n";
      if (i % 30 == 29) {
        script += "ANSWER 'harbour?' FROM docs WITH (min_score = -1, k = 3, max_tokens = 1);\n";
      }
    }
    return script;
  }
  // How many documents the lines of `out` acknowledge.
  static int NumAcknowledged(const std::string& out) {
    int count = 0;
    for (size_t at = 0; (at = out.find("[{\"added\":1,", at)) != std::string::npos; ++at) ++count;
    return count;
  }

  storage::TemporaryDirectory folder_;
};

TEST_F(KillTest, EveryAcknowledgedDocumentIsThereWithItsTextAndFound) {
  ASSERT_EQ(RunProgram({database(), "-c",
                        "CREATE MODEL e FROM '" + (folder_ / "embedder") +
                            "'; CREATE MODEL g FROM '" + (folder_ / "generator.gguf") +
                            "' WITH (kv_gate = 'off'); CREATE COLLECTION docs"})
                .exit_code,
            0);
  std::vector<int> acknowledged;
  for (int round = 0; round < kRounds; ++round) {
    SCOPED_TRACE(round);
    std::mt19937 random(static_cast<uint32_t>(round));
    storage::WriteFile(folder_ / "script.sql", Script(round));
    Program program({database(), "--json", "-f", folder_ / "script.sql"});
    const int goal = static_cast<int>(random() % kDocumentsPerRound);
    ASSERT_TRUE(
        program.WaitUntil([&] { return NumAcknowledged(program.out()) >= std::max(1, goal); }));
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 3'000));
    program.Kill(SIGKILL);
    const ProgramEnd end = program.Wait();
    acknowledged.push_back(NumAcknowledged(end.out));
    EXPECT_GE(acknowledged.back(), std::max(1, goal));

    auto opened = engine::Engine::Open(database(), {.num_threads = 1});
    ASSERT_TRUE(opened.ok()) << opened.status();
    engine::Session session(opened->get());
    const auto rows = session.Execute("SELECT source, content FROM docs", {});
    ASSERT_TRUE(rows.ok()) << rows.diagnostic().message;
    std::vector<std::pair<std::string, std::string>> found;
    for (const query::Row& row : rows->rows) {
      found.emplace_back(row[0].AsString(), row[1].AsString());
    }
    std::ranges::sort(found);
    for (int past = 0; past <= round; ++past) {
      const int num_acknowledged = acknowledged[static_cast<size_t>(past)];
      for (int i = 0; i < num_acknowledged; ++i) {
        EXPECT_TRUE(
            std::ranges::binary_search(found, std::pair(SourceOf(past, i), TextOf(past, i))))
            << SourceOf(past, i);
      }
      // At most the statement at work was finished without being acknowledged.
      EXPECT_FALSE(std::ranges::binary_search(
          found,
          std::pair(SourceOf(past, num_acknowledged + 1), TextOf(past, num_acknowledged + 1))));
    }
    for (int i = 0; i < acknowledged.back(); i += 7) {
      const auto hits = session.Execute("SEARCH '" + TextOf(round, i) + "' IN docs LIMIT 1", {});
      ASSERT_TRUE(hits.ok()) << hits.diagnostic().message;
      EXPECT_EQ(hits->rows[0][1].AsString(), SourceOf(round, i));
    }
    // The index of words agrees with the documents, and did not have to be built anew.
    const auto words = session.Execute("SEARCH 'the' IN docs LIMIT 100000 WITH (mode = text)", {});
    ASSERT_TRUE(words.ok()) << words.diagnostic().message;
    EXPECT_EQ(words->rows.size(), found.size());
    ASSERT_EQ(words->notices.size(), 1u);
    EXPECT_NE(words->notices[0].find("no more chunks hold a word"), std::string::npos);
    const std::string last = SourceOf(round, acknowledged.back() - 1);
    const auto phrase =
        session.Execute("SEARCH '\"" + last + "\"' IN docs LIMIT 1 WITH (mode = text)", {});
    ASSERT_TRUE(phrase.ok()) << phrase.diagnostic().message;
    ASSERT_EQ(phrase->rows.size(), 1u);
    EXPECT_EQ(phrase->rows[0][1].AsString(), last);
    const auto answer = session.Execute(
        "ANSWER 'harbour?' FROM docs WITH (min_score = -1, k = 3, max_tokens = 1)", {});
    EXPECT_TRUE(answer.ok()) << answer.diagnostic().message;
  }
}

TEST_F(KillTest, ACopyThatWasKilledGoesOnWhereItStood) {
  constexpr int kFiles = 1'500;
  std::filesystem::create_directory(folder_ / "documents");
  for (int i = 0; i < kFiles; ++i) {
    storage::WriteFile(folder_ / ("documents/" + std::to_string(i)), TextOf(0, i));
  }
  const std::string copy = "COPY docs FROM '" + (folder_ / "documents") + "'";
  ASSERT_EQ(
      RunProgram({database(), "-c",
                  "CREATE MODEL e FROM '" + (folder_ / "embedder") + "'; CREATE COLLECTION docs"})
          .exit_code,
      0);
  {
    Program program({database(), "--json", "-c", "SHOW COLLECTIONS;" + copy});
    ASSERT_TRUE(program.WaitUntil([&] { return !program.out().empty(); }));
    std::this_thread::sleep_for(std::chrono::milliseconds(60));
    program.Kill(SIGKILL);
    program.Wait();
  }
  const ProgramEnd rest = RunProgram({database(), "--json", "-c", copy});
  EXPECT_EQ(rest.exit_code, 0) << rest.err;
  const ProgramEnd count = RunProgram({database(), "--json", "-c", "SELECT COUNT(*) FROM docs"});
  EXPECT_EQ(count.out, "[{\"count\":" + std::to_string(kFiles) + "}]\n") << count.err;
  const ProgramEnd again = RunProgram({database(), "--json", "-c", copy});
  EXPECT_NE(again.out.find("\"unchanged\":" + std::to_string(kFiles)), std::string::npos);
}

}  // namespace
}  // namespace intarsia::client
