#include "query/filter_index.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace intarsia::query {

using index::RowSet;

FilterIndex::FilterIndex(std::vector<bool> is_indexed)
    : is_indexed_(std::move(is_indexed)), columns_(is_indexed_.size()) {}

int64_t FilterIndex::Append(std::span<const Row> rows) {
  const int64_t first = num_rows_;
  for (size_t column = 0; column < columns_.size(); ++column) {
    if (!is_indexed_[column]) continue;
    // The chunks of a document share most of their cells.
    for (size_t begin = 0; begin < rows.size();) {
      INTARSIA_CHECK(rows[begin].size() == columns_.size());
      size_t end = begin + 1;
      while (end < rows.size() && rows[end][column] == rows[begin][column]) ++end;
      columns_[column].Append(rows[begin][column], first + static_cast<int64_t>(end));
      begin = end;
    }
  }
  num_rows_ += std::ssize(rows);
  num_live_ += std::ssize(rows);
  live_.AddRange(first, num_rows_);
  return first;
}

void FilterIndex::Remove(int64_t begin, int64_t end) {
  INTARSIA_CHECK(0 <= begin && begin <= end && end <= num_rows_);
  live_.RemoveRange(begin, end);
  num_live_ = live_.size();
}

void FilterIndex::Seal() {
  for (ColumnIndex& column : columns_) column.Seal();
  live_.Compress();
}

int64_t FilterIndex::memory_bytes() const {
  int64_t bytes = live_.memory_bytes();
  for (const ColumnIndex& column : columns_) bytes += column.memory_bytes();
  return bytes;
}

bool FilterIndex::IsIndexed(const FilterNode& node) const {
  if (node.children.empty()) return is_indexed_[node.column];
  return std::all_of(node.children.begin(), node.children.end(),
                     [this](const FilterNode& child) { return IsIndexed(child); });
}

RowSet FilterIndex::Find(const FilterNode& node, Truth wanted, Assumption assumption) const {
  if (node.kind == FilterNode::Kind::kNot) {
    return Find(node.children.front(), Negate(wanted), assumption);
  }
  if (node.kind != FilterNode::Kind::kAnd && node.kind != FilterNode::Kind::kOr) {
    if (is_indexed_[node.column]) return columns_[node.column].Select(node, wanted);
    return assumption == Assumption::kEverywhere ? RowSet(0, num_rows_) : RowSet();
  }
  // AND is true where all are, and false where one is; OR the other way round.
  const bool needs_all = (node.kind == FilterNode::Kind::kAnd) == (wanted == Truth::kTrue);
  RowSet rows = Find(node.children.front(), wanted, assumption);
  for (size_t i = 1; i < node.children.size(); ++i) {
    if (needs_all && rows.is_empty()) break;
    const RowSet more = Find(node.children[i], wanted, assumption);
    if (needs_all) {
      rows.And(more);
    } else {
      rows.Or(more);
    }
  }
  return rows;
}

FilterIndex::Selection FilterIndex::Select(const Filter& filter) const {
  Selection selection;
  const FilterNode& root = filter.root();
  selection.passing = Find(root, Truth::kTrue, Assumption::kNowhere);
  selection.passing.And(live_);
  if (!IsIndexed(root)) {
    selection.undecided = Find(root, Truth::kTrue, Assumption::kEverywhere);
    selection.undecided.And(live_);
    selection.undecided.AndNot(selection.passing);
  }
  return selection;
}

}  // namespace intarsia::query
