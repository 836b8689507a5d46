#include "kernels/attention_cuda_plan.h"

#include <algorithm>
#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/attention_shares.h"
#include "kernels/attention_work.h"
#include "tests/kernels/attention_rows_cases.h"

namespace intarsia::kernels {
namespace {

AttentionRowsCudaParams ParamsOf(const AttentionRowsCase& problem, int64_t page_table_stride) {
  const int64_t max_position =
      *std::max_element(problem.positions.begin(), problem.positions.end());
  return {.layer = {.num_pages = NumPagesFor(max_position + 1),
                    .num_tokens = max_position + 1,
                    .num_kv_heads = problem.num_kv_heads,
                    .head_dim = problem.head_dim},
          .page_table_stride = page_table_stride,
          .positions = problem.positions.data(),
          .num_rows = static_cast<int64_t>(problem.positions.size()),
          .max_position = max_position,
          .num_heads = problem.num_heads,
          .scale = 1.0F,
          .window = problem.window};
}

constexpr int32_t kTileQueries = 64;
constexpr int32_t kTileKeys = 32;

struct Plan {
  AttentionProblem problem;
  AttentionLaunch launch;
  AttentionArguments args;
};

Plan PlanOf(const AttentionRowsCudaParams& params, int32_t num_multiprocessors) {
  Plan plan;
  plan.problem = DescribeAttention(params, 80, num_multiprocessors);
  plan.launch =
      PlanAttentionLaunch(plan.problem, {AttentionKernel::kPrefill, kTileQueries, kTileKeys});
  plan.args = MakeAttentionArguments(params, plan.problem, plan.launch);
  return plan;
}

// How often the items of a plan compute the scores of each query, (row, head), with each key.
class PairCounts {
 public:
  explicit PairCounts(const AttentionRowsCase& problem)
      : problem_(problem),
        num_keys_(*std::max_element(problem.positions.begin(), problem.positions.end()) + 1),
        counts_(problem.positions.size() * static_cast<size_t>(problem.num_heads) *
                static_cast<size_t>(num_keys_)) {}

  // Counts what an item computes of what is visible.
  template <int kQueries, int kKeys>
  void Add(const AttentionArguments& args, const AttentionWork& work) {
    for (int32_t i = 0; i < kQueries; ++i) {
      const int32_t query = work.first_query + i;
      if (query >= args.queries_per_sequence) break;
      const int64_t index = OffsetOfQuery(args, work, query) / args.layer.head_dim;
      const VisibleKeys visible =
          VisibleKeysOf(args, args.positions[RowOfQuery(args, work, query)], 0);
      for (int32_t key = work.key_tile_begin * kKeys; key < work.key_tile_end * kKeys; ++key) {
        if (visible.Has(key)) ++counts_[static_cast<size_t>(index * num_keys_ + key)];
      }
    }
  }

  void ExpectEveryVisibleKeyOnce() const {
    for (size_t query = 0; query < counts_.size() / static_cast<size_t>(num_keys_); ++query) {
      const int32_t position = problem_.positions[query / static_cast<size_t>(problem_.num_heads)];
      const int32_t first = problem_.window > 0 ? std::max(0, position - problem_.window + 1) : 0;
      for (int32_t key = 0; key < num_keys_; ++key) {
        const uint8_t expected = key >= first && key <= position ? 1 : 0;
        ASSERT_EQ(counts_[query * static_cast<size_t>(num_keys_) + static_cast<size_t>(key)],
                  expected)
            << problem_.name << " query " << query << " key " << key;
      }
    }
  }

