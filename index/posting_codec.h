// Posting codec: the bytes of postings: packed integers, blocks of up to 128 postings, pages.
//
// A posting says that a term stands in a chunk, how often and where. Postings are sorted by chunk
// and cut into blocks; a page is up to 16 blocks behind a directory that says for each what it
// spans and the most that one of its postings can score, so that a search skips blocks without
// decoding them. Positions lie apart from the rest, because only phrases read them.
//
// Integers of a block are packed with the number of bits that its largest needs. StreamVByte, which
// is faster to decode, spends at least ten bits on a number; those of common words need two.
//
// Decoding takes any bytes: every count, width and sum is checked. Errors: kCorruption.
//
// Thread safety: all functions may be called concurrently.
// Format: docs/formats/postings.md
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"

namespace intarsia::index {

inline constexpr int64_t kPostingsPerBlock = 128;
inline constexpr int64_t kBlocksPerPage = 16;
// Ids of chunks lie below, so that differences of them fit a packed integer.
inline constexpr uint64_t kPostingIdEnd = uint64_t{1} << 56;

// LEB128: seven bits a byte, the lowest first.
void WriteVarint(uint64_t value, ByteWriter* writer);
// 0 and a failed reader if the bytes end, or have more than 64 bits.
uint64_t ReadVarint(ByteReader* reader);

// A byte with the width, then the values, each of that many bits, the lowest first.
// REQUIRES: all values < kPostingIdEnd.
void WritePacked(std::span<const uint64_t> values, ByteWriter* writer);
// Fills `values`; kCorruption if the width is above 56 or the bytes end.
Status ReadPacked(ByteReader* reader, std::span<uint64_t> values);

// The most that the postings of a set can score under any parameters of BM25: none has a higher
// frequency, and none a lower ratio of its chunk's length to its frequency.
struct ScoreBound {
  uint32_t max_frequency = 0;
  uint32_t length = 0;  // length / frequency is the lowest ratio
  uint32_t frequency = 0;

  // Takes in a posting, or the bound of others.
  void Include(uint32_t posting_frequency, uint32_t chunk_length);
  void Include(const ScoreBound& other);
  bool operator==(const ScoreBound&) const = default;
};

// A block as its page's directory has it.
struct PostingBlock {
  uint64_t first_id = 0;
  uint64_t last_id = 0;
  int64_t count = 0;  // in [1, kPostingsPerBlock]
  ScoreBound bound;
  std::string_view postings;   // packed ids and frequencies
  int64_t position_bytes = 0;  // of this block, in the bytes of positions
};

// A page without its positions. The views point into the bytes that it was parsed from.
struct PostingPage {
  std::vector<PostingBlock> blocks;  // by ascending ids

  int64_t position_bytes() const;
};

std::string EncodePage(const PostingPage& page);
// Reads a page and leaves the reader behind it.
Result<PostingPage> ParsePage(ByteReader* reader);

// [count] each.
std::string EncodePostings(std::span<const uint64_t> ids, std::span<const uint32_t> frequencies);
Status DecodePostings(const PostingBlock& block, std::span<uint64_t> ids,
                      std::span<uint32_t> frequencies);

// Positions of postings one after another: frequencies[i] ascending ones for posting i.
std::string EncodePositions(std::span<const uint32_t> frequencies,
                            std::span<const uint32_t> positions);
Result<std::vector<uint32_t>> DecodePositions(std::string_view bytes,
                                              std::span<const uint32_t> frequencies);

// The row of a term: how often it stands, and its newest page, whose positions are with it.
struct TermRow {
  int64_t num_postings = 0;  // in all pages of the term
  ScoreBound bound;          // of all of them
  PostingPage page;          // may be empty
  std::string_view positions;
};
std::string EncodeTermRow(const TermRow& row);
// The views point into `body`.
Result<TermRow> DecodeTermRow(std::string_view body);

// A word, and in how many chunks it stands.
struct WordRow {
  int64_t num_chunks = 0;
  std::string term;
  bool operator==(const WordRow&) const = default;
};
std::string EncodeWordRow(const WordRow& row);
Result<WordRow> DecodeWordRow(std::string_view body);

// The lengths of chunks, in terms; 0: no such chunk.
inline constexpr int64_t kLengthsPerRow = 4096;
std::string EncodeLengths(std::span<const uint32_t> lengths);
Result<std::vector<uint32_t>> DecodeLengths(std::string_view body);

// What an index holds, and how it was made.
struct TextStats {
  int64_t num_chunks = 0;
  int64_t num_terms = 0;  // the sum of their lengths
  std::string signature;  // TextAnalyzer::Signature()
  bool operator==(const TextStats&) const = default;
};
std::string EncodeTextStats(const TextStats& stats);
// kUnsupported if a newer program wrote it.
Result<TextStats> DecodeTextStats(std::string_view body);

}  // namespace intarsia::index
