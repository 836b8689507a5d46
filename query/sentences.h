// SplitSentences: the sentences of a text as byte ranges, for citations and for cutting paragraphs.
//
// A rule-based splitter for prose and for Markdown source. A full stop ends a sentence unless it
// belongs to a number, an abbreviation, an initial or a list number, or is followed by a lower-case
// letter. Closing quotes and brackets stay with their sentence. The full stops of Chinese, Japanese
// and the Indic scripts need no blank behind them. A blank line always ends a sentence, and so does
// the end of a line that is a heading, a table row, or stands before a list item or another block
// mark; other line ends do not, because prose is often wrapped.
//
// Thread safety: may be called concurrently.
#pragma once

#include <string_view>
#include <vector>

#include "query/byte_range.h"

namespace intarsia::query {

// The sentences of `text` in order. They do not overlap, neither begin nor end with a blank (space,
// tab, line feed, carriage return, form feed, vertical tab), and together cover all other bytes.
// Every boundary is one of a code point when `text` is UTF-8; other bytes are kept as they are.
// Linear in the size of the text.
std::vector<ByteRange> SplitSentences(std::string_view text);

}  // namespace intarsia::query
