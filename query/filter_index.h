// FilterIndex: the rows of a collection by the values of their columns, so that a filter is
// answered by operations on sets of rows and not by reading every row.
//
// Rows have consecutive numbers; which of them are still there is for the caller to say. Each
// column is filled for itself, so that only those that some filter asks for are. Columns that would
// take too much memory (the text itself) are left out: of a condition over them, the index says
// which rows pass or fail whatever such a column holds, and leaves the others undecided.
//
// Thread safety: concurrent const calls only.
#pragma once

#include <cstdint>
#include <vector>

#include "index/row_set.h"
#include "query/column_index.h"
#include "query/filter.h"

namespace intarsia::query {

class FilterIndex {
 public:
  // `is_indexed` says of each column of the schema whether it is kept.
  explicit FilterIndex(std::vector<bool> is_indexed);

  bool is_indexed(int64_t column) const { return is_indexed_[static_cast<size_t>(column)]; }
  // Rows that have a cell in `column`.
  int64_t num_rows(int64_t column) const {
    return columns_[static_cast<size_t>(column)].num_rows();
  }
  // Says that the rows [num_rows(column), end) all have `cell` there.
  // REQUIRES: is_indexed(column), end > num_rows(column).
  void Append(int64_t column, const Value& cell, int64_t end);
  // Makes what was appended visible to Select().
  void Seal();

  int64_t memory_bytes() const;  // estimated

  struct Selection {
    index::RowSet passing;    // the filter is true
    index::RowSet undecided;  // ask Filter::Matches about these
  };
  // Of the rows `live`. `filter` is bound to the schema that the index was made for.
  // REQUIRES: sealed; the columns that the filter uses have cells for all rows unless left out.
  Selection Select(const Filter& filter, const index::RowSet& live) const;

 private:
  // What is assumed of a test over a column that is left out.
  enum class Assumption : uint8_t { kNowhere, kEverywhere };

  // The rows for which `node` is `wanted`: at least these, or at most these.
  index::RowSet Find(const FilterNode& node, Truth wanted, Assumption assumption,
                     const index::RowSet& live) const;
  bool IsIndexed(const FilterNode& node) const;

  std::vector<bool> is_indexed_;  // [num_columns]
  std::vector<ColumnIndex> columns_;
};

}  // namespace intarsia::query
