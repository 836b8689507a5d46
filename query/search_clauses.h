// BindSearchClauses: SELECT ... SEARCH MATCH ..., FUSION ... as the SEARCH that does the same.
//
// Clauses and options are two ways to write one plan: what a clause says becomes the option of
// SEARCH that means it, so both are checked by the same table.
//
// Thread safety: may be called concurrently.
#pragma once

#include <string>
#include <vector>

#include "query/ast.h"
#include "query/diagnostic.h"

namespace intarsia::query {

// A search for nothing, which would rank by chance. Errors: kInput for a text of blanks.
Failure RefuseEmptySearch(const Text& text);

struct BoundSearchClauses {
  // Collection, WHERE and the number of rows, OFFSET included, if it is limited.
  Search search;
  // Where they are other texts than `search.text`.
  std::optional<std::string> vector_text;
  std::optional<std::string> rerank_text;
};

// REQUIRES: statement.search is set.
// Errors: kBinder for an argument that a clause does not take, or a FUSION of one search;
// kBinder for COUNT(*) or ORDER BY; kInput for an empty text. Values are checked by
// BindOptions(kSearch, search.options).
Outcome<BoundSearchClauses> BindSearchClauses(const Select& statement);

}  // namespace intarsia::query
