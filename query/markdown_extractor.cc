// Block structure comes from cmark, which reports lines. What it parses is a copy of the source in
// which every byte that matters only inside a line is blotted out: we want no inline structure, its
// parsing has quadratic corners, and offsets stay the same. The copy also bounds the nesting that
// one line can ask for.
#include "query/markdown_extractor.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <cmark.h>

#include "query/document_builder.h"

namespace intarsia::query {
namespace {

// Indent, quote and list marks beyond this many bytes of a line are text.
constexpr size_t kPrefixBytesMax = 64;
constexpr size_t kRuleBytesMax = 200;
constexpr size_t kFrontMatterLinesMax = 500;
constexpr size_t kNone = std::string_view::npos;

bool IsBlank(char byte) { return byte == ' ' || (byte >= '\t' && byte <= '\r'); }
bool IsDigit(char byte) { return byte >= '0' && byte <= '9'; }

std::string_view Trim(std::string_view text) {
  while (!text.empty() && IsBlank(text.front())) text.remove_prefix(1);
  while (!text.empty() && IsBlank(text.back())) text.remove_suffix(1);
  return text;
}

// Where each line of `text` begins, and at the end its size. Lines end as cmark has it: with a line
// feed, a carriage return, or both.
Result<std::vector<int64_t>> FindLines(std::string_view text, int64_t lines_max) {
  std::vector<int64_t> begins = {0};
  for (size_t at = text.find_first_of("\r\n"); at != kNone; at = text.find_first_of("\r\n", at)) {
    at += text[at] == '\r' && at + 1 < text.size() && text[at + 1] == '\n' ? 2 : 1;
    if (static_cast<int64_t>(begins.size()) > lines_max) {
      return Status(
          StatusCode::kInvalidArgument,
          "Markdown has too many lines, split the file: max=" + std::to_string(lines_max));
    }
    begins.push_back(static_cast<int64_t>(at));
  }
  if (begins.back() != static_cast<int64_t>(text.size())) {
    begins.push_back(static_cast<int64_t>(text.size()));
  }
  return begins;
}

// The length of a list mark at the beginning of `line`, without the blank behind it, or 0.
size_t ListMarkBytes(std::string_view line) {
  size_t size = 0;
  if (!line.empty() && (line[0] == '-' || line[0] == '+' || line[0] == '*')) {
    size = 1;
  } else {
    while (size < line.size() && size < 9 && IsDigit(line[size])) ++size;
    if (size == 0 || size >= line.size() || (line[size] != '.' && line[size] != ')')) return 0;
    ++size;
  }
  return size == line.size() || IsBlank(line[size]) ? size : 0;
}

// How many bytes of indent, quote and list marks `line` begins with.
size_t PrefixBytes(std::string_view line) {
  size_t at = 0;
  while (at < line.size() && at < kPrefixBytesMax) {
    if (IsBlank(line[at]) || line[at] == '>') {
      ++at;
    } else if (const size_t mark = ListMarkBytes(line.substr(at)); mark > 0) {
      at += mark;
    } else {
      break;
    }
  }
  return std::min(at, line.size());
}

// Blots out `line`, which is not blank, so that only its block structure is left.
void BlotLine(char* line, size_t size) {
  const std::string_view view(line, size);
  const std::string_view content = Trim(view);
  const char rule[] = {content.front(), ' ', '\t', '\0'};
  const bool is_rule = std::string_view("*-_=").find(content.front()) != kNone &&
                       content.find_first_not_of(rule) == kNone;
  if (is_rule && content.size() <= kRuleBytesMax) return;
  size_t at = PrefixBytes(view);
  if (at >= kPrefixBytesMax) line[at - 1] = 'x';  // Ends the prefix where cmark would go on.
  const std::string_view rest = view.substr(at);
  const size_t run = std::min(rest.find_first_not_of(rest.substr(0, 1)), rest.size());
  if (!rest.empty()) {
    const bool is_indented =
        at > 0 && (view[at - 1] == '\t' || (at >= 4 && view.substr(at - 4, 4) == "    "));
    // Code in backticks on one line is no fence.
    const bool is_fence = rest[0] == '~' || (rest[0] == '`' && rest.find('`', run) == kNone);
    if ((run >= 3 && is_fence) || rest[0] == '#') at += run;
    if (rest[0] == '<' && !is_indented) at += 1;
  }
  char before = at > 0 ? line[at - 1] : ' ';
  for (; at < size; ++at) {
    const char byte = line[at];
    const char after = at + 1 < size ? line[at + 1] : ' ';
    bool is_blotted = std::string_view("`*_[&\\").find(byte) != kNone;
    is_blotted |= byte == '<' && after != '/';                   // `</` may end raw HTML,
    is_blotted |= byte == ']' && before != ']' && after != ']';  // `]]>` too,
    is_blotted |= byte == '!' && before != '<';                  // and `<!` begins some.
    if (is_blotted) line[at] = 'x';
    before = byte;
  }
}

// Whether `line` is the row of dashes below the header of a table.
bool IsTableRule(std::string_view line) {
  line = Trim(line);
  return line.find('|') != kNone && line.find('-') != kNone &&
         line.find_first_not_of("|-: \t") == kNone;
}

// A leaf of the block tree.
struct Leaf {
  BlockKind kind = BlockKind::kOther;
  int32_t level = 0;
  int64_t line = 0;                  // the first, from 0
  const cmark_node* item = nullptr;  // the list item it belongs to
};

BlockKind KindOf(cmark_node_type type) {
  switch (type) {
    case CMARK_NODE_PARAGRAPH:
      return BlockKind::kParagraph;
    case CMARK_NODE_CODE_BLOCK:
      return BlockKind::kCode;
    case CMARK_NODE_HEADING:
      return BlockKind::kHeading;
    default:
      return BlockKind::kOther;
  }
}

bool IsContainer(cmark_node_type type) {
  return type == CMARK_NODE_DOCUMENT || type == CMARK_NODE_BLOCK_QUOTE || type == CMARK_NODE_LIST ||
         type == CMARK_NODE_ITEM;
}

// The leaves below `root` in order. Uses no recursion.
std::vector<Leaf> ListLeaves(cmark_node* root) {
  std::vector<Leaf> leaves;
  std::vector<const cmark_node*> items;
  int64_t line = -1;  // where the outermost container without a leaf so far begins
  for (cmark_node* node = root; node != nullptr;) {
    const cmark_node_type type = cmark_node_get_type(node);
    if (node != root && line < 0) line = cmark_node_get_start_line(node) - 1;
    if (type == CMARK_NODE_ITEM) items.push_back(node);
    cmark_node* child = IsContainer(type) ? cmark_node_first_child(node) : nullptr;
    if (child != nullptr) {
      node = child;
      continue;
    }
    if (node != root) {
      Leaf leaf{KindOf(type), 0, line, items.empty() ? nullptr : items.back()};
      const bool is_top = cmark_node_parent(node) == root;
      if (leaf.kind == BlockKind::kHeading) {
        // One in a list or a quote opens no section.
        leaf.level = is_top ? cmark_node_get_heading_level(node) : 0;
        if (!is_top) leaf.kind = BlockKind::kParagraph;
      }
      const bool is_text = leaf.kind == BlockKind::kParagraph || type == CMARK_NODE_ITEM;
      if (is_text && leaf.item != nullptr) {
        leaf.kind = BlockKind::kListItem;
        leaf.level = static_cast<int32_t>(items.size());
      }
      leaves.push_back(leaf);
      line = -1;
    }
    while (node != nullptr && cmark_node_next(node) == nullptr) {
      if (cmark_node_get_type(node) == CMARK_NODE_ITEM) items.pop_back();
      node = node == root ? nullptr : cmark_node_parent(node);
    }
    if (node == nullptr) break;
    if (cmark_node_get_type(node) == CMARK_NODE_ITEM) items.pop_back();
    node = cmark_node_next(node);
  }
  return leaves;
}

class MarkdownReader {
 public:
  MarkdownReader(std::vector<int64_t> lines, ExtractedText* document)
      : lines_(std::move(lines)), document_(document), builder_(document) {}

