#include "index/binary_index.h"

#include <algorithm>
#include <cmath>
#include <set>

#include <gtest/gtest.h>

#include "tests/index/clustered_vectors.h"
#include "tests/index/filter_of.h"

namespace intarsia::index {
namespace {

struct Indexes {
  ClusteredVectors data;
  std::unique_ptr<FlatIndex> flat;
  std::unique_ptr<BinaryIndex> binary;
};

Indexes MakeIndexes(int64_t num_rows, int64_t dim, int64_t num_queries, int32_t bits,
                    uint32_t seed = 1) {
  Indexes made{MakeClusteredVectors(num_rows, dim, num_queries, seed),
               *FlatIndex::Create({.dim = dim, .metric = Metric::kCosine}), nullptr};
  EXPECT_TRUE(made.flat->Add(made.data.ids, made.data.rows).ok());
  made.binary = *BinaryIndex::Build(*made.flat, {.bits = bits}, nullptr);
  return made;
}

struct Recall {
  double recall = 0.0;
  double rescored_mean = 0.0;
};

Recall MeasureRecall(const Indexes& made, int64_t k, SlotFilter filter,
                     const BinarySearchOptions& options) {
  int64_t num_found = 0;
  int64_t num_wanted = 0;
  int64_t num_rescored = 0;
  for (int64_t i = 0; i < made.data.num_queries; ++i) {
    const SearchParams params{.query = made.data.query(i), .k = k, .filter = filter};
    const auto exact = made.flat->Search(params);
    const auto result = made.binary->Search(*made.flat, params, options);
    EXPECT_TRUE(exact.ok() && result.ok()) << result.status();
    num_rescored += result->num_rescored;
    num_wanted += static_cast<int64_t>(exact->size());
    for (const SearchHit& hit : result->hits) {
      num_found += std::count(exact->begin(), exact->end(), hit);
    }
  }
  return {static_cast<double>(num_found) / static_cast<double>(num_wanted),
          static_cast<double>(num_rescored) / static_cast<double>(made.data.num_queries)};
}

class BinaryIndexRecallTest : public testing::TestWithParam<std::pair<int64_t, int32_t>> {};

TEST_P(BinaryIndexRecallTest, NearlyAllExactHitsAreFoundAfterRescoring) {
  const auto [dim, bits] = GetParam();
  const Indexes made = MakeIndexes(20'000, dim, 50, bits);
  const Recall all = MeasureRecall(made, 10, {}, {});
  RecordProperty("recall_at_10", std::to_string(all.recall));
  RecordProperty("rescored_mean", std::to_string(all.rescored_mean));
  std::printf("dim=%lld bits=%d recall@10=%.4f rescored=%.0f of 20000\n",
              static_cast<long long>(dim), bits, all.recall, all.rescored_mean);
  EXPECT_GE(all.recall, 0.99);
  EXPECT_LT(all.rescored_mean, 20'000 * 0.15);

  // A selective filter has the same recall.
  std::vector<uint64_t> allowed;
  for (size_t i = 0; i < made.data.ids.size(); i += 50) allowed.push_back(made.data.ids[i]);
  EXPECT_GE(MeasureRecall(made, 10, FilterOf(*made.flat, allowed), {}).recall, 0.99);
}

INSTANTIATE_TEST_SUITE_P(Sizes, BinaryIndexRecallTest,
                         testing::Values(std::pair{int64_t{384}, 1}, std::pair{int64_t{384}, 2},
                                         std::pair{int64_t{768}, 1}, std::pair{int64_t{768}, 2}));

TEST(BinaryIndexTest, EstimatesAreUnbiasedAndTheirErrorIsKnown) {
  const std::vector<std::pair<int32_t, int32_t>> choices = {{1, 4}, {2, 4}, {1, 1}, {2, 1}};
  for (const auto& [bits, query_bits] : choices) {
    for (const int64_t dim : {100, 384, 768}) {
      SCOPED_TRACE(testing::Message()
                   << "bits=" << bits << " query_bits=" << query_bits << " dim=" << dim);
      const Indexes made = MakeIndexes(2'000, dim, 20, bits);
      double sum = 0.0;
      double square_sum = 0.0;
      int64_t num_beyond = 0;
      int64_t count = 0;
      for (int64_t i = 0; i < made.data.num_queries; ++i) {
        const auto estimates = made.binary->EstimateAll(*made.flat, made.data.query(i), query_bits);
        ASSERT_TRUE(estimates.ok());
        for (int64_t slot = 0; slot < made.flat->size(); ++slot) {
          double exact = 0.0;
          for (size_t d = 0; d < static_cast<size_t>(dim); ++d) {
            exact += double{made.data.query(i)[d]} * made.flat->row(slot)[d];
          }
          const auto at = static_cast<size_t>(slot);
          const double error = (estimates->scores[at] - exact) / estimates->standard_errors[at];
          sum += error;
          square_sum += error * error;
          num_beyond += std::fabs(error) > 3.0 ? 1 : 0;
          ++count;
        }
      }
      const auto total = static_cast<double>(count);
      EXPECT_LT(std::fabs(sum / total), 0.1);
      // With a query of one bit the error is known to be at most so large.
      EXPECT_LT(std::sqrt(square_sum / total), 1.15);
      EXPECT_GT(std::sqrt(square_sum / total), query_bits == 1 ? 0.6 : 0.85);
      EXPECT_LT(static_cast<double>(num_beyond) / total, query_bits == 1 ? 0.02 : 0.01);
    }
  }
}

TEST(BinaryIndexTest, AWideErrorBoundGivesExactlyTheExactHits) {
  const Indexes made = MakeIndexes(3'000, 96, 20, 1);
  const Recall recall = MeasureRecall(made, 25, {}, {.error_bound = 8.0F});
  EXPECT_EQ(recall.recall, 1.0);
  EXPECT_EQ(MeasureRecall(made, 25, {}, {.error_bound = 8.0F, .query_bits = 1}).recall, 1.0);
}

TEST(BinaryIndexTest, AQueryOfOneBitIsRefinedBeforeVectorsAreCompared) {
  for (const int32_t bits : {1, 2}) {
    const Indexes made = MakeIndexes(20'000, 384, 20, bits);
    const Recall rounded = MeasureRecall(made, 10, {}, {.query_bits = 1});
    const Recall four = MeasureRecall(made, 10, {}, {});
    EXPECT_GE(rounded.recall, 0.99);
    // The second estimate leaves as few as a scan with four bits does.
    EXPECT_LT(rounded.rescored_mean, four.rescored_mean * 1.1 + 64);
    const SearchParams params{.query = made.data.query(0), .k = 10};
    EXPECT_GT(made.binary->Search(*made.flat, params, {.query_bits = 1})->num_prospects,
              made.binary->Search(*made.flat, params, {})->num_prospects);
  }
}

TEST(BinaryIndexTest, ThreadsDoNotChangeTheResult) {
  const Indexes made = MakeIndexes(40'000, 64, 5, 2);
  ThreadPool pool(3);
  const auto rebuilt = BinaryIndex::Build(*made.flat, {.bits = 2}, &pool);
  ASSERT_TRUE(rebuilt.ok());
  for (int64_t i = 0; i < made.data.num_queries; ++i) {
    SearchParams params{.query = made.data.query(i), .k = 10};
    const auto alone = made.binary->Search(*made.flat, params, {});
    params.pool = &pool;
    const auto shared = (*rebuilt)->Search(*made.flat, params, {});
    ASSERT_TRUE(alone.ok() && shared.ok());
    EXPECT_EQ(alone->hits, shared->hits);
    EXPECT_EQ(alone->num_rescored, shared->num_rescored);
    EXPECT_EQ(shared->num_scanned, made.flat->size());
  }
}

TEST(BinaryIndexTest, TruncatedCandidatesAreReported) {
  const Indexes made = MakeIndexes(5'000, 64, 3, 1);
  const SearchParams params{.query = made.data.query(0), .k = 10};
  const auto few =
      made.binary->Search(*made.flat, params, {.error_bound = 3.0F, .candidates_max = 20});
  ASSERT_TRUE(few.ok());
  EXPECT_EQ(few->num_rescored, 20);
  EXPECT_TRUE(few->is_truncated);
  EXPECT_EQ(few->hits.size(), 10U);
  const auto all = made.binary->Search(*made.flat, params, {});
  EXPECT_FALSE(all->is_truncated);
}

TEST(BinaryIndexTest, AFilterCountsOnlyWhatPasses) {
  const Indexes made = MakeIndexes(5'000, 64, 1, 1);
  const SearchParams base{.query = made.data.query(0), .k = 10};
  for (const size_t step : {1U, 7U, 1'000U, 6'000U}) {
    std::vector<uint64_t> allowed;
    for (size_t i = 0; i < made.data.ids.size(); i += step) allowed.push_back(made.data.ids[i]);
    const auto filter = FilterOf(*made.flat, allowed);
    SearchParams params = base;
    params.filter = filter;
    const auto result = made.binary->Search(*made.flat, params, {});
    ASSERT_TRUE(result.ok());
    EXPECT_EQ(result->num_scanned, static_cast<int64_t>(allowed.size()));
    EXPECT_EQ(result->hits.size(), std::min<size_t>(10, allowed.size()));
    const std::set<uint64_t> wanted(allowed.begin(), allowed.end());
    for (const SearchHit& hit : result->hits) EXPECT_TRUE(wanted.contains(hit.id));
  }
  SearchParams none = base;
  const auto empty_filter = FilterOf(*made.flat, {});
  none.filter = empty_filter;
  EXPECT_TRUE(made.binary->Search(*made.flat, none, {})->hits.empty());
}

TEST(BinaryIndexTest, FollowsAddsOfItsVectors) {
  Indexes made = MakeIndexes(1'000, 64, 20, 2);
  ClusteredVectors more = MakeClusteredVectors(333, 64, 1, 99);
  for (uint64_t& id : more.ids) id += 5'000'000;
  ASSERT_TRUE(made.flat->Add(more.ids, more.rows).ok());
  EXPECT_EQ(made.binary->Search(*made.flat, {.query = made.data.query(0)}, {}).status().code(),
            StatusCode::kInvalidArgument);
  ASSERT_TRUE(made.binary->Append(*made.flat, nullptr).ok());
  EXPECT_EQ(made.binary->size(), made.flat->size());
  EXPECT_EQ(MeasureRecall(made, 10, {}, {.error_bound = 8.0F}).recall, 1.0);
}

TEST(BinaryIndexTest, IdenticalVectorsAndTheCentreItselfAreFound) {
  auto flat = *FlatIndex::Create({.dim = 64, .metric = Metric::kInnerProduct});
  std::vector<float> rows(640, 0.5F);
  std::vector<uint64_t> ids(10);
  std::iota(ids.begin(), ids.end(), 0);
  ASSERT_TRUE(flat->Add(ids, rows).ok());
  const auto binary = BinaryIndex::Build(*flat, {}, nullptr);
  ASSERT_TRUE(binary.ok());
  const std::vector<float> query(64, 0.5F);
  const auto result = (*binary)->Search(*flat, {.query = query, .k = 3}, {});
  EXPECT_EQ(result->hits, (std::vector<SearchHit>{{0, 16.0F}, {1, 16.0F}, {2, 16.0F}}));
}

TEST(BinaryIndexTest, CodesThatAreThereAlreadyGiveTheSameResults) {
  for (const int32_t bits : {1, 2}) {
    const Indexes made = MakeIndexes(700, 100, 10, bits);
    const auto restored = BinaryIndex::Restore(made.binary->space(), 700);
    ASSERT_TRUE(restored.ok()) << restored.status();
    ASSERT_TRUE((*restored)->AppendBlocks(made.binary->CodeBlocks(0, 40), 320).ok());
    ASSERT_TRUE((*restored)->AppendBlocks(made.binary->CodeBlocks(40, 64), 192).ok());
    EXPECT_EQ((*restored)->size(), 512);
    ASSERT_TRUE((*restored)->Append(*made.flat, nullptr).ok());
    EXPECT_EQ((*restored)->num_fitted(), 700);
    EXPECT_EQ((*restored)->space(), made.binary->space());
    for (int64_t i = 0; i < made.data.num_queries; ++i) {
      const SearchParams params{.query = made.data.query(i), .k = 10};
      EXPECT_EQ((*restored)->Search(*made.flat, params, {})->hits,
                made.binary->Search(*made.flat, params, {})->hits);
    }
  }
}

TEST(BinaryIndexTest, MoreCodesThanMemoryAreAnError) {
  const Indexes made = MakeIndexes(40, 64, 1, 1);
  for (const int64_t num_rows : {INT64_MAX, INT64_MAX / 128, int64_t{1} << 56}) {
    EXPECT_EQ(BinaryIndex::Restore(made.binary->space(), num_rows).status().code(),
              StatusCode::kResourceExhausted)
        << num_rows;
  }
}

TEST(BinaryIndexTest, CodesThatDoNotFitAreRefused) {
  const Indexes made = MakeIndexes(40, 64, 1, 1);
  const auto restore = [&](const auto& change) {
    BinaryCodeSpace space = made.binary->space();
    change(&space);
    return BinaryIndex::Restore(space, 40).status().code();
  };
  EXPECT_EQ(restore([](auto* space) { space->bits = 3; }), StatusCode::kInvalidArgument);
  EXPECT_EQ(restore([](auto* space) { space->dim = 65; }), StatusCode::kInvalidArgument);
  EXPECT_EQ(restore([](auto* space) { space->num_fitted = -1; }), StatusCode::kInvalidArgument);
  EXPECT_EQ(restore([](auto* space) { space->center[3] = std::nanf(""); }),
            StatusCode::kInvalidArgument);
  const auto append = [&](const auto& change, int64_t num_rows) {
    auto restored = *BinaryIndex::Restore(made.binary->space(), 700);
    kernels::BinaryCodeBlocks blocks = made.binary->CodeBlocks(0, 5);
    change(&blocks);
    const Status status = restored->AppendBlocks(blocks, num_rows);
    EXPECT_EQ(restored->size(), status.ok() ? num_rows : 0);
    return status.code();
  };
  EXPECT_EQ(append([](auto*) {}, 40), StatusCode::kOk);
  EXPECT_EQ(append([](auto*) {}, 32), StatusCode::kInvalidArgument);
  EXPECT_EQ(append([](auto* blocks) { blocks->num_planes = 2; }, 40), StatusCode::kInvalidArgument);
  EXPECT_EQ(append([](auto* blocks) { blocks->num_words = 2; }, 40), StatusCode::kInvalidArgument);
  std::vector<float> factors(40, 1.0F);
  factors[17] = std::nanf("");
  EXPECT_EQ(append([&](auto* blocks) { blocks->scales = factors.data(); }, 40),
            StatusCode::kInvalidArgument);
  factors[17] = -1.0F;
  EXPECT_EQ(append([&](auto* blocks) { blocks->errors = factors.data(); }, 40),
            StatusCode::kInvalidArgument);
}

TEST(BinaryIndexTest, BadOptionsAreRefused) {
  const Indexes made = MakeIndexes(10, 64, 1, 1);
  const SearchParams params{.query = made.data.query(0)};
  const auto code = [&](const BinarySearchOptions& options) {
    return made.binary->Search(*made.flat, params, options).status().code();
  };
  EXPECT_EQ(code({.error_bound = -1.0F}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.error_bound = std::nanf("")}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.query_bits = 2}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.candidates_max = 0}), StatusCode::kInvalidArgument);
  EXPECT_EQ(BinaryIndex::Build(*made.flat, {.bits = 3}, nullptr).status().code(),
            StatusCode::kInvalidArgument);
  const auto empty = FlatIndex::Create({.dim = 8});
  EXPECT_EQ(BinaryIndex::Build(**empty, {}, nullptr).status().code(), StatusCode::kInvalidArgument);
}

// What many queries find at once, beside the same queries one by one.
TEST(BinaryIndexTest, ABatchFindsWhatItsQueriesFindAlone) {
  for (const int32_t bits : {1, 2}) {
    // More queries than one pass takes, and no whole number of groups.
    Indexes made = MakeIndexes(3'001, 100, 77, bits);
    std::vector<uint64_t> few;
    for (size_t i = 0; i < made.data.ids.size(); i += 37) few.push_back(made.data.ids[i]);
    const std::vector<uint64_t> filter = FilterOf(*made.flat, few);
    ThreadPool pool(3);
    const BinarySearchOptions options = {.error_bound = 100.0F};  // so that nothing is missed
    for (const SlotFilter passing : {SlotFilter(), SlotFilter(filter)}) {
      const BatchSearchParams params = {.queries = made.data.queries, .k = 7, .filter = passing};
      const auto alone = made.binary->SearchBatch(*made.flat, params, options);
      ASSERT_TRUE(alone.ok()) << alone.status();
      ASSERT_EQ(alone->size(), 77u);
      for (size_t i = 0; i < alone->size(); ++i) {
        const auto exact = made.flat->Search(
            {.query = made.data.query(static_cast<int64_t>(i)), .k = 7, .filter = passing});
        EXPECT_EQ((*alone)[i], *exact) << "query " << i;
      }
      BatchSearchParams shared = params;
      shared.pool = &pool;
      EXPECT_EQ(*made.binary->SearchBatch(*made.flat, shared, options), *alone);
    }
  }
}

TEST(BinaryIndexTest, ABatchHasTheRecallOfASearch) {
  const Indexes made = MakeIndexes(20'000, 384, 50, 1);
  const auto found = made.binary->SearchBatch(*made.flat, {.queries = made.data.queries}, {});
  ASSERT_TRUE(found.ok()) << found.status();
  int64_t num_found = 0;
  for (size_t i = 0; i < found->size(); ++i) {
    const auto exact = made.flat->Search({.query = made.data.query(static_cast<int64_t>(i))});
    for (const SearchHit& hit : *exact) {
      num_found += std::count((*found)[i].begin(), (*found)[i].end(), hit);
    }
  }
  EXPECT_GE(num_found, 495);
}

TEST(BinaryIndexTest, ABadBatchIsRefused) {
  const Indexes made = MakeIndexes(100, 64, 3, 1);
  const auto code_of = [&](const BatchSearchParams& params) {
    return made.binary->SearchBatch(*made.flat, params, {}).status();
  };
  EXPECT_TRUE(made.binary->SearchBatch(*made.flat, {}, {})->empty());
  const std::span<const float> queries = made.data.queries;
  EXPECT_EQ(code_of({.queries = queries.first(65)}).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(code_of({.queries = queries, .k = 0}).code(), StatusCode::kInvalidArgument);
  std::vector<float> spoilt = made.data.queries;
  spoilt[2 * 64 + 5] = std::numeric_limits<float>::quiet_NaN();
  const Status status = code_of({.queries = spoilt});
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(status.ToString().find("query=2"), std::string::npos) << status;
  std::fill(spoilt.begin(), spoilt.end(), 0.0F);
  EXPECT_EQ(code_of({.queries = spoilt}).code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace intarsia::index
