// TextIndexWriter: gathers the chunks that one commit adds and removes, and stages the rows of the
// text index that change with them.
//
// Statistics, counts and lengths are exact after every commit, deletes included, because a removed
// chunk is analysed again and its postings are taken out one by one. What stays behind are only
// bounds of scores, which may then be higher than needed.
//
// Thread safety: owned by one thread.
// Lifetime: the analyzer must outlive it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/row_store.h"
#include "index/posting_codec.h"
#include "index/text_analyzer.h"

namespace intarsia::index {

class TextIndexWriter {
 public:
  explicit TextIndexWriter(TextAnalyzer* analyzer) : analyzer_(analyzer) {}

  // Adds a chunk that consists of `fields`, each well-formed UTF-8. No phrase spans two fields.
  // REQUIRES: ids of added chunks ascend and are below kPostingIdEnd.
  void Add(uint64_t id, std::span<const std::string_view> fields);
  // Removes a chunk that was added with the same fields, in an earlier commit.
  // REQUIRES: id < kPostingIdEnd.
  void Remove(uint64_t id, std::span<const std::string_view> fields);

  // Stages all changes in `out`, given the rows as they are. Ids that are added are above all that
  // were ever in the index. Call it once, last.
  // Errors: kCorruption if a row is damaged, or does not hold what is to be removed: the index has
  // to be built anew, and what was staged must not be written. kIo.
  Status Finish(const RowReader& rows, RowWriter* out);

 private:
  // Where a term stands in one chunk.
  struct Occurrence {
    uint64_t id = 0;
    uint32_t length = 0;  // of the chunk
    std::vector<uint32_t> positions;
  };
  struct TermChange {
    std::vector<Occurrence> added;
    std::vector<uint64_t> removed;
  };
  // In how many more chunks a word stands than before.
  struct WordChange {
    int64_t delta = 0;
    std::string term;
  };
  static Status FinishWord(const std::string& word, const WordChange& change, const RowReader& rows,
                           RowWriter* out);

  // Fills occurrences_ and distinct_words_, and returns the number of terms.
  uint32_t Analyze(std::span<const std::string_view> fields);
  void CountWords(int64_t delta);
  static Status FinishTerm(const std::string& term, const TermChange& change, const RowReader& rows,
                           RowWriter* out);
  Status FinishLengths(const RowReader& rows, RowWriter* out) const;
  Status FinishStats(const RowReader& rows, RowWriter* out) const;

  TextAnalyzer* const analyzer_;
  std::unordered_map<std::string, TermChange> changes_;
  std::unordered_map<std::string, WordChange> words_;
  std::vector<std::pair<uint64_t, uint32_t>> lengths_;  // added ids; 0 for removed ones
  int64_t num_added_ = 0;
  int64_t num_removed_ = 0;
  int64_t terms_added_ = 0;  // less those removed
  uint64_t last_added_ = 0;
  // Of the chunk at work: its terms and their positions, and its words.
  std::unordered_map<std::string, std::vector<uint32_t>> occurrences_;
  std::unordered_map<std::string, std::string> distinct_words_;  // that have rows, and their terms
  std::vector<TextAnalyzer::Word> field_;
};

}  // namespace intarsia::index
