// Any bytes given to text extraction as each format: an error, or blocks, sentences and chunks that
// lie inside the text and cover all of it.
#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "base/utf8.h"
#include "query/chunker.h"
#include "query/sentences.h"
#include "query/text_extractor.h"
#include "tests/fuzz/fuzz_driver.h"
#include "tests/query/random_documents.h"
#include "tests/query/word_counter.h"

namespace {

using intarsia::query::ByteRange;

// Ranges in order, without overlap, with nothing but blanks between them.
void CheckCover(std::string_view text, const std::vector<ByteRange>& ranges) {
  int64_t at = 0;
  const auto skip_to = [&](int64_t end) {
    INTARSIA_CHECK(at <= end);
    const std::string_view gap = ByteRange{at, end}.Of(text);
    INTARSIA_CHECK(std::all_of(gap.begin(), gap.end(), intarsia::query::IsBlankByte));
  };
  for (const ByteRange& range : ranges) {
    skip_to(range.begin);
    INTARSIA_CHECK(range.begin < range.end);
    INTARSIA_CHECK(intarsia::FindInvalidUtf8(range.Of(text)) < 0);
    at = range.end;
  }
  skip_to(static_cast<int64_t>(text.size()));
}

void CheckDocument(const intarsia::query::ExtractedText& document) {
  std::vector<ByteRange> ranges;
  for (const auto& block : document.blocks) ranges.push_back(block.range);
  CheckCover(document.text, ranges);
  CheckCover(document.text, intarsia::query::SplitSentences(document.text));
  for (const auto kind :
       {intarsia::query::ChunkerKind::kStructure, intarsia::query::ChunkerKind::kFixed}) {
    intarsia::query::ChunkerOptions options;
    options.kind = kind;
    options.chunk_tokens = 24;
    const auto chunks = ChunkText(document, options, intarsia::query::CountWords);
    INTARSIA_CHECK(chunks.ok());
    ranges.clear();
    for (const auto& chunk : *chunks) {
      INTARSIA_CHECK(chunk.num_tokens <= options.chunk_tokens);
      ranges.push_back(chunk.range);
    }
    CheckCover(document.text, ranges);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  for (const std::string_view hint : {"a.txt", "a.md", "a.html", ""}) {
    const auto document = intarsia::query::ExtractText(bytes, hint, {});
    if (document.ok()) CheckDocument(*document);
  }
  return 0;
}

intarsia::fuzz::Corpus intarsia::fuzz::Seeds() {
  Corpus corpus;
  query::RandomDocuments documents(11);
  for (int i = 0; i < 20; ++i) {
    corpus.inputs.push_back(documents.Markdown());
    corpus.inputs.push_back(documents.Html());
  }
  corpus.inputs.emplace_back("\xFF\xFEt\0e\0x\0t\0", 10);
  corpus.words = {"\n",           "\r",           "\r\n",           "    ",  "- ",
                  "> ",           "```\n",        "---\n",          "# ",    "|a|b|",
                  "|-|-|",        "<pre>",        "<table>",        "<td>",  "</",
                  "<!--",         "-->",          "<li>",           "<h2>",  "<title>",
                  "&#x0;",        "&amp",         "charset=latin1", "<svg>", "\xC2\xA0",
                  "\xE3\x80\x82", "\xEF\xBB\xBF", "\x0C",           "\x0B"};
  return corpus;
}
