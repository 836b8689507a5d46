#include "query/filter_index.h"

#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/query/random_filters.h"

namespace intarsia::query {
namespace {

std::set<uint32_t> SetOf(const index::RowSet& rows) {
  const std::vector<uint32_t> list = rows.ToRows();
  return {list.begin(), list.end()};
}

// A filter index beside the plain rows that it is about.
class FilterIndexTest : public testing::Test {
 protected:
  // With `content` left out, as the engine does.
  void Create(uint32_t seed) {
    filters_.emplace(seed);
    std::vector<bool> is_indexed(filters_->schema().columns().size(), true);
    is_indexed[3] = false;
    index_.emplace(is_indexed);
    rows_.clear();
    live_ = index::RowSet();
    is_live_.clear();
  }
  void Append(int count) {
    std::vector<Row> rows;
    for (int i = 0; i < count; ++i) rows.push_back(filters_->NextRow());
    AppendRows(rows);
  }
  // Column by column, equal cells at once.
  void AppendRows(const std::vector<Row>& rows) {
    const size_t first = rows_.size();
    rows_.insert(rows_.end(), rows.begin(), rows.end());
    for (size_t column = 0; column < filters_->schema().columns().size(); ++column) {
      const auto number = static_cast<int64_t>(column);
      if (!index_->is_indexed(number)) continue;
      EXPECT_EQ(index_->num_rows(number), static_cast<int64_t>(first));
      for (size_t row = first; row < rows_.size(); ++row) {
        if (row + 1 < rows_.size() && rows_[row][column] == rows_[row + 1][column]) continue;
        index_->Append(number, rows_[row][column], static_cast<int64_t>(row) + 1);
      }
    }
    live_.AddRange(static_cast<int64_t>(first), std::ssize(rows_));
    is_live_.resize(rows_.size(), true);
    index_->Seal();
  }
  void RemoveSome() {
    for (int i = filters_->Below(4); i > 0; --i) {
      const int begin = filters_->Below(static_cast<int>(rows_.size()));
      const int end = std::min(begin + filters_->Below(20), static_cast<int>(rows_.size()));
      live_.RemoveRange(begin, end);
      for (int row = begin; row < end; ++row) is_live_[static_cast<size_t>(row)] = false;
    }
  }
  // What row by row evaluation says must lie between what is sure and what is possible.
  void Check(const std::string& condition) {
    const Outcome<Filter> filter = filters_->Bind(condition);
    ASSERT_TRUE(filter.ok()) << condition << ": " << filter.diagnostic().message;
    const FilterIndex::Selection selection = index_->Select(*filter, live_);
    const bool is_exact = condition.find("content") == std::string::npos;
    if (is_exact) {
      EXPECT_TRUE(selection.undecided.is_empty()) << condition;
    }
    for (size_t row = 0; row < rows_.size(); ++row) {
      const auto at = static_cast<int64_t>(row);
      const bool expected = is_live_[row] && filter->Matches(rows_[row]);
      if (selection.undecided.Contains(at)) {
        ASSERT_TRUE(is_live_[row] && !selection.passing.Contains(at))
            << condition << " row " << row;
      } else {
        ASSERT_EQ(selection.passing.Contains(at), expected) << condition << " row " << row;
      }
    }
  }

  std::optional<RandomFilters> filters_;
  std::optional<FilterIndex> index_;
  std::vector<Row> rows_;
  index::RowSet live_;
  std::vector<bool> is_live_;  // the same
};

TEST_F(FilterIndexTest, AgreesWithRowByRowEvaluationOnRandomConditions) {
  for (uint32_t seed = 1; seed <= 12; ++seed) {
    Create(seed);
    for (int step = 0; step < 4; ++step) {
      Append(1 + filters_->Below(120));
      RemoveSome();
      for (int i = 0; i < 60; ++i) Check(filters_->NextCondition(3));
      ASSERT_FALSE(HasFatalFailure()) << "seed " << seed;
    }
  }
}

TEST_F(FilterIndexTest, ManyDistinctValuesAgreeToo) {
  Create(7);
  // More runs than are joined one by one.
  std::vector<Row> rows;
  for (int i = 0; i < 3'000; ++i) {
    Row row = filters_->NextRow();
    row[static_cast<size_t>(filters_->schema().num_implicit()) + 1] = Value((i * 37) % 1'000);
    rows.push_back(row);
  }
  AppendRows(rows);
  for (const std::string condition :
       {"year < 500", "year >= 10 AND year <= 900", "year != 3", "NOT year = 3", "year > 998.5",
        "year BETWEEN -5 AND 2000", "year IN (1, 2, 3, 3, 2)", "year NOT IN (5, 6)",
        "year NOT IN (5, NULL)", "doc_id LIKE '%1%'"}) {
    Check(condition);
  }
}

TEST_F(FilterIndexTest, AnUnindexedTestDecidesOnlyWhatItMust) {
  Create(3);
  Append(200);
  const Outcome<Filter> filter = filters_->Bind("year = 4 AND content LIKE '%a%'");
  const FilterIndex::Selection both = index_->Select(*filter, live_);
  const Outcome<Filter> year = filters_->Bind("year = 4");
  EXPECT_TRUE(both.passing.is_empty());
  EXPECT_EQ(SetOf(both.undecided), SetOf(index_->Select(*year, live_).passing));
  const Outcome<Filter> either = filters_->Bind("year = 4 OR content LIKE '%a%'");
  EXPECT_EQ(SetOf(index_->Select(*either, live_).passing),
            SetOf(index_->Select(*year, live_).passing));
}

TEST_F(FilterIndexTest, AnEmptyIndexSelectsNothing) {
  Create(1);
  for (int i = 0; i < 50; ++i) {
    const Outcome<Filter> filter = filters_->Bind(filters_->NextCondition(2));
    const FilterIndex::Selection selection = index_->Select(*filter, live_);
    EXPECT_TRUE(selection.passing.is_empty() && selection.undecided.is_empty());
  }
}

}  // namespace
}  // namespace intarsia::query
