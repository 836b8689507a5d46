#include "query/html_extractor.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gumbo.h>

#include "query/document_builder.h"
#include "query/html_filter.h"

namespace intarsia::query {
namespace {

constexpr std::string_view kNoBreakSpace = "\xC2\xA0";
constexpr std::string_view kCellSeparator = " | ";

// Terms of definition lists are headings below those of HTML, down to this many nested lists.
constexpr int32_t kHeadingLevels = 6;
constexpr int32_t kTermDepthMax = 4;
// Longer ones, of all the terms that one text defines, are paragraphs.
constexpr size_t kTermsBytesMax = 200;

bool IsBlank(char byte) { return byte == ' ' || (byte >= '\t' && byte <= '\r'); }

void TrimEnd(std::string* text) {
  while (!text->empty() && IsBlank(text->back())) text->pop_back();
}

int32_t HeadingLevel(GumboTag tag) {
  if (tag < GUMBO_TAG_H1 || tag > GUMBO_TAG_H6) return 0;
  return static_cast<int32_t>(tag) - static_cast<int32_t>(GUMBO_TAG_H1) + 1;
}

bool IsList(GumboTag tag) {
  return tag == GUMBO_TAG_UL || tag == GUMBO_TAG_OL || tag == GUMBO_TAG_MENU;
}

const GumboVector* ChildrenOf(const GumboNode* node) {
  if (node->type == GUMBO_NODE_DOCUMENT) return &node->v.document.children;
  if (node->type == GUMBO_NODE_ELEMENT || node->type == GUMBO_NODE_TEMPLATE) {
    return &node->v.element.children;
  }
  return nullptr;
}

// Calls enter(node) in document order, which says whether to go into the children, and leave(node)
// behind the children of those entered. Uses no recursion.
template <typename Enter, typename Leave>
void Walk(const GumboNode* root, const Enter& enter, const Leave& leave) {
  struct Frame {
    const GumboNode* node;
    unsigned next_child;
  };
  if (!enter(root)) return;
  std::vector<Frame> frames = {{root, 0}};
  while (!frames.empty()) {
    Frame& frame = frames.back();
    const GumboVector* children = ChildrenOf(frame.node);
    if (children == nullptr || frame.next_child >= children->length) {
      leave(frame.node);
      frames.pop_back();
      continue;
    }
    const auto* child = static_cast<const GumboNode*>(children->data[frame.next_child++]);
    if (enter(child)) frames.push_back({child, 0});
  }
}

// Whether a table is there for its layout: it holds other tables, headings, lists or code. The
// search stops at the first of these, so nested tables do not add up.
bool IsLayoutTable(const GumboNode* table) {
  bool is_layout = false;
  Walk(
      table,
      [&](const GumboNode* node) {
        if (node->type != GUMBO_NODE_ELEMENT) return !is_layout;
        const GumboTag tag = node->v.element.tag;
        const bool is_structure =
            tag == GUMBO_TAG_TABLE || tag == GUMBO_TAG_PRE || HeadingLevel(tag) > 0 || IsList(tag);
        is_layout |= node != table && is_structure;
        return !is_layout;
      },
      [](const GumboNode*) {});
  return is_layout;
}

// Renders a parse tree. Text gathers in `pending_` until the block it belongs to ends.
class HtmlRenderer {
 public:
  explicit HtmlRenderer(ExtractedText* document) : document_(document), builder_(document) {}

  void Render(const GumboNode* root) {
    Walk(
        root, [this](const GumboNode* node) { return Enter(node); },
        [this](const GumboNode* node) { Leave(node); });
    Flush();
    FlushTerms(AreDefined::kNo);
  }

 private:
  struct List {
    bool is_ordered = false;
    int64_t num_items = 0;
  };
  struct Item {
    std::string mark;          // "- ", "12. "; empty once it is written
    int64_t block_index = -1;  // of the block that further text of the item may join
  };
  enum class AreDefined : uint8_t { kNo, kYes };

  bool Enter(const GumboNode* node) {
    switch (node->type) {
      case GUMBO_NODE_TEXT:
      case GUMBO_NODE_WHITESPACE:
      case GUMBO_NODE_CDATA:
        AppendText(node->v.text.text);
        return false;
      case GUMBO_NODE_DOCUMENT:
        return true;
      case GUMBO_NODE_ELEMENT:
        return EnterElement(node);
      default:
        return false;
    }
  }

  bool EnterElement(const GumboNode* node) {
    const GumboTag tag = node->v.element.tag;
    if (tag == GUMBO_TAG_NAV) return false;
    if (tag == GUMBO_TAG_TITLE) {
      ReadTitle(node);
      return false;
    }
    if (tag == GUMBO_TAG_BR) {
      TrimPending();
      pending_.push_back(table_ != nullptr ? ' ' : '\n');
      return false;
    }
    if (table_ != nullptr) {
      EnterInTable(tag);
      return true;
    }
    Flush();
    EnterHeading(node);
    if (tag == GUMBO_TAG_TABLE && !IsLayoutTable(node)) {
      table_ = node;
    } else if (tag == GUMBO_TAG_PRE) {
      ++code_depth_;
    } else if (IsList(tag)) {
      lists_.push_back({tag == GUMBO_TAG_OL, 0});
    } else if (tag == GUMBO_TAG_LI) {
      items_.push_back({NextMark(), -1});
    } else if (tag == GUMBO_TAG_ASIDE) {
      ++aside_depth_;
    }
    return true;
  }

