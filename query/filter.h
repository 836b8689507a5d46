// Filter: a WHERE clause bound to the columns of a collection, ready to be asked row by row.
//
// Logic is SQL's, with three values: a comparison with null is unknown, and only what is true
// matches. Numbers compare by value across INT and DOUBLE, texts by bytes; NaN equals nothing and
// is in no order.
//
// Thread safety: immutable; concurrent calls are fine.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "query/ast.h"
#include "query/diagnostic.h"
#include "query/schema.h"
#include "query/value.h"

namespace intarsia::query {

enum class Truth : uint8_t { kFalse, kUnknown, kTrue };

struct FilterNode;  // query/filter_node.h

class Filter {
 public:
  // Errors: kBinder for an unknown column (with the nearest), an operator that its type does not
  // have, and a value of another type.
  static Outcome<Filter> Bind(const Predicate& predicate, const CollectionSchema& schema);

  Filter(Filter&&) noexcept;
  Filter& operator=(Filter&&) noexcept;
  ~Filter();

  // `row` has a cell for each of schema.columns(); only those in columns_used() are looked at.
  Truth Evaluate(std::span<const Value> row) const;
  bool Matches(std::span<const Value> row) const { return Evaluate(row) == Truth::kTrue; }

  // Indices into schema.columns(), ascending, each once.
  const std::vector<int64_t>& columns_used() const { return columns_used_; }

  // The whole condition, valid as long as the filter.
  const FilterNode& root() const { return *root_; }

 private:
  Filter(std::unique_ptr<FilterNode> root, std::vector<int64_t> columns_used);

  std::unique_ptr<FilterNode> root_;
  std::vector<int64_t> columns_used_;
};

// SQL LIKE over code points: % stands for any number of them, _ for one.
bool MatchesLike(std::string_view text, std::string_view pattern);

}  // namespace intarsia::query
