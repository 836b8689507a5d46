// ExtractText: a file's bytes as the text that is stored, with its structure as byte ranges.
//
// The text of a plain or Markdown file is its source, byte for byte, after its encoding was turned
// into UTF-8; only a byte order mark is dropped. The text of an HTML file is rendered from it:
// blocks separated by an empty line, list items as `- ...` or `1. ...`, table rows as
// `a | b`, no scripts, styles or navigation, of which tables of contents are a part. Chunks and
// citations are byte ranges of this text.
//
// Files are untrusted: work is linear in the size of the file, whatever it holds, and nesting that
// is too deep is flattened, which a notice says.
//
// Thread safety: may be called concurrently.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "query/byte_range.h"

namespace intarsia::query {

enum class MediaType : uint8_t { kPlainText = 0, kMarkdown = 1, kHtml = 2 };

// The canonical name, for example "text/markdown".
std::string_view MediaTypeName(MediaType type);

enum class BlockKind : uint8_t {
  kHeading = 0,
  kParagraph = 1,
  kListItem = 2,  // with its own paragraphs; the items of a nested list follow as blocks
  kCode = 3,      // a code block with its fences
  kTable = 4,     // all rows of a table, with its caption in HTML
  kOther = 5,     // raw HTML, a rule, link definitions, front matter
};

// The enumerator in words, for example "list item".
std::string_view BlockKindName(BlockKind kind);

struct Block {
  BlockKind kind = BlockKind::kParagraph;
  int32_t level = 0;    // of a heading as below, of a list item its depth from 1; else 0
  int32_t section = 0;  // index into ExtractedText::sections
  ByteRange range;      // neither begins nor ends with a blank, except the indent of a code block
};

// What lies below a heading, up to the next heading of the same or a higher level. The term of an
// HTML definition list is a heading too: what it defines lies below it.
struct Section {
  int32_t parent = -1;  // index of the enclosing section, smaller than the own one; -1: the root
  int32_t level = 0;    // of the heading: 1 to 6, of a term from 7 by depth; 0 for the root
  std::string heading;  // as shown: no heading marks, one line
};

struct ExtractedText {
  MediaType media_type = MediaType::kPlainText;
  std::string text;               // well-formed UTF-8
  std::string title;              // empty if the file names none
  std::vector<Section> sections;  // [0] is the root: the whole document
  // In the order of the text, without overlap. Only blanks lie between them.
  std::vector<Block> blocks;
  std::vector<std::string> notices;  // what was repaired or flattened, in words

  // The headings above `section`, outermost first, joined by " > "; empty for the root.
  std::string HeadingPath(int32_t section) const;
};

struct ExtractOptions {
  int64_t num_bytes_max = int64_t{64} << 20;
  // Bounds the memory for structure, at about 300 bytes each: paragraphs of plain text, lines of
  // Markdown, elements of HTML.
  int64_t elements_max = 2'000'000;
  // Deeper elements of HTML are flattened into their ancestor. In [1, 1000].
  int32_t html_depth_max = 200;
};

// The media type for `hint`, a media type with or without parameters (`text/html; charset=utf-8`)
// or a file name or path (by its extension). An extension that is not known is plain text.
// Errors: kUnsupported for a media type other than the three, or an extension that is known to hold
// no text (.pdf, .docx, .png, ...).
Result<MediaType> MediaTypeOf(std::string_view hint);

// Extracts the text of a file. `hint` as in MediaTypeOf(); an empty one means to look at the bytes.
// Errors: kInvalidArgument if the file is empty, has no text, is larger than
// `options.num_bytes_max`, is binary (NUL bytes) or has too many elements; kUnsupported if the
// format or the declared character set is.
Result<ExtractedText> ExtractText(std::string_view bytes, std::string_view hint,
                                  const ExtractOptions& options);

}  // namespace intarsia::query