  // A heading of an aside is not one of the text around it, and so an ordinary paragraph.
  void EnterHeading(const GumboNode* node) {
    if (heading_ != nullptr || code_depth_ > 0) return;
    const GumboTag tag = node->v.element.tag;
    if (tag == GUMBO_TAG_DL) {
      FlushTerms(AreDefined::kNo);
      ++definition_depth_;
    } else if (tag == GUMBO_TAG_DD) {
      FlushTerms(AreDefined::kYes);
    } else if (aside_depth_ == 0) {
      const bool is_term = tag == GUMBO_TAG_DT && definition_depth_ <= kTermDepthMax;
      if (HeadingLevel(tag) > 0 || is_term) heading_ = node;
    }
  }

  // Rows are lines, cells are parted by `|`; everything else inside is text.
  void EnterInTable(GumboTag tag) {
    if (tag == GUMBO_TAG_TR || tag == GUMBO_TAG_CAPTION) {
      EndLine();
      is_row_begin_ = true;
    } else if (tag == GUMBO_TAG_TD || tag == GUMBO_TAG_TH) {
      TrimPending();
      if (!is_row_begin_) pending_.append(kCellSeparator);
      is_row_begin_ = false;
    } else if (!pending_.empty() && !IsBlank(pending_.back())) {
      pending_.push_back(' ');
    }
  }

  void Leave(const GumboNode* node) {
    if (node->type != GUMBO_NODE_ELEMENT) return;
    const GumboTag tag = node->v.element.tag;
    if (table_ != nullptr) {
      if (tag == GUMBO_TAG_CAPTION) EndLine();
      if (node != table_) return;
      FlushAs(BlockKind::kTable);
      table_ = nullptr;
    } else if (node == heading_) {
      heading_ = nullptr;
      if (tag == GUMBO_TAG_DT) {
        terms_.push_back(TakeHeading());
      } else {
        FlushHeading(HeadingLevel(tag), TakeHeading());
      }
    } else if (tag == GUMBO_TAG_PRE) {
      if (code_depth_ == 1) FlushAs(BlockKind::kCode);
      --code_depth_;
    } else {
      Flush();
      if (IsList(tag)) lists_.pop_back();
      if (tag == GUMBO_TAG_LI) items_.pop_back();
      if (tag == GUMBO_TAG_ASIDE) --aside_depth_;
      if (tag == GUMBO_TAG_DL && heading_ == nullptr && code_depth_ == 0) LeaveDefinitions();
    }
  }

  void LeaveDefinitions() {
    FlushTerms(AreDefined::kNo);
    builder_.EndSections(TermLevel());
    --definition_depth_;
  }

  void ReadTitle(const GumboNode* node) {
    if (!document_->title.empty()) return;
    const GumboVector& children = node->v.element.children;
    for (unsigned i = 0; i < children.length; ++i) {
      const auto* child = static_cast<const GumboNode*>(children.data[i]);
      if (child->type == GUMBO_NODE_TEXT) {
        AppendCollapsed(child->v.text.text, &document_->title);
      }
    }
    TrimEnd(&document_->title);
  }

  std::string NextMark() {
    if (lists_.empty() || !lists_.back().is_ordered) return "- ";
    return std::to_string(++lists_.back().num_items) + ". ";
  }

  void AppendText(std::string_view text) {
    if (code_depth_ > 0) {
      pending_.append(text);
    } else {
      AppendCollapsed(text, &pending_);
    }
  }

  // Runs of blanks and no-break spaces become one blank, none at the beginning of a line.
  static void AppendCollapsed(std::string_view text, std::string* target) {
    for (size_t i = 0; i < text.size(); ++i) {
      const bool is_no_break = text.substr(i, kNoBreakSpace.size()) == kNoBreakSpace;
      if (is_no_break) i += kNoBreakSpace.size() - 1;
      if (!is_no_break && !IsBlank(text[i])) {
        target->push_back(text[i]);
      } else if (!target->empty() && target->back() != ' ' && target->back() != '\n') {
        target->push_back(' ');
      }
    }
  }

  void TrimPending() {
    while (!pending_.empty() && pending_.back() == ' ') pending_.pop_back();
  }

  void EndLine() {
    TrimPending();
    if (!pending_.empty() && pending_.back() != '\n') pending_.push_back('\n');
  }

  void Flush() {
    if (code_depth_ > 0) return;  // Blocks inside of code are code, and inside of a heading
    if (heading_ != nullptr) {    // they are words of it.
      AppendCollapsed(" ", &pending_);
      return;
    }
    FlushAs(items_.empty() ? BlockKind::kParagraph : BlockKind::kListItem);
  }

