#include "query/filter_index.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace intarsia::query {

using index::RowSet;

FilterIndex::FilterIndex(std::vector<bool> is_indexed)
    : is_indexed_(std::move(is_indexed)), columns_(is_indexed_.size()) {}

void FilterIndex::Append(int64_t column, const Value& cell, int64_t end) {
  INTARSIA_CHECK(is_indexed(column));
  columns_[static_cast<size_t>(column)].Append(cell, end);
}

void FilterIndex::Seal() {
  for (ColumnIndex& column : columns_) column.Seal();
}

int64_t FilterIndex::memory_bytes() const {
  int64_t bytes = 0;
  for (const ColumnIndex& column : columns_) bytes += column.memory_bytes();
  return bytes;
}

bool FilterIndex::IsIndexed(const FilterNode& node) const {
  if (node.children.empty()) return is_indexed_[node.column];
  return std::all_of(node.children.begin(), node.children.end(),
                     [this](const FilterNode& child) { return IsIndexed(child); });
}

RowSet FilterIndex::Find(const FilterNode& node, Truth wanted, Assumption assumption,
                         const RowSet& live) const {
  if (node.kind == FilterNode::Kind::kNot) {
    return Find(node.children.front(), Negate(wanted), assumption, live);
  }
  if (node.kind != FilterNode::Kind::kAnd && node.kind != FilterNode::Kind::kOr) {
    if (is_indexed_[node.column]) return columns_[node.column].Select(node, wanted);
    return assumption == Assumption::kEverywhere ? live : RowSet();
  }
  // AND is true where all are, and false where one is; OR the other way round.
  const bool needs_all = (node.kind == FilterNode::Kind::kAnd) == (wanted == Truth::kTrue);
  RowSet rows = Find(node.children.front(), wanted, assumption, live);
  for (size_t i = 1; i < node.children.size(); ++i) {
    if (needs_all && rows.is_empty()) break;
    const RowSet more = Find(node.children[i], wanted, assumption, live);
    if (needs_all) {
      rows.And(more);
    } else {
      rows.Or(more);
    }
  }
  return rows;
}

FilterIndex::Selection FilterIndex::Select(const Filter& filter, const RowSet& live) const {
  Selection selection;
  const FilterNode& root = filter.root();
  selection.passing = Find(root, Truth::kTrue, Assumption::kNowhere, live);
  selection.passing.And(live);
  if (!IsIndexed(root)) {
    selection.undecided = Find(root, Truth::kTrue, Assumption::kEverywhere, live);
    selection.undecided.And(live);
    selection.undecided.AndNot(selection.passing);
  }
  return selection;
}

}  // namespace intarsia::query
