#include "query/column_index.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>

#include "base/check.h"

namespace intarsia::query {
namespace {

using index::RowSet;

// More runs than this are gathered in a plain bitmap, where each costs a few instructions.
constexpr size_t kFewEntries = 64;

bool IsLess(const Value& a, const Value& b) { return CompareValues(a, b) == Order::kLess; }

std::vector<uint64_t> ZeroWords(int64_t num_rows) {
  return std::vector<uint64_t>(static_cast<size_t>((num_rows + 63) / 64), 0);
}

void SetRun(int64_t begin, int64_t end, std::vector<uint64_t>* words) {
  for (int64_t row = begin; row < end; ++row) {
    (*words)[static_cast<size_t>(row / 64)] |= uint64_t{1} << (row % 64);
  }
}

}  // namespace

bool ColumnIndex::IsBefore(const Entry& a, const Entry& b) { return IsLess(a.value, b.value); }

void ColumnIndex::OrInto(const Entry& entry, RowSet* rows) {
  if (entry.rows != nullptr) {
    rows->Or(*entry.rows);
  } else {
    rows->AddRange(entry.begin, entry.end);
  }
}

void ColumnIndex::AddRows(const Entry& source, Entry* target) {
  if (source.rows == nullptr && target->rows == nullptr && target->end == source.begin) {
    target->end = source.end;
    return;
  }
  if (target->rows == nullptr) {
    target->rows = std::make_unique<RowSet>(target->begin, target->end);
  }
  OrInto(source, target->rows.get());
}

bool ColumnIndex::IsOrdered(const Value& value) const {
  switch (value.kind()) {
    case ValueKind::kDouble:
      if (std::isnan(value.AsDouble())) return false;
      break;
    case ValueKind::kNull:
    case ValueKind::kList:
    case ValueKind::kObject:
      return false;
    default:
      break;
  }
  return kind_ == ValueKind::kNull || kind_ == value.kind();
}

void ColumnIndex::AppendValue(const Value& value, int64_t end) {
  Entry entry;
  entry.value = value;
  entry.begin = static_cast<uint32_t>(num_rows_);
  entry.end = static_cast<uint32_t>(end);
  if (!IsOrdered(value)) {
    odd_.push_back(std::move(entry));
    return;
  }
  kind_ = value.kind();
  pending_.push_back(std::move(entry));
}

void ColumnIndex::Append(const Value& cell, int64_t end) {
  INTARSIA_CHECK(end > num_rows_ && end < RowSet::kRowsMax);
  if (!cell.is_null()) known_.AddRange(num_rows_, end);
  if (cell.kind() == ValueKind::kList) {
    lists_.AddRange(num_rows_, end);
    if (cell.AsList().empty()) empty_lists_.AddRange(num_rows_, end);
    for (const Value& member : cell.AsList()) {
      // Nothing is equal to a member without an order, so none is found by it.
      if (IsOrdered(member)) AppendValue(member, end);
    }
  } else if (!cell.is_null()) {
    if (IsOrdered(cell)) ordered_.AddRange(num_rows_, end);
    AppendValue(cell, end);
  }
  num_rows_ = end;
}

void ColumnIndex::Seal() {
  std::stable_sort(pending_.begin(), pending_.end(), IsBefore);
  std::vector<Entry> fresh;
  for (Entry& entry : pending_) {
    if (!fresh.empty() && !IsLess(fresh.back().value, entry.value)) {
      AddRows(entry, &fresh.back());
      continue;
    }
    const Interval there = EqualTo(entry.value);
    if (there.begin < there.end) {
      AddRows(entry, &entries_[there.begin]);
    } else {
      fresh.push_back(std::move(entry));
    }
  }
  std::exchange(pending_, std::vector<Entry>());
  if (!fresh.empty()) {
    std::vector<Entry> merged;
    merged.reserve(entries_.size() + fresh.size());
    std::merge(std::make_move_iterator(entries_.begin()), std::make_move_iterator(entries_.end()),
               std::make_move_iterator(fresh.begin()), std::make_move_iterator(fresh.end()),
               std::back_inserter(merged), IsBefore);
    entries_ = std::move(merged);
  }
  for (RowSet* rows : {&known_, &ordered_, &lists_, &empty_lists_}) rows->Compress();
}

int64_t ColumnIndex::memory_bytes() const {
  int64_t bytes = known_.memory_bytes() + ordered_.memory_bytes() + lists_.memory_bytes() +
                  empty_lists_.memory_bytes();
  for (const std::vector<Entry>* entries : {&entries_, &odd_}) {
    bytes += static_cast<int64_t>(entries->capacity() * sizeof(Entry));
    for (const Entry& entry : *entries) {
      if (entry.rows != nullptr) bytes += entry.rows->memory_bytes();
      if (entry.value.kind() == ValueKind::kString) {
        const std::string& text = entry.value.AsString();
        constexpr size_t kInside = 15;  // Shorter texts lie in the string itself.
        if (text.size() > kInside) bytes += static_cast<int64_t>(text.capacity());
      }
    }
  }
  return bytes;
}

ColumnIndex::Interval ColumnIndex::EqualTo(const Value& value) const {
  const auto less = [](const Entry& entry, const Value& bound) {
    return IsLess(entry.value, bound);
  };
  const auto greater = [](const Value& bound, const Entry& entry) {
    return IsLess(bound, entry.value);
  };
  const auto begin = std::lower_bound(entries_.begin(), entries_.end(), value, less);
  const auto end = std::upper_bound(begin, entries_.end(), value, greater);
  return {static_cast<size_t>(begin - entries_.begin()),
          static_cast<size_t>(end - entries_.begin())};
}

bool ColumnIndex::FindByOrder(const FilterNode& test, std::vector<Interval>* found) const {
  if (test.kind != FilterNode::Kind::kCompare && test.kind != FilterNode::Kind::kIn) return false;
  const Value& any = entries_.front().value;
  for (const Value& value : test.values) {
    if (value.is_null()) continue;
    if (CompareValues(any, value) == Order::kUnordered) return false;  // Then so are all.
    const Interval equal = EqualTo(value);
    if (test.kind == FilterNode::Kind::kIn) {
      found->push_back(equal);
      continue;
    }
    switch (test.op) {
      case CompareOp::kEqual:
        found->push_back(equal);
        break;
      case CompareOp::kNotEqual:
        found->push_back({0, equal.begin});
        found->push_back({equal.end, entries_.size()});
        break;
      case CompareOp::kLess:
        found->push_back({0, equal.begin});
        break;
      case CompareOp::kLessEqual:
        found->push_back({0, equal.end});
        break;
      case CompareOp::kGreater:
        found->push_back({equal.end, entries_.size()});
        break;
      case CompareOp::kGreaterEqual:
        found->push_back({equal.begin, entries_.size()});
        break;
    }
  }
  // IN may name values in any order and more than once.
  std::sort(found->begin(), found->end(), [](const Interval& a, const Interval& b) {
    return a.begin < b.begin || (a.begin == b.begin && a.end < b.end);
  });
  const auto same = [](const Interval& a, const Interval& b) {
    return a.begin == b.begin && a.end == b.end;
  };
  found->erase(std::unique(found->begin(), found->end(), same), found->end());
  return true;
}

std::vector<ColumnIndex::Interval> ColumnIndex::FindEntries(const FilterNode& test,
                                                            Truth wanted) const {
  std::vector<Interval> found;
  if (entries_.empty()) return found;
  if (FindByOrder(test, &found)) {
    if (test.is_negated) wanted = Negate(wanted);
    if (wanted == Truth::kTrue) return found;
    // What is not equal to NULL is unknown.
    const auto is_null = [](const Value& value) { return value.is_null(); };
    if (std::any_of(test.values.begin(), test.values.end(), is_null)) return {};
    std::vector<Interval> others;
    size_t begin = 0;
    for (const Interval& interval : found) {
      others.push_back({begin, interval.begin});
      begin = interval.end;
    }
    others.push_back({begin, entries_.size()});
    return others;
  }
  for (size_t i = 0; i < entries_.size(); ++i) {
    if (EvaluateTest(test, entries_[i].value) != wanted) continue;
    if (!found.empty() && found.back().end == i) {
      found.back().end = i + 1;
    } else {
      found.push_back({i, i + 1});
    }
  }
  return found;
}

RowSet ColumnIndex::UnionOf(const std::vector<Interval>& intervals) const {
  size_t count = 0;
  for (const Interval& interval : intervals) count += interval.end - interval.begin;
  RowSet rows;
  std::vector<uint64_t> words;
  if (count > kFewEntries) words = ZeroWords(num_rows_);
  for (const Interval& interval : intervals) {
    for (size_t i = interval.begin; i < interval.end; ++i) {
      const Entry& entry = entries_[i];
      if (count <= kFewEntries) {
        OrInto(entry, &rows);
      } else if (entry.rows != nullptr) {
        entry.rows->OrInto(words);
      } else {
        SetRun(entry.begin, entry.end, &words);
      }
    }
  }
  return count <= kFewEntries ? rows : RowSet::FromWords(words);
}

RowSet ColumnIndex::SelectLists(const FilterNode& test, bool is_true) const {
  if (test.is_negated) is_true = !is_true;
  RowSet rows;
  if (test.kind == FilterNode::Kind::kIsEmpty) {
    rows = empty_lists_;
  } else if (test.kind == FilterNode::Kind::kContains && !entries_.empty()) {
    rows = UnionOf({EqualTo(test.values.front())});
    rows.And(lists_);
  }
  if (is_true) return rows;
  RowSet others = lists_;
  others.AndNot(rows);
  return others;
}

RowSet ColumnIndex::Select(const FilterNode& test, Truth wanted) const {
  INTARSIA_CHECK(pending_.empty() && wanted != Truth::kUnknown);
  if (test.kind == FilterNode::Kind::kIsNull) {
    if ((wanted == Truth::kTrue) == test.is_negated) return known_;
    RowSet nulls(0, num_rows_);
    nulls.AndNot(known_);
    return nulls;
  }
  RowSet rows;
  if (!ordered_.is_empty()) {
    const std::vector<Interval> found = FindEntries(test, wanted);
    rows = UnionOf(found);
    if (!lists_.is_empty()) rows.And(ordered_);
  }
  if (!lists_.is_empty()) rows.Or(SelectLists(test, wanted == Truth::kTrue));
  for (const Entry& entry : odd_) {
    if (EvaluateTest(test, entry.value) == wanted) OrInto(entry, &rows);
  }
  return rows;
}

}  // namespace intarsia::query
