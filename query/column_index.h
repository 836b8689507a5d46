// ColumnIndex: which rows have which value in one column, for finding those that pass a test.
//
// The distinct values lie in order, each with the set of its rows. A comparison is then a binary
// search and the union of some sets; LIKE and a part of a text are asked once for each distinct
// value. Of a list each member is a value. The answers are those of EvaluateTest on each cell.
//
// Rows are appended and never change. A row that is gone keeps its place; whoever asks leaves it
// out.
//
// Thread safety: concurrent const calls only.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "index/row_set.h"
#include "query/filter_node.h"
#include "query/value.h"

namespace intarsia::query {

class ColumnIndex {
 public:
  // Says that the rows [num_rows(), end) all have `cell`. REQUIRES: end > num_rows().
  void Append(const Value& cell, int64_t end);
  // Makes what was appended visible to Select().
  void Seal();

  int64_t num_rows() const { return num_rows_; }
  int64_t num_values() const { return static_cast<int64_t>(entries_.size()); }
  // Estimated, in bytes.
  int64_t memory_bytes() const;

  // The rows for which `test`, which is no connective, is `wanted`: kTrue or kFalse.
  // REQUIRES: sealed.
  index::RowSet Select(const FilterNode& test, Truth wanted) const;

 private:
  // A value and its rows: one run, or a set once there are two.
  struct Entry {
    Value value;
    uint32_t begin = 0;
    uint32_t end = 0;
    std::unique_ptr<index::RowSet> rows;
  };
  // The entries [begin, end).
  struct Interval {
    size_t begin = 0;
    size_t end = 0;
  };

  static bool IsBefore(const Entry& a, const Entry& b);
  static void AddRows(const Entry& source, Entry* target);
  static void OrInto(const Entry& entry, index::RowSet* rows);
  void AppendValue(const Value& value, int64_t end);
  // Whether a value has its place in the order of the others.
  bool IsOrdered(const Value& value) const;
  // The entries for which the test is `wanted`, ascending.
  std::vector<Interval> FindEntries(const FilterNode& test, Truth wanted) const;
  // The entries that compare as the test says, if the order can tell.
  bool FindByOrder(const FilterNode& test, std::vector<Interval>* found) const;
  Interval EqualTo(const Value& value) const;
  index::RowSet UnionOf(const std::vector<Interval>& intervals) const;
  index::RowSet SelectLists(const FilterNode& test, bool is_true) const;

  int64_t num_rows_ = 0;
  ValueKind kind_ = ValueKind::kNull;  // of all in entries_; kNull while there is none
  std::vector<Entry> entries_;         // by value
  std::vector<Entry> pending_;         // since the last Seal(), by row
  std::vector<Entry> odd_;             // NaN, and values of other kinds: asked one by one
  index::RowSet known_;                // rows that are not null
  index::RowSet ordered_;              // rows of entries_ that are no lists
  index::RowSet lists_;
  index::RowSet empty_lists_;
};

}  // namespace intarsia::query
