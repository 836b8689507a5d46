// ParseOneStatement: one function for each kind of statement, behind one table of first words.
//
// Thread safety: owned by one thread, like the cursor.
#pragma once

#include "query/ast.h"
#include "query/diagnostic.h"
#include "query/token_cursor.h"

namespace intarsia::query {

// The statement at the cursor, up to its semicolon or the end, which is not stepped over.
// Errors: kParser, with a place.
Outcome<Statement> ParseOneStatement(TokenCursor* cursor);

}  // namespace intarsia::query
