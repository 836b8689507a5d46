// ToSql: a tree as canonical SQL on one line.
//
// Parsing the text gives an equal tree. Keywords are upper case, identifiers quoted only where they
// must be, synonyms written in their first form.
//
// Thread safety: all functions may be called concurrently.
#pragma once

#include <string>
#include <string_view>

#include "query/ast.h"

namespace intarsia::query {

// Ends with a semicolon.
std::string ToSql(const Statement& statement);
std::string ToSql(const Predicate& predicate);
std::string ToSql(const Literal& literal);

// `name` as an identifier, in double quotes where it must be.
std::string QuoteName(std::string_view name);
// `text` as a string literal.
std::string QuoteText(std::string_view text);

}  // namespace intarsia::query
