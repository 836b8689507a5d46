#include "engine/source_picker.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace intarsia::engine {
namespace {

using Words = std::vector<std::string>;

struct Seen {
  std::string sentence;
  double attention = 1.0;
};

// The indexes of what is picked for `answer`.
std::vector<size_t> Pick(const std::string& answer, const std::vector<Seen>& seen) {
  std::vector<Words> words;
  for (const Seen& source : seen) words.push_back(ContentWords(source.sentence));
  std::vector<CandidateSource> candidates;
  for (size_t i = 0; i < seen.size(); ++i) {
    candidates.push_back({.words = words[i], .attention = seen[i].attention});
  }
  std::vector<size_t> indexes;
  for (const PickedSource& picked : PickSources(ContentWords(answer), candidates)) {
    EXPECT_GT(picked.score, 0.0);
    EXPECT_LE(picked.score, 1.0);
    indexes.push_back(picked.index);
  }
  return indexes;
}

TEST(SourcePickerTest, FormsOfAWordAreOneWord) {
  EXPECT_EQ(ContentWords("It BUILDS the builds, building built."), (Words{"build", "built"}));
  EXPECT_EQ(ContentWords("stopped stops stop; class; is, yes"), (Words{"class", "stop"}));
  EXPECT_EQ(ContentWords("the use of caches: a cache, used"), (Words{"cach", "use"}));
  EXPECT_EQ(ContentWords("Größe 0.15 漢字"), (Words{"0", "15", "größe", "漢字"}));
  EXPECT_EQ(ContentWords("No, it is."), Words{});
  EXPECT_EQ(ContentWords("12. item"), Words{"item"});
  EXPECT_EQ(ContentWords("12.5 m"), (Words{"12", "5", "m"}));
}

TEST(SourcePickerTest, WordsDecideAmongSourcesOfEqualAttention) {
  EXPECT_EQ(Pick("The port is 5432.", {{"The port is open."}, {"The default port is 5432."}}),
            (std::vector<size_t>{1}));
}

TEST(SourcePickerTest, AttentionDecidesAmongEqualSentences) {
  EXPECT_EQ(
      Pick("It is set at start.", {{"It is set at start.", 0.1}, {"It is set at start.", 0.3}}),
      (std::vector<size_t>{1}));
}

TEST(SourcePickerTest, ASecondSourceAddsWords) {
  const Seen first = {"VACUUM FULL reclaims more disk space but runs slowly."};
  const Seen second = {"Plain VACUUM creates much I/O traffic."};
  EXPECT_EQ(Pick("VACUUM FULL reclaims more disk space, and plain VACUUM creates much traffic.",
                 {first, second, first})
                .size(),
            2U);
  EXPECT_EQ(Pick("VACUUM FULL reclaims more disk space.", {first, second, first}).size(), 1U);
}

TEST(SourcePickerTest, ItemsOfAListThatBecameOneSentenceAreAllSources) {
  EXPECT_EQ(
      Pick("It is needed to recover space of deleted rows, to update the planner's statistics, "
           "to update the visibility map, and to protect old data against wraparound.",
           {{"To recover space of deleted rows."},
            {"To update statistics of the planner."},
            {"To update the visibility map."},
            {"To protect old data against wraparound."},
            {"It is needed."},
            {"Rows and old data are needed for other work of the server that nobody asked."}})
          .size(),
      4U);
}

TEST(SourcePickerTest, WhatNoSourceSupportsIsNotCited) {
  EXPECT_EQ(Pick("The largest field has 12800 bytes.", {{"A tuple of 12 columns has bytes."}}),
            std::vector<size_t>{});
  EXPECT_EQ(Pick("Yes.", {{"Yes."}}), std::vector<size_t>{});
  EXPECT_EQ(Pick("Paris is large.", {}), std::vector<size_t>{});
  EXPECT_EQ(Pick("Paris is large.", {{"Paris is large.", 0.0}}), std::vector<size_t>{});
}

TEST(SourcePickerTest, NumbersCountTwice) {
  EXPECT_EQ(Pick("At most 4096 rows.", {{"At most rows."}, {"4096"}}), (std::vector<size_t>{0, 1}));
  EXPECT_EQ(Pick("4096 rows.", {{"Rows."}, {"4096."}}), (std::vector<size_t>{1, 0}));
}

}  // namespace
}  // namespace intarsia::engine
