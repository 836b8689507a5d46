#include "index/row_set.h"

#include <random>
#include <set>
#include <vector>

#include <gtest/gtest.h>

namespace intarsia::index {
namespace {

std::set<uint32_t> SetOf(const RowSet& rows) {
  const std::vector<uint32_t> list = rows.ToRows();
  return {list.begin(), list.end()};
}

TEST(RowSetTest, AgreesWithAPlainSetOnRandomOperations) {
  constexpr int kRows = 200'000;  // several containers
  std::mt19937 random(5);
  RowSet rows;
  std::set<uint32_t> expected;
  for (int step = 0; step < 200; ++step) {
    const auto begin = static_cast<int64_t>(random() % kRows);
    const int64_t end = std::min<int64_t>(kRows, begin + static_cast<int64_t>(random() % 3'000));
    const RowSet range(begin, end);
    switch (random() % 4) {
      case 0:
      case 1:
        rows.AddRange(begin, end);
        for (int64_t row = begin; row < end; ++row) expected.insert(static_cast<uint32_t>(row));
        break;
      case 2:
        rows.AndNot(range);
        for (int64_t row = begin; row < end; ++row) expected.erase(static_cast<uint32_t>(row));
        break;
      default:
        rows.RemoveRange(begin, end);
        rows.Compress();
        for (int64_t row = begin; row < end; ++row) expected.erase(static_cast<uint32_t>(row));
    }
  }
  EXPECT_EQ(SetOf(rows), expected);
  EXPECT_EQ(rows.size(), std::ssize(expected));
  EXPECT_TRUE(RowSet::FromWords(rows.ToWords(kRows)) == rows);
  RowSet odd;
  for (int64_t row = 1; row < kRows; row += 2) odd.AddRange(row, row + 1);
  EXPECT_TRUE(RowSet::FromWords(odd.ToWords(kRows)) == odd);
  RowSet both = rows;
  both.And(odd);
  for (const uint32_t row : both.ToRows()) EXPECT_TRUE(row % 2 == 1 && expected.contains(row));
  both.Or(rows);
  EXPECT_TRUE(both == rows);
}

TEST(RowSetTest, BitmapsOfAnyLengthKeepTheirEnds) {
  for (const int64_t num_rows : {0, 1, 63, 64, 65, 128, 70'000}) {
    const RowSet all(0, num_rows);
    EXPECT_EQ(all.size(), num_rows);
    const std::vector<uint64_t> words = all.ToWords(num_rows);
    EXPECT_EQ(std::ssize(words), (num_rows + 63) / 64);
    EXPECT_TRUE(RowSet::FromWords(words) == all);
    // Rows behind the bitmap are left out.
    const std::vector<uint64_t> fewer = RowSet(0, num_rows + 1'000).ToWords(num_rows / 64 * 64);
    EXPECT_EQ(RowSet::FromWords(fewer).size(), num_rows / 64 * 64);
  }
  EXPECT_FALSE(RowSet(3, 5).Contains(-1));
  EXPECT_FALSE(RowSet(3, 5).Contains(RowSet::kRowsMax + 3));
  EXPECT_TRUE(RowSet(3, 5).Contains(4));
}

}  // namespace
}  // namespace intarsia::index
