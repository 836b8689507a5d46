// ANSWER: text, citations, accounting, reuse of caches, limits.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/utf8.h"
#include "tests/engine/engine_fixture.h"

namespace intarsia::engine {
namespace {

constexpr std::string_view kQuestion = "Who built the harbour and the lighthouse?";

class AnswerStatementTest : public EngineFixture {
 protected:
  static std::string Sql(const std::string& options, std::string_view question = kQuestion) {
    return "ANSWER '" + std::string(question) + "' FROM docs WITH (min_score = -1" +
           (options.empty() ? "" : ", ") + options + ")";
  }
  query::ResultSet Answer(const std::string& options) { return Run(Sql(options)); }

  static void ExpectToAddUp(const query::ResultSet& answer) {
    EXPECT_EQ(Usage(answer, "prompt_tokens"), Usage(answer, "reused_tokens") +
                                                  Usage(answer, "recomputed_tokens") +
                                                  Usage(answer, "fresh_tokens"));
  }

  // Every citation says where its quote stands, in bytes and code points of the document, and which
  // sentence of the answer has its number.
  void ExpectCitationsToHold(const query::ResultSet& answer) {
    const std::string text = Text(answer, "answer");
    int64_t n = 0;
    for (const query::Value& citation : Cell(answer, "citations").AsList()) {
      const auto number = [&citation](std::string_view name) {
        return citation.Find(name)->AsInteger();
      };
      EXPECT_EQ(number("n"), ++n);
      const auto chunk =
          Run("SELECT source, byte_start, byte_end, char_start, content FROM docs "
              "WHERE chunk_id = '" +
              citation.Find("chunk_id")->AsString() + "'");
      ASSERT_EQ(chunk.rows.size(), 1u);
      EXPECT_EQ(citation.Find("source")->AsString(), Text(chunk, "source"));
      const int64_t chunk_begin = Number(chunk, "byte_start");
      ASSERT_LE(chunk_begin, number("byte_start"));
      ASSERT_LT(number("byte_start"), number("byte_end"));
      ASSERT_LE(number("byte_end"), Number(chunk, "byte_end"));
      const std::string content = Text(chunk, "content");
      const std::string quote = citation.Find("quote")->AsString();
      const auto offset = static_cast<size_t>(number("byte_start") - chunk_begin);
      EXPECT_EQ(content.substr(offset, quote.size()), quote);
      EXPECT_EQ(std::ssize(quote), number("byte_end") - number("byte_start"));
      EXPECT_EQ(number("char_start"),
                Number(chunk, "char_start") + CountCodePoints(content.substr(0, offset)));
      EXPECT_EQ(number("char_end"), number("char_start") + CountCodePoints(quote));
      EXPECT_GT(citation.Find("score")->AsDouble(), 0.0);
      EXPECT_LE(citation.Find("score")->AsDouble(), 1.0);
      ASSERT_LT(number("answer_start"), number("answer_end"));
      ASSERT_LE(number("answer_end"), std::ssize(text));
      const std::string sentence =
          text.substr(static_cast<size_t>(number("answer_start")),
                      static_cast<size_t>(number("answer_end") - number("answer_start")));
      EXPECT_EQ(sentence.find('['), std::string::npos) << sentence;
      EXPECT_NE(sentence.front(), ' ');
      // Its number stands behind it, perhaps behind that of another source.
      const std::string behind = text.substr(static_cast<size_t>(number("answer_end")));
      EXPECT_TRUE(behind.starts_with(" [")) << text;
      EXPECT_NE(behind.substr(0, behind.find_first_not_of("[]0123456789 "))
                    .find("[" + std::to_string(n) + "]"),
                std::string::npos)
          << text;
    }
  }
};

TEST_F(AnswerStatementTest, CitationsPointAtTheStoredText) {
  CreateFilledDocs();
  // The model speaks at random and the prompt names the files, whose folder is another in each run:
  // so the seeds go on until there are enough citations, and not up to a number that mostly does.
  const auto expect_citations = [this](std::string_view where, int64_t num_wanted) {
    constexpr int kMaxSeeds = 4000;
    int64_t num_citations = 0;
    for (int seed = 0; num_citations < num_wanted && seed < kMaxSeeds; ++seed) {
      const auto answer =
          Run("ANSWER 'harbour?' FROM docs " + std::string(where) +
              "WITH (min_score = -1, temperature = 4, top_k = 30, max_tokens = 40, seed = " +
              std::to_string(seed) + ")");
      ExpectCitationsToHold(answer);
      ExpectToAddUp(answer);
      num_citations += std::ssize(Cell(answer, "citations").AsList());
      if (HasFailure()) return;
    }
    EXPECT_GE(num_citations, num_wanted) << where;
  };
  expect_citations("", 12);
  expect_citations("WHERE source LIKE '%größe.md' ", 4);  // Its bytes are not its characters.
}

TEST_F(AnswerStatementTest, WhatIsStreamedIsTheAnswer) {
  class Collector : public TokenSink {
   public:
    void Write(std::string_view text) override {
      EXPECT_EQ(FindInvalidUtf8(text), -1);
      text_.append(text);
      ++num_pieces_;
    }
    std::string text_;
    int64_t num_pieces_ = 0;
  };
  CreateFilledDocs();
  // How long a random model speaks is chance: so the seeds go on until an answer had pieces.
  constexpr int kMaxSeeds = 4000;
  int64_t num_pieces_max = 0;
  for (int seed = 0; num_pieces_max <= 3 && seed < kMaxSeeds; ++seed) {
    Collector collector;
    context_.tokens = &collector;
    const auto answer =
        Answer("temperature = 4, top_k = 30, max_tokens = 40, seed = " + std::to_string(seed));
    ASSERT_EQ(collector.text_, Text(answer, "answer"));
    num_pieces_max = std::max(num_pieces_max, collector.num_pieces_);
  }
  context_ = {};
  EXPECT_GT(num_pieces_max, 3);
}

TEST_F(AnswerStatementTest, TheSecondAnswerReusesTheCachesOfTheFirst) {
  CreateFilledDocs();
  const std::string options = "k = 6, max_tokens = 4, ratio = 0.25";
  const auto first = Answer(options);
  ExpectToAddUp(first);
  EXPECT_EQ(Usage(first, "recomputed_tokens"), 0);
  EXPECT_GT(Usage(first, "reused_tokens"), 0);  // the header
  const int64_t header = Usage(first, "reused_tokens");
  Finish();
  EXPECT_EQ(Number(Run("SHOW CACHE"), "entries"), 6);

  const auto second = Answer(options);
  ExpectToAddUp(second);
  EXPECT_EQ(Usage(second, "prompt_tokens"), Usage(first, "prompt_tokens"));
  // All chunks but the first, whose cache is exact, are candidates.
  const auto none = Answer(options + ", selector = 'none'");
  EXPECT_EQ(Usage(none, "recomputed_tokens"), 0);
  const auto full = Answer(options + ", selector = 'full'");
  const int64_t candidates = Usage(full, "recomputed_tokens");
  EXPECT_GT(candidates, 0);
  EXPECT_EQ(Usage(second, "recomputed_tokens"),
            std::llround(0.25 * static_cast<double>(candidates)));
  EXPECT_EQ(Usage(second, "fresh_tokens"), Usage(none, "fresh_tokens"));
  const int64_t first_chunk = Usage(full, "reused_tokens") - header;
  EXPECT_GT(first_chunk, 0);
  EXPECT_EQ(header + first_chunk + candidates + Usage(second, "fresh_tokens"),
            Usage(second, "prompt_tokens"));

  // Also after reopening, and without any writing.
  Open();
  EXPECT_EQ(Usage(Answer(options), "recomputed_tokens"), Usage(second, "recomputed_tokens"));
}

TEST_F(AnswerStatementTest, ReuseSaysWhichCachesCount) {
  CreateFilledDocs();
  Run("CACHE COLLECTION docs");
  const std::string options = "k = 6, max_tokens = 12, ratio = 1, reuse = ";
  const auto none = Answer(options + "'none'");
  EXPECT_EQ(Usage(none, "reused_tokens"), 0);
  EXPECT_EQ(Usage(none, "recomputed_tokens"), 0);
  const auto prefix = Answer(options + "'prefix'");
  EXPECT_GT(Usage(prefix, "reused_tokens"), 0);
  EXPECT_EQ(Usage(prefix, "recomputed_tokens"), 0);
  const auto chunks = Answer(options + "'chunks'");
  EXPECT_EQ(Usage(chunks, "reused_tokens"), Usage(prefix, "reused_tokens"));
  EXPECT_EQ(Usage(chunks, "recomputed_tokens") + Usage(chunks, "fresh_tokens"),
            Usage(prefix, "fresh_tokens"));
  // Everything exact, so all three say the same.
  EXPECT_EQ(Text(none, "answer"), Text(prefix, "answer"));
  EXPECT_EQ(Text(none, "answer"), Text(chunks, "answer"));
}

TEST_F(AnswerStatementTest, AnswersRepeatThemselves) {
  CreateFilledDocs();
  Run("CACHE COLLECTION docs");
  const auto greedy = Answer("max_tokens = 20");
  EXPECT_EQ(Text(greedy, "answer"), Text(Answer("max_tokens = 20"), "answer"));
  const std::string sampled = "max_tokens = 20, temperature = 4, top_k = 40, top_p = 0.95, seed = ";
  const auto seven = Answer(sampled + "7");
  EXPECT_EQ(query::ToJson(Cell(seven, "citations")),
            query::ToJson(Cell(Answer(sampled + "7"), "citations")));
  EXPECT_EQ(Text(seven, "answer"), Text(Answer(sampled + "7"), "answer"));
  // Two seeds may draw the same few tokens, all of them will not.
  bool is_other = false;
  for (int seed = 8; !is_other && seed < 1000; ++seed) {
    is_other = Text(Answer(sampled + std::to_string(seed)), "answer") != Text(seven, "answer");
  }
  EXPECT_TRUE(is_other);
  Open();
  EXPECT_EQ(Text(seven, "answer"), Text(Answer(sampled + "7"), "answer"));
}

TEST_F(AnswerStatementTest, WithoutEvidenceItRefusesUnlessToldOtherwise) {
  CreateDocs();
  const auto empty = Answer("max_tokens = 4");
  EXPECT_EQ(Text(empty, "answer"), "The documents do not say.");
  EXPECT_TRUE(HasNotice(empty, "holds no documents yet"));
  EXPECT_TRUE(HasNotice(empty, "nothing to answer from"));
  EXPECT_TRUE(Cell(empty, "citations").AsList().empty());
  EXPECT_EQ(Usage(empty, "prompt_tokens"), 0);
  const auto plan = Run("EXPLAIN ANALYZE " + Sql("max_tokens = 4"));
  EXPECT_NE(query::ToJson(plan.rows.back()[0]).find("REFUSE"), std::string::npos);
  EXPECT_GT(Usage(Answer("max_tokens = 4, on_no_evidence = 'answer'"), "generated_tokens"), 0);

  FillDocs();
  const auto far = Run("ANSWER 'harbour?' FROM docs WITH (min_score = 1)");
  EXPECT_EQ(Text(far, "answer"), "The documents do not say.");
  EXPECT_TRUE(HasNotice(far, "no chunk is near enough"));
  const auto filtered = Run("ANSWER 'harbour?' FROM docs WHERE source = 'nothing'");
  EXPECT_EQ(Text(filtered, "answer"), "The documents do not say.");
  EXPECT_EQ(Fail("ANSWER ' ' FROM docs").message, "the question is empty");
}

TEST_F(AnswerStatementTest, AnAnswerThatIsCutSaysSo) {
  CreateFilledDocs();
  const auto cut = Answer("max_tokens = 3");
  EXPECT_EQ(Usage(cut, "generated_tokens"), 3);
  EXPECT_TRUE(HasNotice(cut, "cut at max_tokens = 3"));
}

TEST_F(AnswerStatementTest, ChunksThatDoNotFitAreNamed) {
  CreateFilledDocs();
  Run("CREATE MODEL narrow FROM '" + generator_path() +
      "' WITH (context_tokens = 420, kv_gate = 'off')");
  const auto wide = Answer("k = 8, max_tokens = 16");
  const auto answer = Run("ANSWER '" + std::string(kQuestion) +
                          "' FROM docs USING narrow WITH (k = 8, max_tokens = 16, min_score = -1)");
  EXPECT_LE(Usage(answer, "prompt_tokens") + 16, 420);
  EXPECT_LT(Usage(answer, "prompt_tokens"), Usage(wide, "prompt_tokens"));
  ASSERT_TRUE(HasNotice(answer, "left out, because the model's context has 420 tokens"));
  EXPECT_TRUE(HasNotice(answer, ".md chunk "));
  const auto search = Run("SEARCH '" + std::string(kQuestion) + "' IN docs LIMIT 8");
  // The best ones stay: the worst is among those left out.
  EXPECT_TRUE(HasNotice(answer, Text(search, "source", 7)));

  const auto no_room = Fail(
      "ANSWER 'harbour?' FROM docs USING narrow "
      "WITH (max_tokens = 200, min_score = -1)");
  EXPECT_EQ(no_room.error_class, query::ErrorClass::kInput);
  EXPECT_NE(no_room.message.find("no passage fits the model's context of 420 tokens"),
            std::string::npos)
      << no_room.message;
  const auto too_long = Fail("ANSWER '" + std::string(2'000, 'x') +
                             "' FROM docs USING narrow WITH (on_no_evidence = 'answer')");
  EXPECT_NE(too_long.message.find("does not fit the model's context of 420 tokens"),
            std::string::npos)
      << too_long.message;
}

TEST_F(AnswerStatementTest, TheOrderOfChunksIsThatOfTheOption) {
  CreateFilledDocs();
  const auto sources = [&](const std::string& order) {
    std::vector<std::string> lines;
    for (const query::Row& row :
         Run("EXPLAIN " + Sql("k = 5, max_tokens = 4, order = " + order)).rows) {
      const std::string& line = row[0].AsString();
      if (line.find(" bytes ") != std::string::npos) lines.push_back(line);
    }
    return lines;
  };
  const auto by_score = sources("'score'");
  ASSERT_EQ(by_score.size(), 5u);
  auto reversed = sources("'reverse'");
  std::ranges::reverse(reversed);
  EXPECT_EQ(by_score, reversed);
  auto by_document = sources("'document'");
  EXPECT_NE(by_score, by_document);
  EXPECT_TRUE(std::ranges::is_permutation(by_score, by_document));
}

TEST_F(AnswerStatementTest, WriteBehindCanBeSwitchedOff) {
  CreateFilledDocs();
  Run("SET kv.write_behind = off");
  Answer("max_tokens = 1");
  Finish();
  EXPECT_EQ(Number(Run("SHOW CACHE"), "writes"), 0);
  Run("SET kv.write_behind = on");
  Answer("max_tokens = 1, reuse = 'none'");
  Finish();
  EXPECT_EQ(Number(Run("SHOW CACHE"), "writes"), 0);
  Answer("max_tokens = 1, k = 3");
  Finish();
  EXPECT_EQ(Number(Run("SHOW CACHE"), "writes"), 3);

  Run("CREATE COLLECTION uncached WITH (kv_cache = 'off')");
  Run("INSERT INTO uncached (id, content) VALUES ('a', 'The harbour.')");
  Run("ANSWER 'harbour?' FROM uncached WITH (max_tokens = 1, min_score = -1)");
  Finish();
  EXPECT_EQ(Number(Run("SHOW CACHE FOR uncached"), "entries"), 0);
  EXPECT_EQ(Fail("CACHE COLLECTION uncached").message,
            "collection \"uncached\" has kv_cache = 'off'");
}

TEST_F(AnswerStatementTest, AStatementInterruptsWritingBehindAndItGoesOn) {
  CreateFilledDocs();
  Answer("max_tokens = 1, k = 8");
  for (int i = 0; i < 20; ++i) Run("SEARCH 'harbour' IN docs");
  Finish();
  EXPECT_EQ(Number(Run("SHOW CACHE"), "entries"), 8);
  EXPECT_EQ(Number(Run("SHOW CACHE"), "queued"), 0);
}

TEST_F(AnswerStatementTest, EveryFamilyAndFormatAnswers) {
  CreateFilledDocs();
  for (const std::string_view family : model::TinyFamilies()) {
    for (const bool has_markers : {true, false}) {
      const std::string name = std::string(family) + (has_markers ? "_chat" : "_plain");
      storage::WriteFile(folder_ / (name + ".gguf"),
                         TinyGeneratorBytes({.family = family, .has_chat_markers = has_markers}));
      Run("CREATE MODEL " + name + " FROM '" + (folder_ / (name + ".gguf")) +
          "' WITH (kv_gate = 'off')");
      const std::string sql = "ANSWER 'harbour?' FROM docs USING " + name +
                              " WITH (min_score = -1, max_tokens = 8, k = 4)";
      ExpectToAddUp(Run(sql));
      Finish();
      const auto reused = Run(sql);
      ExpectToAddUp(reused);
      EXPECT_GT(Usage(reused, "recomputed_tokens"), 0);
      ExpectCitationsToHold(reused);
    }
  }
  // Each model has caches of its own.
  EXPECT_EQ(Number(Run("SHOW CACHE"), "entries"), 4 * 2 * 5);
}

TEST_F(AnswerStatementTest, CancelStopsIt) {
  class Stopper : public TokenSink {
   public:
    explicit Stopper(CancelToken* token) : token_(*token) {}
    void Write(std::string_view) override { token_.Cancel(); }

   private:
    CancelToken& token_;
  };
  CreateFilledDocs();
  CancelToken token;
  Stopper stopper(&token);
  context_.cancel = &token;
  context_.tokens = &stopper;
  EXPECT_EQ(Fail(Sql("max_tokens = 2000")).error_class, query::ErrorClass::kCancelled);
  context_ = {};
  EXPECT_EQ(Usage(Answer("max_tokens = 2"), "generated_tokens"), 2);
}

}  // namespace
}  // namespace intarsia::engine