 private:
  const AttentionRowsCase& problem_;
  const int32_t num_keys_;
  std::vector<uint8_t> counts_;
};

void ExpectEveryVisibleKeyOnce(const AttentionRowsCase& problem, int64_t page_table_stride,
                               int32_t num_multiprocessors) {
  const Plan plan = PlanOf(ParamsOf(problem, page_table_stride), num_multiprocessors);
  SCOPED_TRACE(plan.launch.ToString());
  PairCounts counts(problem);
  for (int32_t item = 0; item < plan.args.num_items; ++item) {
    counts.Add<kTileQueries, kTileKeys>(plan.args,
                                        WorkOfItem<kTileQueries, kTileKeys>(plan.args, item));
  }
  counts.ExpectEveryVisibleKeyOnce();
}

TEST(AttentionCudaPlanTest, EveryQueryMeetsEveryKeyThatItSeesOnce) {
  for (const int32_t num_multiprocessors : {1, 20, 132}) {
    for (const int32_t window : {0, 1, 100}) {
      ExpectEveryVisibleKeyOnce({.name = "dense",
                                 .num_heads = 9,
                                 .num_kv_heads = 3,
                                 .positions = PositionRange(0, 130),
                                 .window = window},
                                0, num_multiprocessors);
      ExpectEveryVisibleKeyOnce({.name = "scattered",
                                 .num_heads = 14,
                                 .num_kv_heads = 2,
                                 .positions = ScatteredPositions(40, 900),
                                 .window = window},
                                0, num_multiprocessors);
      ExpectEveryVisibleKeyOnce({.name = "batch",
                                 .num_heads = 4,
                                 .num_kv_heads = 2,
                                 .positions = {700, 0, 127, 128, 1'400, 63},
                                 .window = window},
                                11, num_multiprocessors);
    }
  }
}

TEST(AttentionCudaPlanTest, TilesWithMostKeysComeFirst) {
  const AttentionRowsCase problem{.name = "long",
                                  .num_heads = 8,
                                  .num_kv_heads = 2,
                                  .positions = ScatteredPositions(300, 4'000)};
  const Plan plan = PlanOf(ParamsOf(problem, 0), 1);
  int32_t last = INT32_MAX;
  for (int32_t item = 0; item < plan.args.num_items; ++item) {
    const auto work = WorkOfItem<kTileQueries, kTileKeys>(plan.args, item);
    EXPECT_LE(work.key_tile_end, last);
    last = work.key_tile_end;
  }
}

TEST(AttentionCudaPlanTest, BlocksThatStayGetEveryItemOnceAndNearlyEqualSums) {
  constexpr int32_t kNumBlocks = 132;
  for (const int32_t num_items : {1, 131, 132, 133, 5'000}) {
    std::set<int32_t> items;
    int64_t least = INT64_MAX;
    int64_t most = 0;
    for (int32_t block = 0; block < std::min(num_items, kNumBlocks); ++block) {
      int64_t sum = 0;
      for (int32_t turn = 0;; ++turn) {
        const int32_t item = ItemOfTurn(turn, block, std::min(num_items, kNumBlocks));
        if (item >= num_items) break;
        EXPECT_TRUE(items.insert(item).second);
        sum += num_items - item;
      }
      least = std::min(least, sum);
      most = std::max(most, sum);
    }
    EXPECT_EQ(items.size(), static_cast<size_t>(num_items));
    if (num_items == 5'000) {
      EXPECT_LT(most - least, num_items / 20 + kNumBlocks);
    }
  }
}

// A block takes its turns in order, so it stops at its first item that does not exist: none may
// follow.
TEST(AttentionCudaPlanTest, NoItemFollowsOneThatDoesNotExist) {
  for (const int32_t num_items : {1, 5, 7, 12, 13}) {
    for (int32_t block = 0; block < 5; ++block) {
      bool is_over = false;
      for (int32_t turn = 0; turn < 6; ++turn) {
        const bool exists = ItemOfTurn(turn, block, 5) < num_items;
        EXPECT_FALSE(is_over && exists);
        is_over = !exists;
      }
    }
  }
}

TEST(AttentionCudaPlanTest, FewTilesAreCutIntoPartsThatFillTheDevice) {
  const AttentionRowsCase decode{
      .name = "decode", .num_heads = 32, .num_kv_heads = 8, .head_dim = 128, .positions = {65'535}};
  const AttentionProblem problem = DescribeAttention(ParamsOf(decode, 0), 90, 132);
  const AttentionConfig config = ChooseAttentionConfig(problem);
  EXPECT_EQ(config.kernel, AttentionKernel::kDecode) << config.ToString();
  const AttentionLaunch launch = PlanAttentionLaunch(problem, config);
  EXPECT_EQ(launch.num_splits, 33) << launch.ToString();
  EXPECT_EQ(launch.num_items, 8 * 33);
  EXPECT_GE(launch.workspace_bytes, 33 * 32 * (128 + 1) * 4);
}

TEST(AttentionCudaPlanTest, TheHopperKernelIsForHopperAndForManyQueries) {
  AttentionRowsCase problem{.name = "rows", .num_heads = 4, .positions = PositionRange(0, 300)};
  const auto kernel_for = [&](int32_t capability) {
    return ChooseAttentionConfig(DescribeAttention(ParamsOf(problem, 0), capability, 132)).kernel;
  };
  EXPECT_EQ(kernel_for(90), AttentionKernel::kHopper);
  EXPECT_EQ(kernel_for(80), AttentionKernel::kPrefill);
  EXPECT_EQ(kernel_for(100), AttentionKernel::kPrefill);
  problem.positions = PositionRange(0, 16);
  EXPECT_EQ(kernel_for(90), AttentionKernel::kPrefill);
  problem.positions = {7};
  EXPECT_EQ(kernel_for(90), AttentionKernel::kDecode);
}

// ---- Shares ----

constexpr int32_t kHopperTileKeys = 128;
constexpr int32_t kNumBlocks = 132;

// A block of one thread.
struct TeamOfOne {
  int32_t index = 0;
  int32_t size = 1;

  void Sync() const {}
  void LowerTo(int32_t* target, int32_t value) const { *target = std::min(*target, value); }
  void RaiseTo(int32_t* target, int32_t value) const { *target = std::max(*target, value); }
  void AddTo(int32_t* target, int32_t value) const { *target += value; }
};

struct SharedPlan {
  AttentionLaunch launch;
  AttentionArguments args;
  AttentionShares shares;
  std::vector<AttentionWork> items;
};

SharedPlan ShareOut(const AttentionRowsCase& problem) {
  const AttentionRowsCudaParams params = ParamsOf(problem, 0);
  const AttentionProblem described = DescribeAttention(params, 90, kNumBlocks);
  const AttentionConfig config = ChooseAttentionConfig(described);
  SharedPlan plan;
  plan.launch = PlanAttentionLaunch(described, config);
  EXPECT_TRUE(plan.launch.is_shared) << problem.name << " " << config.ToString();
  plan.args = MakeAttentionArguments(params, described, plan.launch);
  FillShares<kHopperTileQueries, kHopperTileKeys>(plan.args, kNumBlocks, TeamOfOne(), &plan.shares);
  for (int32_t item = 0; item < plan.shares.num_items; ++item) {
    plan.items.push_back(
        WorkOfShare<kHopperTileQueries, kHopperTileKeys>(plan.args, plan.shares, item));
  }
  return plan;
}

// Rows spread over [0, end), and a question at their end.
std::vector<int32_t> RowsAndQuestion(int32_t count, int32_t end) {
  std::vector<int32_t> positions = ScatteredPositions(count, end);
  for (int32_t i = 0; i < 64; ++i) positions.push_back(end + i);
  return positions;
}

std::vector<AttentionRowsCase> SharedCases() {
  std::vector<AttentionRowsCase> cases;
  for (const int32_t window : {0, 1'000}) {
    for (const int32_t count : {70, 285}) {
      cases.push_back(
          {.name = "rows " + std::to_string(count) + " window " + std::to_string(window),
           .num_heads = 32,
           .num_kv_heads = 8,
           .head_dim = 128,
           .positions = RowsAndQuestion(count, 1'300),
           .window = window});
    }
  }
  cases.push_back({.name = "one kv head",
                   .num_heads = 7,
                   .num_kv_heads = 1,
                   .head_dim = 64,
                   .positions = RowsAndQuestion(520, 1'700)});
  cases.push_back({.name = "equal positions",
                   .num_heads = 8,
                   .num_kv_heads = 8,
                   .head_dim = 64,
                   .positions = std::vector<int32_t>(500, 1'400)});
  return cases;
}

TEST(AttentionSharesTest, EveryQueryMeetsEveryKeyThatItSeesOnce) {
  for (const AttentionRowsCase& problem : SharedCases()) {
    const SharedPlan plan = ShareOut(problem);
    PairCounts counts(problem);
    for (const AttentionWork& work : plan.items) {
      counts.Add<kHopperTileQueries, kHopperTileKeys>(plan.args, work);
    }
    counts.ExpectEveryVisibleKeyOnce();
  }
}

TEST(AttentionSharesTest, PartsOfATileAreFoundByItsTable) {
  for (const AttentionRowsCase& problem : SharedCases()) {
    SCOPED_TRACE(problem.name);
    const SharedPlan plan = ShareOut(problem);
    EXPECT_LE(plan.shares.num_items, plan.launch.num_items);
    for (int32_t place = 0; place < plan.shares.num_tiles; ++place) {
      const int32_t tile = plan.shares.tile_at[place];
      const int32_t num_parts = plan.shares.num_parts[tile];
      EXPECT_LE(num_parts, plan.launch.num_splits);
      for (int32_t i = 0; i < num_parts * problem.num_kv_heads; ++i) {
        const int32_t item = plan.shares.first_item[place] + i;
        const AttentionWork& work = plan.items[static_cast<size_t>(item)];
        EXPECT_EQ(work.first_query, tile * kHopperTileQueries);
        EXPECT_EQ(work.kv_head, i % problem.num_kv_heads);
        EXPECT_EQ(work.num_parts, num_parts);
        EXPECT_EQ(work.item, item);
        EXPECT_LT(work.key_tile_begin, work.key_tile_end);
      }
    }
  }
}

TEST(AttentionSharesTest, LongTilesDoNotKeepOneBlockAtWork) {
  for (const int32_t count : {128, 285, 400}) {
    const SharedPlan plan = ShareOut({.name = "rows",
                                      .num_heads = 32,
                                      .num_kv_heads = 8,
                                      .head_dim = 128,
                                      .positions = RowsAndQuestion(count, 5'100)});
    int64_t total = 0;
    int64_t longest = 0;
    for (int32_t block = 0; block < kNumBlocks; ++block) {
      int64_t sum = 0;
      for (int32_t turn = 0; turn < 2; ++turn) {
        const int32_t item = ItemOfTurn(turn, block, kNumBlocks);
        if (item >= plan.shares.num_items) break;
        const AttentionWork& work = plan.items[static_cast<size_t>(item)];
        sum += work.key_tile_end - work.key_tile_begin;
      }
      total += sum;
      longest = std::max(longest, sum);
    }
    // A whole tile of the question has 41 tiles of keys.
    EXPECT_LE(static_cast<double>(longest), 1.4 * static_cast<double>(total) / kNumBlocks + 2)
        << count;
  }
}

TEST(AttentionSharesTest, ManyOrShortTilesAreLeftWhole) {
  const auto is_shared = [](std::vector<int32_t> positions) {
    const AttentionProblem problem = DescribeAttention(ParamsOf({.name = "rows",
                                                                 .num_heads = 32,
                                                                 .num_kv_heads = 8,
                                                                 .head_dim = 128,
                                                                 .positions = std::move(positions)},
                                                                0),
                                                       90, kNumBlocks);
    return PlanAttentionLaunch(problem, ChooseAttentionConfig(problem)).is_shared;
  };
  EXPECT_TRUE(is_shared(RowsAndQuestion(600, 5'000)));
  EXPECT_FALSE(is_shared(RowsAndQuestion(800, 5'000)));
  EXPECT_FALSE(is_shared(RowsAndQuestion(300, 900)));
}

}  // namespace
}  // namespace intarsia::kernels
