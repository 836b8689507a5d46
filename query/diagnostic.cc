#include "query/diagnostic.h"

#include <algorithm>
#include <array>

#include "base/utf8.h"

namespace intarsia::query {
namespace {

// In the order of ErrorClass.
constexpr std::array<std::string_view, 12> kClassNames = {
    "Parser error", "Binder error",     "Catalog error",  "Input error",
    "I/O error",    "Corruption error", "Resource error", "Unavailable",
    "Timeout",      "Cancelled",        "Unsupported",    "Internal error"};

Diagnostic Make(ErrorClass error_class, SourceRange range, std::string message, std::string hint) {
  Diagnostic diagnostic;
  diagnostic.error_class = error_class;
  diagnostic.message = std::move(message);
  diagnostic.hint = std::move(hint);
  diagnostic.range = range;
  return diagnostic;
}

int64_t Size(std::string_view text) { return static_cast<int64_t>(text.size()); }

std::string_view Slice(std::string_view text, int64_t begin, int64_t end) {
  return text.substr(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
}

// The line that holds `offset`, without its newline: bytes [begin, end).
SourceRange LineAround(std::string_view sql, int64_t offset) {
  const auto position = static_cast<size_t>(offset);
  const size_t before = position == 0 ? std::string_view::npos : sql.rfind('\n', position - 1);
  const size_t after = sql.find('\n', position);
  return {before == std::string_view::npos ? 0 : static_cast<int64_t>(before) + 1,
          after == std::string_view::npos ? Size(sql) : static_cast<int64_t>(after)};
}

// A character as one terminal shows it, without the power to move the cursor.
struct Glyph {
  std::string bytes;
  int64_t width = 0;
};

Glyph GlyphAt(std::string_view sql, int64_t offset, CodePoint code_point) {
  if (code_point.value < 0x20 || (code_point.value >= 0x7F && code_point.value < 0xA0)) {
    return {" ", 1};
  }
  Glyph glyph;
  glyph.bytes = code_point.value == U'\uFFFD'
                    ? "\xEF\xBF\xBD"
                    : std::string(Slice(sql, offset, offset + code_point.num_bytes));
  glyph.width = DisplayWidth(glyph.bytes);
  return glyph;
}

// A step of at most a few bytes back to where a code point may begin.
int64_t PreviousCodePoint(std::string_view sql, int64_t begin, int64_t offset) {
  do {
    --offset;
  } while (offset > begin &&
           (static_cast<uint8_t>(sql[static_cast<size_t>(offset)]) & 0xC0) == 0x80);
  return offset;
}

// The part of a line that fits into `columns` and the columns before `offset` in it.
struct Excerpt {
  std::string text;
  int64_t caret = 0;
};

constexpr std::string_view kCut = "...";

Excerpt CutAround(std::string_view sql, SourceRange line, int64_t offset, int64_t columns) {
  // Three quarters of the room lie before the caret, unless the line ends soon after it.
  const int64_t after_min = std::min<int64_t>(columns / 4, line.end - offset);
  int64_t begin = offset;
  int64_t width = 0;
  while (begin > line.begin) {
    const int64_t previous = PreviousCodePoint(sql, line.begin, begin);
    const int64_t step = GlyphAt(sql, previous, DecodeCodePoint(sql, previous)).width;
    if (width + step > columns - after_min) break;
    width += step;
    begin = previous;
  }
  Excerpt excerpt;
  if (begin > line.begin) excerpt.text = kCut;
  excerpt.caret = width + Size(excerpt.text);
  for (int64_t at = begin; at < offset;) {
    const CodePoint code_point = DecodeCodePoint(sql, at);
    excerpt.text += GlyphAt(sql, at, code_point).bytes;
    at += code_point.num_bytes;
  }
  for (int64_t at = offset; at < line.end;) {
    const CodePoint code_point = DecodeCodePoint(sql, at);
    const Glyph glyph = GlyphAt(sql, at, code_point);
    width += glyph.width;
    if (width > columns) {
      excerpt.text += kCut;
      break;
    }
    excerpt.text += glyph.bytes;
    at += code_point.num_bytes;
  }
  return excerpt;
}

}  // namespace

SourcePosition PositionAt(std::string_view sql, int64_t offset) {
  offset = std::clamp<int64_t>(offset, 0, Size(sql));
  const SourceRange line = LineAround(sql, offset);
  SourcePosition position;
  position.line = 1 + std::count(sql.begin(), sql.begin() + line.begin, '\n');
  position.column = 1 + CountCodePoints(Slice(sql, line.begin, offset));
  return position;
}

std::string_view ErrorClassName(ErrorClass error_class) {
  return kClassNames[static_cast<size_t>(error_class)];
}

Diagnostic ParserError(SourceRange range, std::string message, std::string hint) {
  return Make(ErrorClass::kParser, range, std::move(message), std::move(hint));
}

Diagnostic BinderError(SourceRange range, std::string message, std::string hint) {
  return Make(ErrorClass::kBinder, range, std::move(message), std::move(hint));
}

Diagnostic CatalogError(SourceRange range, std::string message, std::string hint) {
  return Make(ErrorClass::kCatalog, range, std::move(message), std::move(hint));
}

Diagnostic InputError(SourceRange range, std::string message, std::string hint) {
  return Make(ErrorClass::kInput, range, std::move(message), std::move(hint));
}

Diagnostic FromStatus(const Status& status) {
  INTARSIA_CHECK(!status.ok());
  ErrorClass error_class = ErrorClass::kInternal;
  switch (status.code()) {
    case StatusCode::kInvalidArgument:
      error_class = ErrorClass::kInput;
      break;
    case StatusCode::kNotFound:
    case StatusCode::kAlreadyExists:
      error_class = ErrorClass::kCatalog;
      break;
    case StatusCode::kCorruption:
      error_class = ErrorClass::kCorruption;
      break;
    case StatusCode::kIo:
      error_class = ErrorClass::kIo;
      break;
    case StatusCode::kResourceExhausted:
      error_class = ErrorClass::kResource;
      break;
    case StatusCode::kUnavailable:
      error_class = ErrorClass::kUnavailable;
      break;
    case StatusCode::kDeadlineExceeded:
      error_class = ErrorClass::kTimeout;
      break;
    case StatusCode::kCancelled:
      error_class = ErrorClass::kCancelled;
      break;
    case StatusCode::kUnsupported:
      error_class = ErrorClass::kUnsupported;
      break;
    case StatusCode::kOk:
    case StatusCode::kInternal:
      break;
  }
  return Make(error_class, {}, std::string(status.message()), {});
}

void Locate(std::string_view sql, Diagnostic* diagnostic) {
  if (diagnostic->has_place()) diagnostic->position = PositionAt(sql, diagnostic->range.begin);
}

void Shift(int64_t num_bytes, Diagnostic* diagnostic) {
  if (!diagnostic->has_place()) return;
  diagnostic->range.begin += num_bytes;
  diagnostic->range.end += num_bytes;
}

std::string RenderDiagnostic(const Diagnostic& diagnostic, std::string_view sql,
                             int64_t columns_max) {
  std::string rendered(ErrorClassName(diagnostic.error_class));
  // "Cancelled: cancelled" says nothing twice.
  if (diagnostic.message != "cancelled") rendered += ": " + diagnostic.message;
  rendered += "\n";
  if (diagnostic.has_place() && !sql.empty()) {
    const int64_t offset = std::clamp<int64_t>(diagnostic.range.begin, 0, Size(sql));
    const std::string label = "LINE " + std::to_string(PositionAt(sql, offset).line) + ": ";
    // Below twenty columns nothing can be read, so a narrower terminal has to wrap.
    const int64_t columns = std::max<int64_t>(20, columns_max - Size(label) - 2 * Size(kCut));
    const Excerpt excerpt = CutAround(sql, LineAround(sql, offset), offset, columns);
    rendered += label + excerpt.text + "\n";
    rendered += std::string(static_cast<size_t>(Size(label) + excerpt.caret), ' ') + "^\n";
  }
  if (!diagnostic.hint.empty()) rendered += diagnostic.hint + "\n";
  return rendered;
}

}  // namespace intarsia::query
