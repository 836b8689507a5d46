#include "query/html_filter.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

namespace intarsia::query {
namespace {

enum class TagRole : uint8_t {
  kUnknown,  // the tag is dropped, its content is not
  kBlock,    // kept, and closed in order
  kBreak,    // kept, has no content
  kSkip,     // dropped with its content
  kTitle,    // kept once, with its content as it is
};

// What an end tag of this element may not reach across, and what begins by closing it.
enum class TagGroup : uint8_t { kPlain, kParagraph, kItem, kTerm, kList, kRow, kCell, kTable };

struct TagInfo {
  std::string_view name;
  TagRole role = TagRole::kUnknown;
  TagGroup group = TagGroup::kPlain;
};

using R = TagRole;
using G = TagGroup;
constexpr auto kTags = std::to_array<TagInfo>({
    // Sorted by name.
    {"address", R::kBlock, G::kPlain},    {"article", R::kBlock, G::kPlain},
    {"aside", R::kBlock, G::kPlain},      {"audio", R::kSkip, G::kPlain},
    {"blockquote", R::kBlock, G::kPlain}, {"br", R::kBreak, G::kPlain},
    {"canvas", R::kSkip, G::kPlain},      {"caption", R::kBlock, G::kCell},
    {"center", R::kBlock, G::kPlain},     {"dd", R::kBlock, G::kTerm},
    {"details", R::kBlock, G::kPlain},    {"dialog", R::kBlock, G::kPlain},
    {"div", R::kBlock, G::kPlain},        {"dl", R::kBlock, G::kList},
    {"dt", R::kBlock, G::kTerm},          {"fieldset", R::kBlock, G::kPlain},
    {"figcaption", R::kBlock, G::kPlain}, {"figure", R::kBlock, G::kPlain},
    {"footer", R::kBlock, G::kPlain},     {"form", R::kBlock, G::kPlain},
    {"h1", R::kBlock, G::kPlain},         {"h2", R::kBlock, G::kPlain},
    {"h3", R::kBlock, G::kPlain},         {"h4", R::kBlock, G::kPlain},
    {"h5", R::kBlock, G::kPlain},         {"h6", R::kBlock, G::kPlain},
    {"header", R::kBlock, G::kPlain},     {"hgroup", R::kBlock, G::kPlain},
    {"iframe", R::kSkip, G::kPlain},      {"legend", R::kBlock, G::kPlain},
    {"li", R::kBlock, G::kItem},          {"main", R::kBlock, G::kPlain},
    {"menu", R::kBlock, G::kList},        {"nav", R::kBlock, G::kPlain},
    {"noembed", R::kSkip, G::kPlain},     {"noframes", R::kSkip, G::kPlain},
    {"noscript", R::kSkip, G::kPlain},    {"object", R::kSkip, G::kPlain},
    {"ol", R::kBlock, G::kList},          {"p", R::kBlock, G::kParagraph},
    {"pre", R::kBlock, G::kPlain},        {"script", R::kSkip, G::kPlain},
    {"section", R::kBlock, G::kPlain},    {"select", R::kSkip, G::kPlain},
    {"style", R::kSkip, G::kPlain},       {"summary", R::kBlock, G::kPlain},
    {"svg", R::kSkip, G::kPlain},         {"table", R::kBlock, G::kTable},
    {"tbody", R::kBlock, G::kRow},        {"td", R::kBlock, G::kCell},
    {"template", R::kSkip, G::kPlain},    {"textarea", R::kSkip, G::kPlain},
    {"tfoot", R::kBlock, G::kRow},        {"th", R::kBlock, G::kCell},
    {"thead", R::kBlock, G::kRow},        {"title", R::kTitle, G::kPlain},
    {"tr", R::kBlock, G::kRow},           {"ul", R::kBlock, G::kList},
    {"video", R::kSkip, G::kPlain},       {"xmp", R::kSkip, G::kPlain},
});
constexpr size_t kNameBytesMax = 10;

bool IsSpace(char byte) {
  return byte == ' ' || byte == '\t' || byte == '\n' || byte == '\r' || byte == '\f';
}

bool IsLetter(char byte) { return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z'); }

char ToLower(char byte) {
  return byte >= 'A' && byte <= 'Z' ? static_cast<char>(byte - 'A' + 'a') : byte;
}

// The entry of a tag in any case, or null.
const TagInfo* FindTag(std::string_view name) {
  if (name.size() > kNameBytesMax) return nullptr;
  std::array<char, kNameBytesMax> lower{};
  std::transform(name.begin(), name.end(), lower.begin(), ToLower);
  const std::string_view key(lower.data(), name.size());
  const auto* found = std::lower_bound(
      kTags.begin(), kTags.end(), key,
      [](const TagInfo& tag, std::string_view wanted) { return tag.name < wanted; });
  return found != kTags.end() && found->name == key ? found : nullptr;
}

// Elements without attributes say by their name what they are; others say it by role or class.
// Documentation generators and site templates agree on few words, and these are they.
constexpr auto kNavigationClasses =
    std::to_array<std::string_view>({"breadcrumb", "breadcrumbs", "nav", "navbar", "navfooter",
                                     "navheader", "navigation", "navpath", "sphinxsidebar", "toc"});
constexpr auto kAsideClasses = std::to_array<std::string_view>(
    {"admonition", "caution", "important", "note", "sidebar", "tip", "warning"});

// Whether one of the blank-separated words of an attribute is among `wanted`, in any case.
template <size_t kSize>
bool HasWord(std::string_view value, const std::array<std::string_view, kSize>& wanted) {
  for (size_t begin = 0; begin < value.size();) {
    const size_t end = std::min(value.find_first_of(" \t\n\r\f", begin), value.size());
    const std::string_view word = value.substr(begin, end - begin);
    const bool is_found = std::ranges::any_of(wanted, [word](std::string_view known) {
      return std::ranges::equal(word, known, [](char a, char b) { return ToLower(a) == b; });
    });
    if (is_found) return true;
    begin = end + 1;
  }
  return false;
}

bool HasName(std::string_view name, std::string_view wanted) {
  return std::ranges::equal(name, wanted, [](char a, char b) { return ToLower(a) == b; });
}

// The attributes of a tag that matter.
struct TagAttributes {
  std::string_view role;
  std::string_view classes;
};

// The name under which the element is written: a container that says that it is navigation or an
// aside becomes one.
std::string_view WrittenName(const TagInfo& tag, const TagAttributes& attributes) {
  const bool is_container = tag.group == TagGroup::kPlain || tag.group == TagGroup::kList ||
                            tag.group == TagGroup::kTable;
  if (!is_container || tag.name == "main" || tag.name == "article") return tag.name;
  if (HasName(attributes.role, "navigation") || HasWord(attributes.classes, kNavigationClasses)) {
    return "nav";
  }
  return HasWord(attributes.classes, kAsideClasses) && tag.name == "div" ? "aside" : tag.name;
}

class HtmlFilter {
 public:
  HtmlFilter(std::string_view html, const HtmlFilterOptions& options)
      : html_(html), options_(options) {}

  Result<FilteredHtml> Run() {
    result_.html.reserve(html_.size());
    while (at_ < html_.size()) {
      const size_t tag = std::min(html_.find('<', at_), html_.size());
      result_.html.append(html_.substr(at_, tag - at_));
      at_ = tag;
      if (at_ >= html_.size()) break;
      ReadMarkup();
      if (num_elements_ > options_.elements_max) {
        return Status(StatusCode::kInvalidArgument,
                      "HTML has too many elements, split the file: max=" +
                          std::to_string(options_.elements_max));
      }
    }
    return std::move(result_);
  }

 private:
  struct OpenElement {
    const TagInfo* tag;
    std::string_view name;  // as it is written
  };

  char Peek(size_t ahead) const { return at_ + ahead < html_.size() ? html_[at_ + ahead] : '\0'; }

  // Continues behind the next `mark` from `begin`; at the end of the file if there is none.
  void SkipBehind(std::string_view mark, size_t begin) {
    const size_t found = html_.find(mark, begin);
    at_ = found == std::string_view::npos ? html_.size() : found + mark.size();
  }

  // Reads what begins with the `<` at at_.
  void ReadMarkup() {
    const char next = Peek(1);
    if (next == '!' && Peek(2) == '-' && Peek(3) == '-') {
      SkipBehind("-->", at_ + 2);  // `<!-->` is a whole comment.
    } else if (next == '!' || next == '?' || (next == '/' && !IsLetter(Peek(2)))) {
      SkipBehind(">", at_ + 2);
    } else if (next == '/') {
      at_ += 2;
      const TagInfo* tag = FindTag(ReadName());
      ReadAttributes();
      if (tag != nullptr && tag->role == TagRole::kBlock) End(*tag);
    } else if (IsLetter(next)) {
      at_ += 1;
      const TagInfo* tag = FindTag(ReadName());
      const TagAttributes attributes = ReadAttributes();
      if (tag != nullptr) Begin(*tag, attributes);
    } else {
      result_.html.append("&lt;");
      ++at_;
    }
  }

  std::string_view ReadName() {
    const size_t begin = at_;
    while (at_ < html_.size() && !IsSpace(html_[at_]) && html_[at_] != '/' && html_[at_] != '>') {
      ++at_;
    }
    return html_.substr(begin, at_ - begin);
  }

  // Continues behind the `>` of the tag; one inside a quoted value is none.
  TagAttributes ReadAttributes() {
    TagAttributes attributes;
    std::string_view name;
    while (at_ < html_.size()) {
      const char byte = html_[at_];
      if (byte == '>') {
        ++at_;
        break;
      }
      if (byte == '=') {
        ++at_;
        const std::string_view value = ReadValue();
        if (HasName(name, "role") && attributes.role.empty()) attributes.role = value;
        if (HasName(name, "class") && attributes.classes.empty()) attributes.classes = value;
        name = {};
      } else if (IsSpace(byte) || byte == '/') {
        ++at_;
      } else {
        const size_t begin = at_;
        while (at_ < html_.size() && !IsSpace(html_[at_]) && html_[at_] != '/' &&
               html_[at_] != '>' && html_[at_] != '=') {
          ++at_;
        }
        name = html_.substr(begin, at_ - begin);
      }
    }
    return attributes;
  }

  // Reads what stands behind a `=`, with or without quotes.
  std::string_view ReadValue() {
    while (at_ < html_.size() && IsSpace(html_[at_])) ++at_;
    const char quote = Peek(0);
    if (quote == '"' || quote == '\'') {
      const size_t begin = at_ + 1;
      const size_t end = std::min(html_.find(quote, begin), html_.size());
      at_ = std::min(end + 1, html_.size());
      return html_.substr(std::min(begin, end), end - std::min(begin, end));
    }
    const size_t begin = at_;
    while (at_ < html_.size() && !IsSpace(html_[at_]) && html_[at_] != '>') ++at_;
    return html_.substr(begin, at_ - begin);
  }

  void Begin(const TagInfo& tag, const TagAttributes& attributes) {
    if (tag.role == TagRole::kSkip) {
      SkipElement(tag);
    } else if (tag.role == TagRole::kTitle) {
      const size_t begin = at_;
      SkipElement(tag);
      if (!has_title_) {
        result_.html.append("<title>").append(html_.substr(begin, at_ - begin));
        // The end tag without what may stand in it; a second one is ignored.
        result_.html.append("</title>");
      }
      has_title_ = true;
    } else if (tag.role == TagRole::kBreak) {
      ++num_elements_;
      Append("<", tag.name);
    } else {
      CloseImplied(tag);
      ++num_elements_;
      if (static_cast<int32_t>(open_.size()) >= options_.depth_max) {
        ++result_.num_flattened;
        Pop();  // It becomes the neighbour of what it should lie in.
      }
      const std::string_view name = WrittenName(tag, attributes);
      Append("<", name);
      open_.push_back({&tag, name});
    }
  }

  // Continues at the end tag of an element whose content is not markup; ReadMarkup drops that. An
  // element that is never closed ends with the file, unless browsers would read its content.
  void SkipElement(const TagInfo& tag) {
    const auto index = static_cast<size_t>(&tag - kTags.data());
    if (is_unclosed_[index]) return;
    for (size_t at = at_; at < html_.size(); ++at) {
      at = html_.find("</", at);
      if (at == std::string_view::npos) break;
      const std::string_view name = html_.substr(at + 2, tag.name.size());
      if (name.size() == tag.name.size() &&
          std::equal(name.begin(), name.end(), tag.name.begin(),
                     [](char a, char b) { return ToLower(a) == b; })) {
        at_ = at;
        return;
      }
    }
    // Remembered, so that the search is made once for each kind of element.
    is_unclosed_[index] = true;
    if (tag.name == "script" || tag.name == "style") at_ = html_.size();
  }

  // Closes what the beginning of `tag` ends.
  void CloseImplied(const TagInfo& tag) {
    switch (tag.group) {
      case TagGroup::kParagraph:
        CloseTop({G::kParagraph});
        break;
      case TagGroup::kItem:
        CloseTop({G::kParagraph, G::kItem});
        break;
      case TagGroup::kTerm:
        CloseTop({G::kParagraph, G::kTerm});
        break;
      case TagGroup::kCell:
        CloseTop({G::kParagraph, G::kCell});
        break;
      case TagGroup::kRow:
        CloseTop({G::kParagraph, G::kCell, G::kRow});
        break;
      case TagGroup::kPlain:
      case TagGroup::kList:
      case TagGroup::kTable:
        break;
    }
  }

  // Closes the innermost open element of each of `groups`, innermost group first, as long as they
  // follow each other; but no group of rows.
  void CloseTop(std::initializer_list<TagGroup> groups) {
    for (const TagGroup group : groups) {
      if (open_.empty()) return;
      const TagInfo& last = *open_.back().tag;
      if (last.group == group && last.name != "tbody" && last.name != "thead" &&
          last.name != "tfoot") {
        Pop();
      }
    }
  }

  void End(const TagInfo& tag) {
    for (size_t i = open_.size(); i > 0; --i) {
      if (open_[i - 1].tag == &tag) {
        while (open_.size() >= i) Pop();
        return;
      }
      if (IsWall(*open_[i - 1].tag, tag)) return;
    }
  }

  // Whether an end tag of `tag` does not reach what is outside of `open`.
  static bool IsWall(const TagInfo& open, const TagInfo& tag) {
    switch (tag.group) {
      case TagGroup::kParagraph:
        return true;  // everything that is kept closes a paragraph
      case TagGroup::kItem:
      case TagGroup::kTerm:
        return open.group == G::kList || open.group == G::kCell;
      case TagGroup::kCell:
      case TagGroup::kRow:
        return open.group == G::kTable;
      case TagGroup::kTable:
        return false;
      case TagGroup::kPlain:
      case TagGroup::kList:
        return open.group == G::kCell || open.group == G::kTable;
    }
    return false;
  }

  void Pop() {
    Append("</", open_.back().name);
    open_.pop_back();
  }

  void Append(std::string_view begin, std::string_view name) {
    result_.html.append(begin).append(name).push_back('>');
  }

  std::string_view html_;
  HtmlFilterOptions options_;
  FilteredHtml result_;
  size_t at_ = 0;
  std::vector<OpenElement> open_;
  std::array<bool, kTags.size()> is_unclosed_{};
  int64_t num_elements_ = 0;
  bool has_title_ = false;
};

}  // namespace

Result<FilteredHtml> FilterHtml(std::string_view html, const HtmlFilterOptions& options) {
  return HtmlFilter(html, options).Run();
}

}  // namespace intarsia::query