  void Read() {
    std::string blotted = document_->text;
    const size_t num_front_lines = FrontMatterLines();
    for (size_t i = 0; i < NumLines(); ++i) {
      const std::string_view content = Trim(Line(i));
      if (content.empty()) continue;
      const auto at = static_cast<size_t>(content.data() - document_->text.data());
      const auto begin = static_cast<size_t>(lines_[i]);
      if (i < num_front_lines) {
        std::fill_n(blotted.begin() + lines_[i], at - begin + content.size(), ' ');
      } else {
        BlotLine(blotted.data() + begin, at - begin + content.size());
      }
    }
    if (num_front_lines > 0) AddFrontMatter(num_front_lines);
    const std::unique_ptr<cmark_node, decltype(&cmark_node_free)> root(
        cmark_parse_document(blotted.data(), blotted.size(), CMARK_OPT_DEFAULT), &cmark_node_free);
    blotted = {};
    AddLeaves(ListLeaves(root.get()));
  }

 private:
  size_t NumLines() const { return lines_.size() - 1; }
  std::string_view Line(size_t line) const {
    return ByteRange{lines_[line], lines_[line + 1]}.Of(document_->text);
  }

  // The lines [begin, end) without blank lines around them; with the indent of the first if it is
  // `code`, else without.
  ByteRange RangeOf(size_t begin, size_t end, BlockKind kind) const {
    while (begin < end && Trim(Line(begin)).empty()) ++begin;
    if (begin == end) return {};
    ByteRange range{lines_[begin], lines_[end]};
    const std::string_view text = document_->text;
    while (IsBlank(text[static_cast<size_t>(range.end - 1)])) --range.end;
    if (kind == BlockKind::kCode) return range;
    while (IsBlank(text[static_cast<size_t>(range.begin)])) ++range.begin;
    return range;
  }

