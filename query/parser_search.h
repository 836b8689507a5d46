// ParseSearch, ParseSelect: the statements that show chunks.
//
// Each begins behind its first word. All errors are kParser, with a place.
//
// Thread safety: owned by one thread, like the cursor.
#pragma once

#include "query/ast.h"
#include "query/diagnostic.h"
#include "query/token_cursor.h"

namespace intarsia::query {

// 'text' IN collection [WHERE ...] [LIMIT n] [WITH (...)]
Outcome<Search> ParseSearch(TokenCursor* cursor);

// items FROM collection [SEARCH ...] [WHERE ...] [RERANK ...] [ORDER BY ...] [LIMIT n] [OFFSET n]
Outcome<Select> ParseSelect(TokenCursor* cursor);

}  // namespace intarsia::query