  std::string TakeHeading() {
    std::replace(pending_.begin(), pending_.end(), '\n', ' ');
    return TakePending();
  }

  void FlushHeading(int32_t level, const std::string& heading) {
    if (heading.empty()) return;
    FlushTerms(AreDefined::kNo);
    builder_.AddHeading(level, Append("\n\n", heading), heading);
  }

  int32_t TermLevel() const { return kHeadingLevels + std::max(1, definition_depth_); }

  // Writes the terms that wait: as one heading if a definition follows them.
  void FlushTerms(AreDefined are_defined) {
    const std::vector<std::string> terms = std::exchange(terms_, {});
    std::string heading;
    for (const std::string& term : terms) {
      if (!term.empty()) heading += (heading.empty() ? "" : ", ") + term;
    }
    if (are_defined == AreDefined::kYes && heading.size() <= kTermsBytesMax) {
      FlushHeading(TermLevel(), heading);
    } else {
      for (const std::string& term : terms) {
        if (!term.empty()) builder_.AddBlock(BlockKind::kParagraph, 0, Append("\n\n", term));
      }
    }
  }

  void FlushAs(BlockKind kind) {
    const std::string text = kind == BlockKind::kCode ? TakeCode() : TakePending();
    if (text.empty()) return;
    FlushTerms(AreDefined::kNo);
    if (kind == BlockKind::kListItem) {
      FlushItem(text);
      return;
    }
    builder_.AddBlock(kind, 0, Append("\n\n", text));
  }

  // The text of a list item goes behind its mark; further paragraphs of it below that.
  void FlushItem(const std::string& text) {
    Item& item = items_.back();
    std::vector<Block>& blocks = document_->blocks;
    const auto level = static_cast<int32_t>(items_.size());
    const std::string indent(2 * (items_.size() - 1), ' ');
    if (item.block_index >= 0 && item.block_index + 1 == static_cast<int64_t>(blocks.size())) {
      blocks.back().range.end = Append("\n" + indent + "  ", text).end;
      return;
    }
    const bool follows_item = !blocks.empty() && blocks.back().kind == BlockKind::kListItem;
    const std::string separator = (follows_item ? "\n" : "\n\n") + indent;
    item.block_index = static_cast<int64_t>(blocks.size());
    builder_.AddBlock(BlockKind::kListItem, level,
                      Append(separator, std::exchange(item.mark, {}) + text));
  }

  std::string TakePending() {
    const size_t begin = std::min(pending_.find_first_not_of(" \n"), pending_.size());
    std::string text = pending_.substr(begin);
    pending_.clear();
    TrimEnd(&text);
    return text;
  }

  // Keeps the indent of the first line.
  std::string TakeCode() {
    std::string text = std::exchange(pending_, {});
    TrimEnd(&text);
    size_t begin = 0;
    for (size_t i = 0; i < text.size() && IsBlank(text[i]); ++i) {
      if (text[i] == '\n') begin = i + 1;
    }
    return text.substr(begin);
  }

  // Writes `text` behind `separator`, which is left out at the beginning of the document.
  ByteRange Append(std::string_view separator, std::string_view text) {
    std::string& target = document_->text;
    if (!target.empty()) target.append(separator);
    const auto begin = static_cast<int64_t>(target.size());
    target.append(text);
    return {begin, static_cast<int64_t>(target.size())};
  }

  ExtractedText* document_;
  DocumentBuilder builder_;
  std::string pending_;
  std::vector<List> lists_;
  std::vector<Item> items_;
  const GumboNode* table_ = nullptr;    // the table that is being read as rows
  const GumboNode* heading_ = nullptr;  // the heading or term that is being read
  std::vector<std::string> terms_;      // that wait for what they mean
  int32_t definition_depth_ = 0;
  int32_t aside_depth_ = 0;
  bool is_row_begin_ = false;
  int32_t code_depth_ = 0;
};

}  // namespace

Status ExtractHtml(std::string_view html, const ExtractOptions& options, ExtractedText* document) {
  HtmlFilterOptions filter_options;
  filter_options.depth_max = options.html_depth_max;
  filter_options.elements_max = options.elements_max;
  INTARSIA_ASSIGN_OR_RETURN(const FilteredHtml filtered, FilterHtml(html, filter_options));
  if (filtered.num_flattened > 0) {
    document->notices.push_back("HTML elements nested too deep were flattened: count=" +
                                std::to_string(filtered.num_flattened));
  }
  GumboOptions gumbo_options = kGumboDefaultOptions;
  gumbo_options.max_errors = 0;
  const auto destroy = [&](GumboOutput* output) { gumbo_destroy_output(&gumbo_options, output); };
  const std::unique_ptr<GumboOutput, decltype(destroy)> output(
      gumbo_parse_with_options(&gumbo_options, filtered.html.data(), filtered.html.size()),
      destroy);
  HtmlRenderer(document).Render(output->document);
  return Status::Ok();
}

}  // namespace intarsia::query
