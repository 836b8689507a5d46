// The text index against a BM25 that looks at every chunk: after additions and removals, with all
// kinds of clauses, filters and depths; and damaged rows.
#include "index/text_search.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "base/memory_rows.h"
#include "index/text_index_writer.h"
#include "index/text_rows.h"
#include "tests/index/random_text.h"

namespace intarsia::index {
namespace {

class TextSearchTest : public testing::Test {
 protected:
  TextSearchTest() : analyzer_(*TextAnalyzer::Create("english")), reference_(analyzer_.get()) {}

  using Chunks = std::vector<std::pair<uint64_t, std::string>>;

  void Commit(const Chunks& added, const Chunks& removed) {
    TextIndexWriter writer(analyzer_.get());
    for (const auto& [id, text] : removed) {
      const std::string_view fields[] = {text};
      writer.Remove(id, fields);
      reference_.Remove(id);
      texts_.erase(id);
    }
    for (const auto& [id, text] : added) {
      const std::string_view fields[] = {text};
      writer.Add(id, fields);
      reference_.Add(id, text);
      texts_[id] = text;
    }
    const Status status = writer.Finish(rows_, &rows_);
    ASSERT_TRUE(status.ok()) << status;
  }
  void Commit(const Chunks& added) { Commit(added, {}); }

  TextQuery Parse(std::string_view text) {
    return ParseTextQuery(text, TextSyntax::kOperators, analyzer_.get());
  }
  std::vector<uint64_t> Ids(std::string_view text, int64_t k = 10) {
    const TextQuery query = Parse(text);
    const auto found = SearchText(rows_, {.query = &query, .k = k});
    EXPECT_TRUE(found.ok()) << found.status();
    std::vector<uint64_t> ids;
    if (found.ok()) {
      for (const SearchHit& hit : found->hits) ids.push_back(hit.id);
    }
    return ids;
  }

  // Both scans give what the reference gives, and the same bits as each other.
  void ExpectLikeReference(const std::string& text, int64_t k,
                           const std::set<uint64_t>* filter = nullptr) {
    SCOPED_TRACE(text + " k=" + std::to_string(k));
    const TextQuery query = Parse(text);
    const std::vector<SearchHit> want = reference_.Search(query, k, filter);
    std::vector<uint64_t> ids;
    TextSearchParams params = {.query = &query, .k = k};
    if (filter != nullptr) {
      ids.assign(filter->begin(), filter->end());
      params.filter = ids;
    }
    const auto pruned = SearchText(rows_, params);
    params.scan = TextScan::kExhaustive;
    const auto whole = SearchText(rows_, params);
    ASSERT_TRUE(pruned.ok() && whole.ok()) << pruned.status() << whole.status();
    EXPECT_EQ(pruned->hits, whole->hits);
    EXPECT_LE(pruned->num_scored, whole->num_scored);
    ASSERT_EQ(pruned->hits.size(), want.size());
    for (size_t i = 0; i < want.size(); ++i) {
      EXPECT_NEAR(pruned->hits[i].score, want[i].score, 1e-4F) << i;
      // Scores that round to the same float may change places.
      if (i + 1 < want.size() && want[i].score - want[i + 1].score > 1e-4F &&
          (i == 0 || want[i - 1].score - want[i].score > 1e-4F)) {
        EXPECT_EQ(pruned->hits[i].id, want[i].id) << i;
      }
    }
  }

