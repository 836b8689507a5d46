// The clauses that several statements share: literals, WITH, WHERE, types, counts.
//
// Each function begins at the current token of its cursor and leaves the cursor behind what it has
// read. All errors are kParser, with a place.
//
// Thread safety: owned by one thread, like the cursor.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "query/ast.h"
#include "query/diagnostic.h"
#include "query/token_cursor.h"

namespace intarsia::query {

// What may follow once a statement could end: nothing, or one of `clauses`.
Failure ExpectEnd(const TokenCursor& cursor, std::span<const std::string_view> clauses);

// A constant, or a list of constants in brackets. `what` is for the message: "a value".
Outcome<Literal> ParseLiteral(TokenCursor* cursor, std::string_view what);

// A constant or a bare word.
Outcome<Literal> ParseOptionValue(TokenCursor* cursor);

// `(name = value, ...)` behind WITH or METADATA.
Outcome<std::vector<Option>> ParseOptionList(TokenCursor* cursor, std::string_view keyword);

// `[WITH (...)]`: empty without it.
Outcome<std::vector<Option>> ParseWith(TokenCursor* cursor);

Outcome<Predicate> ParsePredicate(TokenCursor* cursor);

// `[WHERE ...]`.
Outcome<std::optional<Predicate>> ParseWhere(TokenCursor* cursor);

// `[LIMIT n]` or `[OFFSET n]`, n >= 0.
Outcome<std::optional<int64_t>> ParseCount(TokenCursor* cursor, std::string_view keyword);

Outcome<ColumnType> ParseColumnType(TokenCursor* cursor);

// `a.b.c`.
Outcome<Name> ParseDottedName(TokenCursor* cursor, std::string_view what);

}  // namespace intarsia::query
