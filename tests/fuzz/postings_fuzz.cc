// Rows of a text index with any bytes: a search over them and a change of them either succeed or
// return an error. Any text is a query.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/check.h"
#include "base/memory_rows.h"
#include "index/text_index_writer.h"
#include "index/text_rows.h"
#include "index/text_search.h"
#include "tests/fuzz/fuzz_driver.h"

namespace intarsia::fuzz {
namespace {

using index::TextAnalyzer;
using index::TextQuery;

constexpr std::string_view kQuery = "the harbour -glass \"old harbour\" ha* +iron";

TextAnalyzer* Analyzer() {
  static const std::unique_ptr<TextAnalyzer> analyzer = *TextAnalyzer::Create("english");
  return analyzer.get();
}

// The text of chunk `id`.
std::string TextOf(uint64_t id) {
  return "the old harbour of iron " + std::string(id % 3 == 0 ? "and the glass" : "the") + " w" +
         std::to_string(id % 40);
}

// An index with closed pages, of which a fuzzed input replaces a row.
const MemoryRows& WholeIndex() {
  static const MemoryRows whole = [] {
    MemoryRows rows;
    index::TextIndexWriter writer(Analyzer());
    for (uint64_t id = 1; id <= 2'200; ++id) {
      const std::string text = TextOf(id);
      const std::string_view fields[] = {text};
      writer.Add(id, fields);
    }
    INTARSIA_CHECK(writer.Finish(rows, &rows).ok());
    return rows;
  }();
  return whole;
}

void SearchBoth(const RowReader& rows, const TextQuery& query) {
  for (const auto scan : {index::TextScan::kBlockMax, index::TextScan::kExhaustive}) {
    const auto found = index::SearchText(rows, {.query = &query, .k = 5, .scan = scan});
    if (!found.ok()) continue;
    INTARSIA_CHECK(found->hits.size() <= 5);
    INTARSIA_CHECK(std::is_sorted(found->hits.begin(), found->hits.end(), index::IsBetter));
  }
}

void ChangeRows(const MemoryRows& rows) {
  index::TextIndexWriter writer(Analyzer());
  for (const uint64_t id : {3, 2'199}) {
    const std::string text = TextOf(id);
    const std::string_view fields[] = {text};
    writer.Remove(id, fields);
  }
  const std::string_view fields[] = {"a new harbour"};
  writer.Add(5'000, fields);
  MemoryRows out;
  (void)writer.Finish(rows, &out).ok();  // Any outcome will do, but an end.
}

}  // namespace

// The first byte says which row the others replace.
Corpus Seeds() {
  Corpus corpus;
  char row = 0;
  for (const std::string& key :
       {index::TermKey("harbour"), index::PageKey("harbour", 2'048),
        index::PositionsKey("harbour", 2'048), index::LengthsKey(1), index::TextStatsKey()}) {
    corpus.inputs.push_back(std::string(1, row++) + *WholeIndex().Get(key));
  }
  corpus.inputs.push_back(std::string(1, row) + std::string(kQuery));
  corpus.words = {"\"", "+", "-", "*", " \"a b\" ", "\xff", "\x80", "+\"", "日本"};
  return corpus;
}

}  // namespace intarsia::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace intarsia;  // NOLINT(google-build-using-namespace): one function.
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::string keys[] = {index::TermKey("harbour"), index::PageKey("harbour", 2'048),
                              index::PositionsKey("harbour", 2'048), index::LengthsKey(1),
                              index::TextStatsKey()};
  if (const size_t row = data[0] % 6; row < 5) {
    static MemoryRows rows = fuzz::WholeIndex();
    rows.Put(keys[row], bytes);
    static const index::TextQuery query =
        index::ParseTextQuery(fuzz::kQuery, index::TextSyntax::kOperators, fuzz::Analyzer());
    fuzz::SearchBoth(rows, query);
    fuzz::ChangeRows(rows);
    rows.Put(keys[row], *fuzz::WholeIndex().Get(keys[row]));
    return 0;
  }
  for (const auto syntax : {index::TextSyntax::kWords, index::TextSyntax::kOperators}) {
    const index::TextQuery query = index::ParseTextQuery(bytes, syntax, fuzz::Analyzer());
    INTARSIA_CHECK(std::ssize(query.clauses) <= index::kTextClausesMax);
    for (const index::TextClause& clause : query.clauses) {
      INTARSIA_CHECK(!clause.terms.empty());
      for (const std::string& term : clause.terms) {
        INTARSIA_CHECK(!term.empty() && std::ssize(term) <= index::kTermBytesMax &&
                       term.find('\0') == std::string::npos);
      }
    }
    fuzz::SearchBoth(fuzz::WholeIndex(), query);
  }
  return 0;
}
