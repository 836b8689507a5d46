// ParseBackup, ParseCheck, ParseCompact, ParseRepair, ParseRestore: statements about a whole
// database.
//
// Each begins behind its first word. All errors are kParser, with a place.
//
// Thread safety: owned by one thread, like the cursor.
#pragma once

#include "query/ast.h"
#include "query/diagnostic.h"
#include "query/token_cursor.h"

namespace intarsia::query {

// DATABASE TO 'directory' [WITH (...)]
Outcome<Statement> ParseBackup(TokenCursor* cursor);

// DATABASE, or BACKUP 'directory'
Outcome<Statement> ParseCheck(TokenCursor* cursor);

// DATABASE, or COLLECTION name
Outcome<Statement> ParseCompact(TokenCursor* cursor);

// DATABASE
Outcome<Statement> ParseRepair(TokenCursor* cursor);

// DATABASE FROM 'directory' AS 'directory'
Outcome<Statement> ParseRestore(TokenCursor* cursor);

}  // namespace intarsia::query
