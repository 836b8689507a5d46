// Chunker: cuts an extracted text into the byte ranges that are embedded, cached and cited.
//
// A pure function of text, options and token counter; equal input gives equal chunks, and
// ChunkerSignature() names all that the result depends on besides the text, so that a change of
// options re-chunks only what it changes.
//
// `structure` follows the blocks of the document:
//   1. A heading is never parted from the text below it, nor a lead-in ("...:") or a caption of a
//      table from the block after it, while both fit into a chunk.
//   2. Code, tables and list items are kept whole unless they are larger than a chunk; then they
//      are cut at line ends. Paragraphs that are larger are cut between sentences, sentences that
//      are larger at blanks, and words that are larger between code points.
//   3. Neighbours in one section are packed up to the budget. Sections smaller than `min_tokens`
//      are merged with neighbours below the same heading; larger ones begin a chunk.
// `fixed` fills each chunk with words up to the budget, blind to structure.
//
// Both cover every byte that is not blank exactly once, apart from the overlap that was asked for.
//
// Thread safety: may be called concurrently if the token counter may.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "query/text_extractor.h"

namespace intarsia::query {

enum class ChunkerKind : uint8_t { kStructure = 0, kFixed = 1 };

struct ChunkerOptions {
  ChunkerKind kind = ChunkerKind::kStructure;
  int64_t chunk_tokens = 384;  // at most this many tokens a chunk; in [16, 65536]
  int64_t overlap_tokens = 0;  // repeated from the end of the chunk before; <= chunk_tokens / 2
  // `structure` only: smaller sections are merged. At most chunk_tokens; -1: a quarter of them.
  int64_t min_tokens = -1;
};

// The number of tokens of a text alone. Should be linear in its length; it is never called with
// more than 8 KiB.
using TokenCounter = std::function<int64_t(std::string_view text)>;

struct ChunkSpan {
  ByteRange range;  // in ExtractedText::text; without blanks around it, but with the indent of code
  std::string heading_path;  // of the section that holds all of the chunk: "Manual > Set-up"
  // By the counter, of the whole chunk; the sum over 8 KiB pieces if it is longer than that.
  int64_t num_tokens = 0;
};

// "structure", "fixed".
std::string_view ChunkerKindName(ChunkerKind kind);

// Errors: kInvalidArgument with the option and its range.
Status ValidateChunkerOptions(const ChunkerOptions& options);

// Name, version and options in one line: "structure/1 chunk_tokens=384 overlap_tokens=0 ...".
std::string ChunkerSignature(const ChunkerOptions& options);

// The chunks in the order of the text. No chunk is larger than `chunk_tokens` by the counter,
// except a single code point that alone is. Linear in the size of the text: each byte is counted a
// bounded number of times.
// Errors: those of ValidateChunkerOptions().
Result<std::vector<ChunkSpan>> ChunkText(const ExtractedText& document,
                                         const ChunkerOptions& options,
                                         const TokenCounter& count_tokens);

}  // namespace intarsia::query
