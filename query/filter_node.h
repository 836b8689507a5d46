// FilterNode: one condition of a bound filter, or a connective over others.
//
// What Filter evaluates row by row and FilterIndex by sets of rows. Both ask the same function
// about a test, so that they cannot differ.
//
// Thread safety: plain values; concurrent const calls only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "query/ast.h"
#include "query/filter.h"
#include "query/value.h"

namespace intarsia::query {

struct FilterNode {
  enum class Kind : uint8_t {
    kCompare,
    kIn,
    kLike,
    kContains,
    kIsNull,
    kIsEmpty,
    kAnd,
    kOr,
    kNot,
  };
  Kind kind = Kind::kCompare;
  bool is_negated = false;  // IS NOT NULL, NOT IN and the like
  CompareOp op = CompareOp::kEqual;
  size_t column = 0;
  std::vector<Value> values;  // What the cell is compared with; null only in kIn.
  std::vector<FilterNode> children;
};

enum class Order : uint8_t { kLess, kEqual, kGreater, kUnordered };

// The order of two values, of which neither is null: numbers by value, texts by bytes. NaN, lists
// and values that cannot be compared are in no order.
Order CompareValues(const Value& a, const Value& b);

Truth Negate(Truth truth);

// What a test, which is no connective, says of a cell.
Truth EvaluateTest(const FilterNode& node, const Value& cell);

}  // namespace intarsia::query