  std::unique_ptr<TextAnalyzer> analyzer_;
  MemoryRows rows_;
  ReferenceBm25 reference_;
  std::map<uint64_t, std::string> texts_;
};

TEST_F(TextSearchTest, FindsWordsInAnyForm) {
  Commit({{1, "The harbours were built in 1843."},
          {2, "A building of glass."},
          {5, "Größe und CAFÉ: file kv_cache.md, 3.14"}});
  EXPECT_EQ(Ids("harbour"), std::vector<uint64_t>{1});
  EXPECT_EQ(Ids("BUILDS"), (std::vector<uint64_t>{2}));
  EXPECT_EQ(Ids("café grösse"), std::vector<uint64_t>{5});
  EXPECT_EQ(Ids("cache"), std::vector<uint64_t>{5});
  EXPECT_EQ(Ids("3.14"), std::vector<uint64_t>{5});
  EXPECT_EQ(Ids("14"), std::vector<uint64_t>{});
  EXPECT_EQ(Ids(""), std::vector<uint64_t>{});
}

TEST_F(TextSearchTest, OperatorsRequireForbidAndJoin) {
  Commit({{1, "red fish swims"}, {2, "blue fish, red boat"}, {3, "red boat"}, {4, "fish red"}});
  EXPECT_EQ(Ids("\"red fish\""), std::vector<uint64_t>{1});
  EXPECT_EQ(Ids("fish -blue"), (std::vector<uint64_t>{4, 1}));
  EXPECT_EQ(Ids("+boat fish"), (std::vector<uint64_t>{2, 3}));
  EXPECT_EQ(Ids("-fish"), std::vector<uint64_t>{});
  EXPECT_EQ(Ids("+fish -\"fish red\" swims"), (std::vector<uint64_t>{1}));
  EXPECT_EQ(Ids("sw*"), std::vector<uint64_t>{1});
  EXPECT_EQ(Ids("swims*"), std::vector<uint64_t>{1});
  EXPECT_EQ(Ids("swimsu*"), std::vector<uint64_t>{});
  EXPECT_EQ(Ids("bo* bl*").front(), 2u);
  const std::vector<uint64_t> all = {1, 2, 3, 4};
  const auto kept = ApplyConstraints(rows_, Parse("+fish -blue"), all, nullptr);
  ASSERT_TRUE(kept.ok());
  EXPECT_EQ(*kept, (std::vector<uint64_t>{1, 4}));
}

TEST_F(TextSearchTest, WordsOfAQuestionCountWhereThereAreNoOthers) {
  Commit({{1, "Why is that? What does he do? Why?"}, {2, "Vacuum reclaims space."}});
  EXPECT_EQ(Ids("Why does VACUUM do that?"), std::vector<uint64_t>{2});
  EXPECT_EQ(Ids("why"), std::vector<uint64_t>{1});
  EXPECT_EQ(Ids("+why vacuum"), std::vector<uint64_t>{1});
  EXPECT_EQ(Ids("\"what does\" vacuum"), (std::vector<uint64_t>{2, 1}));
  EXPECT_EQ(Ids("why -vacuum"), std::vector<uint64_t>{1});
}

TEST_F(TextSearchTest, WhatIsRequiredOrForbiddenIsNotLeftOutOfALongQuery) {
  std::string text;
  for (int64_t i = 0; i < kTextClausesMax + 76; ++i) text += "w" + std::to_string(i) + " ";
  const TextQuery query = Parse(text + "+zebra -zoo");
  EXPECT_EQ(std::ssize(query.clauses), kTextClausesMax);
  EXPECT_EQ(query.num_dropped, 78);
  int64_t num_required = 0;
  int64_t num_forbidden = 0;
  for (const TextClause& clause : query.clauses) {
    num_required += clause.occur == Occur::kMust ? 1 : 0;
    num_forbidden += clause.occur == Occur::kMustNot ? 1 : 0;
  }
  EXPECT_EQ(num_required, 1);
  EXPECT_EQ(num_forbidden, 1);
}

TEST_F(TextSearchTest, AgreesWithTheReferenceAfterManyCommits) {
  RandomText random(7, 400);
  uint64_t next_id = 1;
  for (int commit = 0; commit < 24; ++commit) {
    Chunks added;
    Chunks removed;
    for (int i = 0; i < 150; ++i) {
      next_id += static_cast<uint64_t>(1 + random.Below(commit % 5 == 0 ? 400 : 2));
      added.emplace_back(next_id, random.Text(static_cast<int>(1 + random.Below(60))));
    }
    if (commit % 3 == 2) {
      for (const auto& chunk : texts_) {
        if (random.Below(4) == 0) removed.push_back(chunk);
      }
    }
    Commit(added, removed);
  }
  ASSERT_GT(texts_.size(), 1'000u);
  std::set<uint64_t> half;
  std::set<uint64_t> few;
  for (const auto& [id, text] : texts_) {
    if (random.Below(2) == 0) half.insert(id);
    if (random.Below(100) == 0) few.insert(id);
  }
  for (int round = 0; round < 60; ++round) {
    std::string text;
    for (int64_t i = 0; i <= random.Below(6); ++i) {
      const int64_t kind = random.Below(12);
      text += kind == 0 ? "+" : kind == 1 ? "-" : "";
      if (kind == 2) {
        text += "\"" + random.Word() + " " + random.Word() + "\" ";
      } else if (kind == 3) {
        text += random.Word().substr(0, 3) + "* ";
      } else {
        text += random.Word() + " ";
      }
    }
    for (const int64_t k : {1, 10, 100}) ExpectLikeReference(text, k);
    ExpectLikeReference(text, 10, &half);
    ExpectLikeReference(text, 10, &few);
  }
}

// Of hits, given what each chunk is worth.
double NdcgAt10(const std::vector<SearchHit>& hits, const std::map<uint64_t, int>& gains) {
  double gain = 0.0;
  for (size_t i = 0; i < hits.size() && i < 10; ++i) {
    const auto found = gains.find(hits[i].id);
    if (found != gains.end()) gain += found->second / std::log2(static_cast<double>(i) + 2.0);
  }
  std::vector<int> best;
  for (const auto& [id, value] : gains) best.push_back(value);
  std::ranges::sort(best, std::ranges::greater());
  double ideal = 0.0;
  for (size_t i = 0; i < best.size() && i < 10; ++i) {
    ideal += best[i] / std::log2(static_cast<double>(i) + 2.0);
  }
  return gain / ideal;
}

TEST_F(TextSearchTest, RanksAJudgedCorpusLikeTheReference) {
  // Thirty subjects with words of their own; a text is worth more the more of them it has.
  constexpr int kSubjects = 30;
  RandomText random(11, 3'000);
  std::vector<std::map<uint64_t, int>> gains(kSubjects);
  Chunks chunks;
  const auto subject_word = [](int64_t subject, int64_t number) {
    return RandomText::WordOf(500 + 40 * subject + number);
  };
  for (uint64_t id = 1; id <= 1'500; ++id) {
    const int64_t subject = random.Below(kSubjects);
    const int64_t grade = random.Below(4);
    std::string text = random.Text(static_cast<int>(20 + random.Below(80)));
    for (int64_t i = 0; i < 3 * grade; ++i) text += " " + subject_word(subject, random.Below(12));
    if (grade > 0) gains[static_cast<size_t>(subject)][id] = static_cast<int>(grade);
    chunks.emplace_back(id, text);
  }
  Commit(chunks);
  double sum = 0.0;
  double reference_sum = 0.0;
  for (int64_t subject = 0; subject < kSubjects; ++subject) {
    const TextQuery query = Parse(random.Text(4) + " " + subject_word(subject, 1) + " " +
                                  subject_word(subject, 5) + " " + subject_word(subject, 9));
    const auto found = SearchText(rows_, {.query = &query, .k = 10});
    ASSERT_TRUE(found.ok());
    sum += NdcgAt10(found->hits, gains[static_cast<size_t>(subject)]);
    reference_sum +=
        NdcgAt10(reference_.Search(query, 10, nullptr), gains[static_cast<size_t>(subject)]);
  }
  EXPECT_NEAR(sum / kSubjects, reference_sum / kSubjects, 0.005);
  EXPECT_GT(sum / kSubjects, 0.5);
}

TEST_F(TextSearchTest, TiesGoToTheLowerId) {
  Chunks chunks;
  for (uint64_t id = 1; id <= 500; ++id) chunks.emplace_back(id, "same text");
  Commit(chunks);
  EXPECT_EQ(Ids("same", 3), (std::vector<uint64_t>{1, 2, 3}));
  Commit({}, {{2, "same text"}});
  EXPECT_EQ(Ids("same text", 3), (std::vector<uint64_t>{1, 3, 4}));
}

TEST_F(TextSearchTest, CommonWordsAreSkippedNotRead) {
  RandomText random(3, 50);
  Chunks chunks;
  for (uint64_t id = 1; id <= 6'000; ++id) chunks.emplace_back(id, random.Text(30));
  for (uint64_t id = 1'000; id < 1'010; ++id) chunks[id].second += " rarity";
  Commit(chunks);
  const TextQuery query = Parse(RandomText::WordOf(0) + " rarity");
  const auto pruned = SearchText(rows_, {.query = &query, .k = 5});
  const auto whole = SearchText(rows_, {.query = &query, .k = 5, .scan = TextScan::kExhaustive});
  ASSERT_TRUE(pruned.ok() && whole.ok());
  EXPECT_EQ(pruned->hits, whole->hits);
  EXPECT_LT(pruned->num_scored, whole->num_scored / 20);
  EXPECT_LT(pruned->num_blocks_decoded, whole->num_blocks_decoded / 4);
}

TEST_F(TextSearchTest, RemovingEverythingLeavesOnlyTheStatistics) {
  RandomText random(5, 30);
  Chunks chunks;
  for (uint64_t id = 1; id <= 5'000; ++id) chunks.emplace_back(id, random.Text(8));
  Commit(chunks);
  // Closed pages, in two halves.
  Commit({}, {chunks.begin(), chunks.begin() + 2'500});
  ExpectLikeReference(RandomText::WordOf(0) + " " + RandomText::WordOf(7), 10);
  Commit({}, {chunks.begin() + 2'500, chunks.end()});
  ASSERT_EQ(rows_.rows().size(), 1u);
  const auto stats = DecodeTextStats(*rows_.Get(TextStatsKey()));
  ASSERT_TRUE(stats.ok());
  EXPECT_EQ(stats->num_chunks, 0);
  EXPECT_EQ(stats->num_terms, 0);
  EXPECT_TRUE(Ids(RandomText::WordOf(0)).empty());
}

TEST_F(TextSearchTest, RemovingWhatIsNotThereIsNoticed) {
  Commit({{1, "red fish"}, {2, "blue fish"}});
  const MemoryRows before = rows_;
  for (const auto& [id, text] : Chunks{{1, "blue"}, {3, "red fish"}, {2, "blue fish whale"}}) {
    TextIndexWriter writer(analyzer_.get());
    const std::string_view fields[] = {text};
    writer.Remove(id, fields);
    MemoryRows out;
    EXPECT_EQ(writer.Finish(before, &out).code(), StatusCode::kCorruption) << text;
  }
}

TEST_F(TextSearchTest, PositionsThatAreGoneAreCorruption) {
  Chunks chunks;
  for (uint64_t id = 1; id <= 2'500; ++id) chunks.emplace_back(id, "red fish");
  Commit(chunks);
  MemoryRows damaged = rows_;
  for (const auto& [key, body] : rows_.rows()) {
    if (key.starts_with('o')) damaged.Delete(key);
  }
  ASSERT_LT(damaged.rows().size(), rows_.rows().size());
  const TextQuery query = Parse("\"red fish\"");
  EXPECT_EQ(SearchText(damaged, {.query = &query, .k = 5}).status().code(),
            StatusCode::kCorruption);
  TextIndexWriter writer(analyzer_.get());
  const std::string_view fields[] = {"red fish"};
  writer.Remove(1, fields);
  MemoryRows out;
  EXPECT_EQ(writer.Finish(damaged, &out).code(), StatusCode::kCorruption);
}

TEST_F(TextSearchTest, ADamagedRowIsAnErrorOrChangesOnlyScores) {
  RandomText random(9, 60);
  Chunks chunks;
  for (uint64_t id = 1; id <= 3'000; ++id) chunks.emplace_back(id, random.Text(20));
  Commit(chunks);
  const MemoryRows whole = rows_;
  const TextQuery query =
      Parse(RandomText::WordOf(0) + " \"" + RandomText::WordOf(1) + " " + RandomText::WordOf(2) +
            "\" " + RandomText::WordOf(3).substr(0, 2) + "*");
  int num_errors = 0;
  for (const auto& [key, body] : whole.rows()) {
    for (int i = 0; i < 4; ++i) {
      MemoryRows damaged = whole;
      std::string bytes = body;
      bytes[static_cast<size_t>(random.Below(std::ssize(bytes)))] ^=
          static_cast<char>(1 << random.Below(8));
      if (i == 3) bytes.resize(bytes.size() / 2);
      damaged.Put(key, bytes);
      const auto found = SearchText(damaged, {.query = &query, .k = 10});
      if (!found.ok()) ++num_errors;
    }
  }
  EXPECT_GT(num_errors, 0);
}

}  // namespace
}  // namespace intarsia::index
