#include "query/text_extractor.h"

#include <algorithm>
#include <array>
#include <utility>

#include "query/document_builder.h"
#include "query/html_extractor.h"
#include "query/markdown_extractor.h"
#include "query/text_encoding.h"

namespace intarsia::query {
namespace {

constexpr int32_t kHtmlDepthMax = 1'000;
constexpr std::string_view kPathSeparator = " > ";

bool IsBlank(char byte) { return byte == ' ' || (byte >= '\t' && byte <= '\r'); }

std::string ToLower(std::string_view text) {
  std::string lower(text);
  for (char& byte : lower) {
    if (byte >= 'A' && byte <= 'Z') byte = static_cast<char>(byte - 'A' + 'a');
  }
  return lower;
}

template <size_t kSize>
bool IsOneOf(const std::array<std::string_view, kSize>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

constexpr std::array<std::string_view, 6> kMarkdownExtensions = {"md",  "markdown", "mdown",
                                                                 "mkd", "mdx",      "rmd"};
constexpr std::array<std::string_view, 4> kHtmlExtensions = {"html", "htm", "xhtml", "xht"};
constexpr std::array<std::string_view, 30> kBinaryExtensions = {
    "pdf", "doc",  "docx", "odt", "rtf",  "xls", "xlsx", "ods", "ppt", "pptx",
    "odp", "epub", "png",  "jpg", "jpeg", "gif", "webp", "bmp", "tif", "tiff",
    "zip", "gz",   "bz2",  "xz",  "zst",  "tar", "7z",   "mp3", "mp4", "exe"};

Status NotSupported(std::string_view what, std::string_view name) {
  return Status(StatusCode::kUnsupported, std::string(what) +
                                              " is not supported, convert the file to text, "
                                              "Markdown or HTML: " +
                                              std::string(name));
}

// Whether `hint` is a media type; a path with a slash has another first part.
bool IsMediaType(std::string_view hint) {
  constexpr std::array<std::string_view, 8> kTopLevels = {
      "text/", "application/", "image/", "audio/", "video/", "multipart/", "message/", "font/"};
  return std::any_of(kTopLevels.begin(), kTopLevels.end(), [&](std::string_view top) {
    // `text/notes.md` is a path all the same.
    return hint.substr(0, top.size()) == top && hint.find('/', top.size()) == hint.npos &&
           (hint.find(';') != hint.npos || hint.find('.', top.size()) == hint.npos);
  });
}

Result<MediaType> MediaTypeNamed(const std::string& name) {
  if (name == "text/markdown" || name == "text/x-markdown") return MediaType::kMarkdown;
  if (name == "text/html" || name == "application/xhtml+xml") return MediaType::kHtml;
  if (name.substr(0, 5) == "text/") return MediaType::kPlainText;
  return NotSupported("media type", name);
}

// HTML or plain text, by what the file begins with.
MediaType LookAt(std::string_view bytes) {
  size_t at = bytes.substr(0, 3) == "\xEF\xBB\xBF" ? 3 : 0;
  while (at < bytes.size() && IsBlank(bytes[at])) ++at;
  const std::string head = ToLower(bytes.substr(at, 14));
  const bool is_html = head == "<!doctype html" || head.substr(0, 5) == "<html";
  return is_html ? MediaType::kHtml : MediaType::kPlainText;
}

// Paragraphs are parted by blank lines.
Status ExtractPlainText(const ExtractOptions& options, ExtractedText* document) {
  DocumentBuilder builder(document);
  const std::string_view text = document->text;
  ByteRange paragraph{-1, -1};
  const auto finish = [&] {
    if (paragraph.begin >= 0) builder.AddBlock(BlockKind::kParagraph, 0, paragraph);
    paragraph.begin = -1;
  };
  for (size_t line = 0; line < text.size();) {
    const size_t found = text.find('\n', line);
    const size_t next = found == std::string_view::npos ? text.size() : found + 1;
    size_t begin = line;
    size_t end = next;
    while (begin < end && IsBlank(text[begin])) ++begin;
    while (end > begin && IsBlank(text[end - 1])) --end;
    if (begin == end) {
      finish();
    } else {
      if (paragraph.begin < 0) paragraph.begin = static_cast<int64_t>(begin);
      paragraph.end = static_cast<int64_t>(end);
    }
    line = next;
    if (static_cast<int64_t>(document->blocks.size()) > options.elements_max) {
      return Status(StatusCode::kInvalidArgument,
                    "text has too many paragraphs, split the file: max=" +
                        std::to_string(options.elements_max));
    }
  }
  finish();
  return Status::Ok();
}

Status CheckOptions(const ExtractOptions& options) {
  if (options.num_bytes_max < 1 || options.num_bytes_max > (int64_t{1} << 30) ||
      options.elements_max < 1 || options.html_depth_max < 1 ||
      options.html_depth_max > kHtmlDepthMax) {
    return Status(StatusCode::kInvalidArgument,
                  "text extraction option out of range: num_bytes_max=" +
                      std::to_string(options.num_bytes_max) +
                      " (at most 1 GiB) elements_max=" + std::to_string(options.elements_max) +
                      " html_depth_max=" + std::to_string(options.html_depth_max) +
                      " (at most 1000)");
  }
  return Status::Ok();
}

}  // namespace

std::string_view MediaTypeName(MediaType type) {
  switch (type) {
    case MediaType::kPlainText:
      return "text/plain";
    case MediaType::kMarkdown:
      return "text/markdown";
    case MediaType::kHtml:
      return "text/html";
  }
  return "text/plain";
}

std::string_view BlockKindName(BlockKind kind) {
  switch (kind) {
    case BlockKind::kHeading:
      return "heading";
    case BlockKind::kParagraph:
      return "paragraph";
    case BlockKind::kListItem:
      return "list item";
    case BlockKind::kCode:
      return "code";
    case BlockKind::kTable:
      return "table";
    case BlockKind::kOther:
      return "other";
  }
  return "other";
}

std::string ExtractedText::HeadingPath(int32_t section) const {
  std::vector<std::string_view> headings;
  for (; section > 0; section = sections[static_cast<size_t>(section)].parent) {
    headings.push_back(sections[static_cast<size_t>(section)].heading);
  }
  std::string path;
  for (size_t i = headings.size(); i > 0; --i) {
    if (headings[i - 1].empty()) continue;
    if (!path.empty()) path += kPathSeparator;
    path += headings[i - 1];
  }
  return path;
}

Result<MediaType> MediaTypeOf(std::string_view hint) {
  const std::string lower = ToLower(hint);
  if (IsMediaType(lower)) {
    std::string name = lower.substr(0, lower.find(';'));
    while (!name.empty() && IsBlank(name.back())) name.pop_back();
    return MediaTypeNamed(name);
  }
  const std::string file = lower.substr(lower.find_last_of("/\\") + 1);
  const size_t dot = file.find_last_of('.');
  const std::string extension = dot == std::string::npos ? "" : file.substr(dot + 1);
  if (IsOneOf(kMarkdownExtensions, extension)) return MediaType::kMarkdown;
  if (IsOneOf(kHtmlExtensions, extension)) return MediaType::kHtml;
  if (IsOneOf(kBinaryExtensions, extension)) return NotSupported("file type", "." + extension);
  return MediaType::kPlainText;
}

Result<ExtractedText> ExtractText(std::string_view bytes, std::string_view hint,
                                  const ExtractOptions& options) {
  INTARSIA_RETURN_IF_ERROR(CheckOptions(options));
  if (static_cast<int64_t>(bytes.size()) > options.num_bytes_max) {
    return Status(
        StatusCode::kInvalidArgument,
        "file is too large, split it or raise the limit: bytes=" + std::to_string(bytes.size()) +
            " max=" + std::to_string(options.num_bytes_max));
  }
  if (bytes.empty()) return Status(StatusCode::kInvalidArgument, "file is empty");
  ExtractedText document;
  INTARSIA_RETURN_IF_ERROR(CheckIsText(bytes));
  if (hint.empty()) {
    document.media_type = LookAt(bytes);
  } else {
    INTARSIA_ASSIGN_OR_RETURN(document.media_type, MediaTypeOf(hint));
  }
  const bool is_html = document.media_type == MediaType::kHtml;
  INTARSIA_ASSIGN_OR_RETURN(DecodedText decoded,
                            DecodeText(bytes, is_html ? DeclaredHtmlCharset(bytes) : ""));
  document.notices = std::move(decoded.notices);
  if (is_html) {
    INTARSIA_RETURN_IF_ERROR(ExtractHtml(decoded.text, options, &document));
  } else {
    document.text = std::move(decoded.text);
    const bool is_markdown = document.media_type == MediaType::kMarkdown;
    INTARSIA_RETURN_IF_ERROR(is_markdown ? ExtractMarkdown(options, &document)
                                         : ExtractPlainText(options, &document));
  }
  if (document.blocks.empty()) {
    return Status(StatusCode::kInvalidArgument,
                  "file has no text: bytes=" + std::to_string(bytes.size()) +
                      " type=" + std::string(MediaTypeName(document.media_type)));
  }
  return document;
}

}  // namespace intarsia::query
