// Keys of the rows that make up a text index.
//
// A term has one row that is always there, with its count and its newest postings, and a page of
// postings with a row of positions for every 2,048 older ones. A page stands under the last id that
// it had when it was closed, so that a search finds the page of an id by one seek. Words have rows
// of their own where their term does not say how they begin, for the search of a prefix.
//
// Thread safety: all functions may be called concurrently.
// Format: docs/formats/postings.md
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "index/posting_codec.h"

namespace intarsia::index {

inline std::string BigEndian(uint64_t number) {
  std::string bytes;
  for (int shift = 56; shift >= 0; shift -= 8) bytes.push_back(static_cast<char>(number >> shift));
  return bytes;
}

// A term has no zero byte, so the rows of a term stand together and no term's among another's.
inline std::string TermPrefix(std::string_view term) {
  return "t" + std::string(term) + std::string(1, '\0');
}
inline std::string PageKey(std::string_view term, uint64_t last_id) {
  return TermPrefix(term) + BigEndian(last_id);
}
// Behind all pages of the term.
inline std::string TermKey(std::string_view term) { return PageKey(term, ~uint64_t{0}); }
inline std::string PositionsKey(std::string_view term, uint64_t last_id) {
  return "o" + std::string(term) + std::string(1, '\0') + BigEndian(last_id);
}
// The row of a word that is longer than its term, or another.
inline std::string WordKey(std::string_view word) { return "v" + std::string(word); }
inline std::string LengthsKey(uint64_t id) {
  return "l" + BigEndian(id / static_cast<uint64_t>(kLengthsPerRow));
}
inline std::string TextStatsKey() { return "m"; }

}  // namespace intarsia::index
