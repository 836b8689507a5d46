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
    is_live_.clear();
  }
  void Append(int count) {
    std::vector<Row> rows;
    for (int i = 0; i < count; ++i) rows.push_back(filters_->NextRow());
    EXPECT_EQ(index_->Append(rows), std::ssize(rows_));
    rows_.insert(rows_.end(), rows.begin(), rows.end());
    is_live_.resize(rows_.size(), true);
    index_->Seal();
  }
  void RemoveSome() {
    for (int i = filters_->Below(4); i > 0; --i) {
      const int begin = filters_->Below(static_cast<int>(rows_.size()));
      const int end = std::min(begin + filters_->Below(20), static_cast<int>(rows_.size()));
      index_->Remove(begin, end);
      for (int row = begin; row < end; ++row) is_live_[static_cast<size_t>(row)] = false;
    }
  }
  // What row by row evaluation says must lie between what is sure and what is possible.
  void Check(const std::string& condition) {
    const Outcome<Filter> filter = filters_->Bind(condition);
    ASSERT_TRUE(filter.ok()) << condition << ": " << filter.diagnostic().message;
    const FilterIndex::Selection selection = index_->Select(*filter);
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
  std::vector<bool> is_live_;
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
  index_->Append(rows);
  index_->Seal();
  rows_ = rows;
  is_live_.assign(rows.size(), true);
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
  const FilterIndex::Selection both = index_->Select(*filter);
  const Outcome<Filter> year = filters_->Bind("year = 4");
  EXPECT_TRUE(both.passing.is_empty());
  EXPECT_EQ(SetOf(both.undecided), SetOf(index_->Select(*year).passing));
  const Outcome<Filter> either = filters_->Bind("year = 4 OR content LIKE '%a%'");
  EXPECT_EQ(SetOf(index_->Select(*either).passing), SetOf(index_->Select(*year).passing));
}

TEST_F(FilterIndexTest, AnEmptyIndexSelectsNothing) {
  Create(1);
  for (int i = 0; i < 50; ++i) {
    const Outcome<Filter> filter = filters_->Bind(filters_->NextCondition(2));
    const FilterIndex::Selection selection = index_->Select(*filter);
    EXPECT_TRUE(selection.passing.is_empty() && selection.undecided.is_empty());
  }
}

}  // namespace
}  // namespace intarsia::query