  // How many lines of metadata the document begins with, 0 for none.
  size_t FrontMatterLines() const {
    if (NumLines() < 2 || Trim(Line(0)) != "---" || Line(0).front() != '-') return 0;
    if (Trim(Line(1)).empty()) return 0;  // A rule.
    for (size_t i = 1; i < std::min(NumLines(), kFrontMatterLinesMax); ++i) {
      const std::string_view line = Trim(Line(i));
      if (line == "---" || line == "...") return i + 1;
    }
    return 0;
  }

  void AddFrontMatter(size_t num_lines) {
    builder_.AddBlock(BlockKind::kOther, 0, RangeOf(0, num_lines, BlockKind::kOther));
    for (size_t i = 1; i + 1 < num_lines; ++i) {
      constexpr std::string_view kKey = "title:";
      std::string_view line = Line(i);
      if (line.substr(0, kKey.size()) != kKey) continue;
      line = Trim(line.substr(kKey.size()));
      const bool is_quoted = line.size() >= 2 && (line.front() == '"' || line.front() == '\'') &&
                             line.back() == line.front();
      document_->title = is_quoted ? line.substr(1, line.size() - 2) : line;
    }
  }

  void AddLeaves(const std::vector<Leaf>& leaves) {
    for (size_t i = 0; i < leaves.size(); ++i) {
      const auto begin = static_cast<size_t>(leaves[i].line);
      size_t next = i + 1;
      // Text of one item is one block, and so is what should ever begin on one line.
      while (next < leaves.size() &&
             (leaves[next].line <= leaves[i].line || IsContinuation(leaves[i], leaves[next]))) {
        ++next;
      }
      const size_t end = next < leaves.size() ? static_cast<size_t>(leaves[next].line) : NumLines();
      AddLeaf(leaves[i], begin, end);
      i = next - 1;
    }
  }

  static bool IsContinuation(const Leaf& leaf, const Leaf& next) {
    return leaf.kind == BlockKind::kListItem && next.kind == BlockKind::kListItem &&
           leaf.item == next.item;
  }

  void AddLeaf(const Leaf& leaf, size_t begin, size_t end) {
    if (leaf.kind == BlockKind::kParagraph) {
      AddParagraph(begin, end);
    } else if (const ByteRange range = RangeOf(begin, end, leaf.kind); range.size() == 0) {
      return;
    } else if (leaf.kind == BlockKind::kHeading) {
      builder_.AddHeading(leaf.level, range, HeadingText(range));
    } else {
      builder_.AddBlock(leaf.kind, leaf.level, range);
    }
  }

  // A paragraph may end with a table, which begins one line before its row of dashes.
  void AddParagraph(size_t begin, size_t end) {
    for (size_t i = begin + 1; i < end; ++i) {
      if (!IsTableRule(Line(i)) || Line(i - 1).find('|') == kNone) continue;
      if (i - 1 > begin) AddText(BlockKind::kParagraph, begin, i - 1);
      AddText(BlockKind::kTable, i - 1, end);
      return;
    }
    AddText(BlockKind::kParagraph, begin, end);
  }

  void AddText(BlockKind kind, size_t begin, size_t end) {
    const ByteRange range = RangeOf(begin, end, kind);
    if (range.size() > 0) builder_.AddBlock(kind, 0, range);
  }

  // The heading as it is shown, without its marks and without those of code and strong emphasis.
  std::string HeadingText(ByteRange range) const {
    std::string_view source = range.Of(document_->text);
    if (source.front() == '#') {
      source = source.substr(0, source.find_first_of("\r\n"));
      source.remove_prefix(std::min(source.find_first_not_of('#'), source.size()));
      source = Trim(source);
      const size_t closing = source.find_last_not_of('#');
      if (closing == kNone || IsBlank(source[closing])) {
        source = source.substr(0, closing == kNone ? 0 : closing);
      }
    } else {
      source = source.substr(0, source.find_last_of("\r\n"));  // The line below is the mark.
    }
    source = Trim(source);
    std::string heading;
    for (size_t i = 0; i < source.size(); ++i) {
      if (source.substr(i, 2) == "**") {
        ++i;
      } else if (source[i] == '\n' || source[i] == '\r') {
        if (!heading.empty() && heading.back() != ' ') heading.push_back(' ');
      } else if (source[i] != '`') {
        heading.push_back(source[i]);
      }
    }
    return heading;
  }

  std::vector<int64_t> lines_;  // where lines begin, and the size of the text
  ExtractedText* document_;
  DocumentBuilder builder_;
};

}  // namespace

Status ExtractMarkdown(const ExtractOptions& options, ExtractedText* document) {
  INTARSIA_ASSIGN_OR_RETURN(std::vector<int64_t> lines,
                            FindLines(document->text, options.elements_max));
  MarkdownReader(std::move(lines), document).Read();
  return Status::Ok();
}

}  // namespace intarsia::query
