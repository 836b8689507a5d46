#include "index/flat_index.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include <gtest/gtest.h>

#include "tests/index/clustered_vectors.h"
#include "tests/index/filter_of.h"

namespace intarsia::index {
namespace {

std::unique_ptr<FlatIndex> MakeIndex(int64_t dim, Metric metric = Metric::kCosine) {
  return *FlatIndex::Create({.dim = dim, .metric = metric});
}

// The definition: every vector, in double precision.
std::vector<uint64_t> ExactIds(const FlatIndex& index, std::span<const float> query, int64_t k,
                               const std::set<uint64_t>* allowed) {
  std::vector<std::pair<double, uint64_t>> scored;
  for (int64_t slot = 0; slot < index.size(); ++slot) {
    const uint64_t id = index.ids()[static_cast<size_t>(slot)];
    if (allowed != nullptr && !allowed->contains(id)) continue;
    double sum = 0.0;
    for (size_t i = 0; i < query.size(); ++i) sum += double{query[i]} * index.row(slot)[i];
    scored.emplace_back(-sum, id);
  }
  std::sort(scored.begin(), scored.end());
  std::vector<uint64_t> ids;
  for (size_t i = 0; i < std::min(scored.size(), static_cast<size_t>(k)); ++i) {
    ids.push_back(scored[i].second);
  }
  return ids;
}

std::vector<uint64_t> IdsOf(const std::vector<SearchHit>& hits) {
  std::vector<uint64_t> ids;
  ids.reserve(hits.size());
  for (const SearchHit& hit : hits) ids.push_back(hit.id);
  return ids;
}

TEST(FlatIndexTest, FindsTheNearestVectorsInOrder) {
  const ClusteredVectors data = MakeClusteredVectors(3'000, 40, 5, 1);
  auto index = MakeIndex(40);
  ASSERT_TRUE(index->Add(data.ids, data.rows).ok());
  for (int64_t i = 0; i < data.num_queries; ++i) {
    const auto hits = index->Search({.query = data.query(i), .k = 20});
    ASSERT_TRUE(hits.ok()) << hits.status();
    EXPECT_EQ(IdsOf(*hits), ExactIds(*index, data.query(i), 20, nullptr));
    EXPECT_TRUE(std::is_sorted(hits->begin(), hits->end(), IsBetter));
  }
}

TEST(FlatIndexTest, ThreadsAndFiltersDoNotChangeABit) {
  const ClusteredVectors data = MakeClusteredVectors(40'000, 16, 3, 2);
  auto index = MakeIndex(16);
  ASSERT_TRUE(index->Add(data.ids, data.rows).ok());
  ThreadPool pool(3);
  const std::vector<uint64_t> all = FilterOf(*index, data.ids);
  for (int64_t i = 0; i < data.num_queries; ++i) {
    SearchParams params{.query = data.query(i), .k = 50};
    const auto alone = index->Search(params);
    params.pool = &pool;
    const auto shared = index->Search(params);
    params.filter = all;
    const auto filtered = index->Search(params);
    ASSERT_TRUE(alone.ok() && shared.ok() && filtered.ok());
    EXPECT_EQ(*alone, *shared);
    EXPECT_EQ(*alone, *filtered);
  }
}

TEST(FlatIndexTest, AFilterIsAppliedBeforeTheBestAreChosen) {
  const ClusteredVectors data = MakeClusteredVectors(5'000, 24, 4, 3);
  auto index = MakeIndex(24);
  ASSERT_TRUE(index->Add(data.ids, data.rows).ok());
  std::vector<uint64_t> allowed;
  for (size_t i = 0; i < data.ids.size(); i += 97) allowed.push_back(data.ids[i]);
  allowed.push_back(42);  // Not in the index.
  const std::set<uint64_t> allowed_set(allowed.begin(), allowed.end());
  const std::vector<uint64_t> filter = FilterOf(*index, allowed);
  for (int64_t i = 0; i < data.num_queries; ++i) {
    const auto hits = index->Search({.query = data.query(i), .k = 10, .filter = filter});
    ASSERT_TRUE(hits.ok());
    EXPECT_EQ(IdsOf(*hits), ExactIds(*index, data.query(i), 10, &allowed_set));
  }
}

TEST(FlatIndexTest, FewerThanKAreReturnedIfFewerPass) {
  auto index = MakeIndex(2);
  const std::vector<float> query = {1.0F, 0.0F};
  EXPECT_TRUE(index->Search({.query = query, .k = 3})->empty());
  ASSERT_TRUE(index->Add(std::vector<uint64_t>{7, 8}, std::vector<float>{1, 0, 0, 1}).ok());
  EXPECT_EQ(index->Search({.query = query, .k = 3})->size(), 2U);
  EXPECT_TRUE(index->Search({.query = query, .k = 3, .filter = FilterOf(*index, {})})->empty());
}

TEST(FlatIndexTest, EqualScoresAreOrderedById) {
  auto index = MakeIndex(2);
  const std::vector<float> rows = {1, 0, 1, 0, 1, 0, 0, 1};
  ASSERT_TRUE(index->Add(std::vector<uint64_t>{30, 10, 20, 5}, rows).ok());
  const auto hits = index->Search({.query = std::vector<float>{2.0F, 0.0F}, .k = 3});
  EXPECT_EQ(IdsOf(*hits), (std::vector<uint64_t>{10, 20, 30}));
  EXPECT_EQ((*hits)[0].score, 1.0F);  // The cosine, whatever the lengths.
}

TEST(FlatIndexTest, InnerProductKeepsLengths) {
  auto index = MakeIndex(2, Metric::kInnerProduct);
  ASSERT_TRUE(index->Add(std::vector<uint64_t>{1, 2}, std::vector<float>{1, 0, 5, 5}).ok());
  const auto hits = index->Search({.query = std::vector<float>{2.0F, 0.0F}, .k = 1});
  EXPECT_EQ(*hits, (std::vector<SearchHit>{{2, 10.0F}}));
}

// Vectors of one index, as they lie elsewhere, for another.
struct Elsewhere {
  std::vector<float> rows;
  std::vector<uint64_t> checksums;

  explicit Elsewhere(const FlatIndex& index) {
    for (int64_t slot = 0; slot < index.size(); ++slot) {
      const std::span<const float> row = index.row(slot);
      rows.insert(rows.end(), row.begin(), row.end());
      checksums.push_back(index.row_checksum(slot));
    }
  }
  ForeignRows Of(int64_t begin, int64_t count, int64_t dim) const {
    return {.rows = rows.data() + begin * dim,
            .checksums = checksums.data() + begin,
            .num_rows = count,
            .owner = nullptr};
  }
};

TEST(FlatIndexTest, VectorsThatLieElsewhereAreFoundLikeOthers) {
  const ClusteredVectors data = MakeClusteredVectors(1'000, 24, 5, 6);
  auto whole = MakeIndex(24);
  ASSERT_TRUE(whole->Add(data.ids, data.rows).ok());
  const Elsewhere elsewhere(*whole);
  for (const int64_t page_rows : {8, 64, 256}) {
    auto index = *FlatIndex::Create({.dim = 24, .page_rows = page_rows});
    const std::span<const uint64_t> ids(data.ids);
    // The first pages from elsewhere, the rest of its own, of which some move away later.
    ASSERT_TRUE(index->AddForeign(ids.first(512), elsewhere.Of(0, 512, 24)).ok());
    ASSERT_TRUE(index->Add(ids.subspan(512), std::span(data.rows).subspan(512 * 24)).ok());
    const std::vector<uint64_t> filter = FilterOf(*index, ids.subspan(3, 600));
    const auto compare = [&] {
      for (int64_t i = 0; i < data.num_queries; ++i) {
        SearchParams params{.query = data.query(i), .k = 30};
        EXPECT_EQ(*index->Search(params), *whole->Search(params));
        params.filter = filter;
        EXPECT_EQ(*index->Search(params), *whole->Search(params));
      }
    };
    compare();
    EXPECT_EQ(index->num_foreign(), 512);
    ASSERT_TRUE(index->MoveTo(256, elsewhere.Of(256, 512, 24)).ok());
    EXPECT_EQ(index->num_foreign(), 768);
    compare();
    EXPECT_LT(index->memory_bytes(), whole->memory_bytes() / 2);
  }
}

TEST(FlatIndexTest, ADamagedVectorElsewhereIsNeverAnsweredFrom) {
  const ClusteredVectors data = MakeClusteredVectors(64, 8, 1, 7);
  auto whole = MakeIndex(8);
  ASSERT_TRUE(whole->Add(data.ids, data.rows).ok());
  for (size_t slot = 0; slot < 64; slot += 9) {
    Elsewhere elsewhere(*whole);
    auto index = *FlatIndex::Create({.dim = 8, .page_rows = 16});
    ASSERT_TRUE(index->AddForeign(data.ids, elsewhere.Of(0, 64, 8)).ok());
    elsewhere.rows[slot * 8 + 3] += 0.25F;
    const std::vector<uint64_t> others = FilterOf(*index, std::span(data.ids).first(slot));
    // As long as it is not read, nobody knows.
    EXPECT_TRUE(index->Search({.query = data.query(0), .k = 3, .filter = others}).ok());
    EXPECT_FALSE(index->is_damaged());
    EXPECT_EQ(index->Search({.query = data.query(0), .k = 3}).status().code(),
              StatusCode::kCorruption);
    EXPECT_TRUE(index->is_damaged());
    const std::span<const float> row = index->row(static_cast<int64_t>(slot));
    EXPECT_EQ(std::count(row.begin(), row.end(), 0.0F), 8);
    EXPECT_EQ(index->Search({.query = data.query(0), .k = 3, .filter = others}).status().code(),
              StatusCode::kCorruption);
  }
}

TEST(FlatIndexTest, VectorsElsewhereMustBeWholePages) {
  const ClusteredVectors data = MakeClusteredVectors(64, 8, 1, 7);
  auto whole = MakeIndex(8);
  ASSERT_TRUE(whole->Add(data.ids, data.rows).ok());
  const Elsewhere elsewhere(*whole);
  auto index = *FlatIndex::Create({.dim = 8, .page_rows = 16});
  const std::span<const uint64_t> ids(data.ids);
  const auto code = [](const Status& status) { return status.code(); };
  EXPECT_EQ(code(index->AddForeign(ids.first(8), elsewhere.Of(0, 8, 8))),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(code(index->AddForeign(ids.first(32), elsewhere.Of(0, 16, 8))),
            StatusCode::kInvalidArgument);
  ASSERT_TRUE(index->Add(ids.first(20), std::span(data.rows).first(160)).ok());
  EXPECT_EQ(code(index->AddForeign(ids.subspan(16, 16), elsewhere.Of(16, 16, 8))),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(code(index->MoveTo(8, elsewhere.Of(0, 16, 8))), StatusCode::kInvalidArgument);
  EXPECT_EQ(code(index->MoveTo(16, elsewhere.Of(16, 16, 8))), StatusCode::kInvalidArgument);
  EXPECT_TRUE(index->MoveTo(0, elsewhere.Of(0, 16, 8)).ok());
  for (const int64_t page_rows : {0, 4, 24, 1 << 30}) {
    EXPECT_EQ(FlatIndex::Create({.dim = 8, .page_rows = page_rows}).status().code(),
              StatusCode::kInvalidArgument);
  }
}

TEST(FlatIndexTest, BadVectorsAreRefusedWholeWithTheirId) {
  auto index = MakeIndex(2);
  const auto add = [&](std::vector<uint64_t> ids, std::vector<float> rows) {
    Status status = index->Add(ids, rows);
    EXPECT_EQ(index->size(), 0);
    return status;
  };
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Status status = add({1, 77}, {1, 0, nan, 1});
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("id=77"), std::string_view::npos);
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(add({1}, {infinity, 0}).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(add({1}, {0, 0}).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(add({1}, {1e30F, 0}).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(add({1}, {1, 2, 3}).code(), StatusCode::kInvalidArgument);
}

TEST(FlatIndexTest, BadSearchesAreRefused) {
  auto index = MakeIndex(2);
  std::vector<uint64_t> ids(100);
  std::vector<float> rows(200, 1.0F);
  std::iota(ids.begin(), ids.end(), 0);
  ASSERT_TRUE(index->Add(ids, rows).ok());
  const std::vector<float> query = {1.0F, 0.0F};
  const auto code = [&](const SearchParams& params) {
    return index->Search(params).status().code();
  };
  EXPECT_EQ(code({.query = query, .k = 0}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.query = query, .k = 1'000'001}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.query = std::span(query).first(1)}), StatusCode::kInvalidArgument);
  const std::vector<float> zero = {0.0F, 0.0F};
  EXPECT_EQ(code({.query = zero}), StatusCode::kInvalidArgument);
  const std::vector<uint64_t> short_filter = {1};
  EXPECT_EQ(code({.query = query, .filter = short_filter}), StatusCode::kInvalidArgument);
  EXPECT_EQ(FlatIndex::Create({.dim = 0}).status().code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace intarsia::index
