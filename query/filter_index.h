// FilterIndex: the rows of a collection by the values of their columns, so that a filter is
// answered by operations on sets of rows and not by reading every row.
//
// Rows get consecutive numbers. A removed row keeps its number and is in no answer. Columns that
// would take too much memory (the text itself) are left out: of a condition over them, the index
// says which rows pass or fail whatever such a column holds, and leaves the others undecided.
//
// Thread safety: concurrent const calls only.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "index/row_set.h"
#include "query/column_index.h"
#include "query/filter.h"

namespace intarsia::query {

class FilterIndex {
 public:
  // `is_indexed` says of each column of the schema whether it is kept.
  explicit FilterIndex(std::vector<bool> is_indexed);

  // Appends rows, each [num_columns]. Returns the number of the first.
  int64_t Append(std::span<const Row> rows);
  // REQUIRES: 0 <= begin <= end <= num_rows().
  void Remove(int64_t begin, int64_t end);
  // Makes what was appended visible to Select().
  void Seal();

  int64_t num_rows() const { return num_rows_; }  // the removed ones too
  int64_t num_live() const { return num_live_; }
  const index::RowSet& live() const { return live_; }
  int64_t memory_bytes() const;  // estimated

  struct Selection {
    index::RowSet passing;    // the filter is true
    index::RowSet undecided;  // ask Filter::Matches about these
  };
  // `filter` is bound to the schema that the index was made for. REQUIRES: sealed.
  Selection Select(const Filter& filter) const;

 private:
  // What is assumed of a test over a column that is left out.
  enum class Assumption : uint8_t { kNowhere, kEverywhere };

  // The rows for which `node` is `wanted`: at least these, or at most these.
  index::RowSet Find(const FilterNode& node, Truth wanted, Assumption assumption) const;
  bool IsIndexed(const FilterNode& node) const;

  std::vector<bool> is_indexed_;  // [num_columns]
  std::vector<ColumnIndex> columns_;
  index::RowSet live_;
  int64_t num_rows_ = 0;
  int64_t num_live_ = 0;
};

}  // namespace intarsia::query
