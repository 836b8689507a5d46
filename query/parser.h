// ParseStatement, ParseScript, NextPiece: SQL text to trees, and to the pieces of a script.
//
// Recursive descent over the tokens of lexer.h, with one statement at a time. Parentheses nest at
// most kDepthMax deep and a script has at most kScriptBytesMax bytes, so that no text overflows the
// stack or the memory. Manual: docs/manual/sql.md.
//
// Thread safety: all functions may be called concurrently.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "query/ast.h"
#include "query/diagnostic.h"

namespace intarsia::query {

inline constexpr int64_t kScriptBytesMax = int64_t{16} << 20;
inline constexpr int64_t kDepthMax = 64;
inline constexpr int64_t kOptionsMax = 256;
inline constexpr int64_t kTermsMax = 10'000;  // Of one AND or OR, and members of one list.

// Exactly one statement, whose semicolon may be missing. Positions count from the start of `sql`.
// Errors: kParser, located.
Outcome<Statement> ParseStatement(std::string_view sql);

struct ParsedStatement {
  Statement statement;
  SourceRange range;  // Without the semicolon and the blanks around.
};

// All statements of `sql`; empty if it holds only blanks and comments.
// Errors: kParser, located, for the first statement that is none.
Outcome<std::vector<ParsedStatement>> ParseScript(std::string_view sql);

enum class Terminator : uint8_t {
  kSemicolon,
  kVertical,  // `\G`: show the rows one below the other. Known to NextPiece only.
};

struct ScriptPiece {
  SourceRange range;  // Without the terminator and the blanks around; not empty.
  Terminator terminator = Terminator::kSemicolon;
  int64_t next = 0;  // The byte behind the terminator.
};

// The first piece at or behind `offset`, or nothing if no terminator follows it. Looks at tokens
// only; the piece may be no statement.
std::optional<ScriptPiece> NextPiece(std::string_view sql, int64_t offset);

}  // namespace intarsia::query
