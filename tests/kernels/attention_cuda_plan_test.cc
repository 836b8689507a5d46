#include "kernels/attention_cuda_plan.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

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

// How often the items of a plan compute the scores of a query, (row, head), with a key that it
// sees.
std::map<std::tuple<int64_t, int32_t>, int> CountPairs(const Plan& plan) {
  std::map<std::tuple<int64_t, int32_t>, int> pairs;
  const AttentionArguments& args = plan.args;
  for (int32_t item = 0; item < args.num_items; ++item) {
    const auto work = WorkOfItem<kTileQueries, kTileKeys>(args, item);
    for (int32_t i = 0; i < kTileQueries; ++i) {
      const int32_t query = work.first_query + i;
      if (query >= args.queries_per_sequence) break;
      const int64_t index = OffsetOfQuery(args, work, query) / args.layer.head_dim;
      const int32_t position = args.positions[RowOfQuery(args, work, query)];
      for (int32_t key = work.key_tile_begin * kTileKeys; key < work.key_tile_end * kTileKeys;
           ++key) {
        if (IsVisible(args, position, key)) ++pairs[{index, key}];
      }
    }
  }
  return pairs;
}

void ExpectEveryVisibleKeyOnce(const AttentionRowsCase& problem, int64_t page_table_stride,
                               int32_t num_multiprocessors) {
  const Plan plan = PlanOf(ParamsOf(problem, page_table_stride), num_multiprocessors);
  const auto pairs = CountPairs(plan);
  size_t num_visible = 0;
  for (const int32_t position : problem.positions) {
    const int32_t num_keys =
        problem.window > 0 ? std::min(problem.window, position + 1) : position + 1;
    num_visible += static_cast<size_t>(num_keys) * static_cast<size_t>(problem.num_heads);
  }
  EXPECT_EQ(pairs.size(), num_visible) << problem.name << " " << plan.launch.ToString();
  for (const auto& [pair, count] : pairs) ASSERT_EQ(count, 1) << problem.name;
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

}  // namespace
}  // namespace intarsia::kernels
