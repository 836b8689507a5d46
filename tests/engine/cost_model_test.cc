#include "engine/fusion/cost_model.h"

#include <gtest/gtest.h>

namespace intarsia::engine {
namespace {

constexpr int64_t kMegabyte = 1 << 20;

TEST(FusionCostModelTest, NothingIsPredictedBeforeAnythingWasMeasured) {
  const FusionCostModel costs;
  EXPECT_LT(costs.PredictRowsMs(100), 0.0);
  EXPECT_LT(costs.PredictLoadMs(100), 0.0);
  EXPECT_TRUE(costs.IsWorthLoading(kMegabyte, 10));
  EXPECT_EQ(costs.RatioFor(0.15, kMegabyte, 100), 0.15);
}

TEST(FusionCostModelTest, PredictionsScaleAndFollowTheNewest) {
  FusionCostModel costs;
  costs.ObserveRows(1'000, 500.0);
  costs.ObserveLoad(100 * kMegabyte, 50.0);
  EXPECT_DOUBLE_EQ(costs.PredictRowsMs(200), 100.0);
  EXPECT_DOUBLE_EQ(costs.PredictLoadMs(10 * kMegabyte), 5.0);
  for (int i = 0; i < 50; ++i) costs.ObserveRows(1'000, 1'000.0);
  EXPECT_NEAR(costs.PredictRowsMs(200), 200.0, 1.0);
}

TEST(FusionCostModelTest, RequestsTooSmallToTellAreIgnored) {
  FusionCostModel costs;
  costs.ObserveRows(3, 500.0);
  costs.ObserveLoad(100, 50.0);
  EXPECT_LT(costs.PredictRowsMs(100), 0.0);
  EXPECT_LT(costs.PredictLoadMs(100), 0.0);
}

TEST(FusionCostModelTest, ASlowTierIsNotLoadedAndASlowLoadPaysForMoreRows) {
  FusionCostModel costs;
  costs.ObserveRows(1'000, 1'000.0);                                  // 1 ms a row
  costs.ObserveLoad(100 * kMegabyte, 1'000.0);                        // 10 ms a megabyte
  EXPECT_TRUE(costs.IsWorthLoading(10 * kMegabyte, 200));             // 100 ms against 200
  EXPECT_FALSE(costs.IsWorthLoading(30 * kMegabyte, 200));            // 300 ms against 200
  EXPECT_DOUBLE_EQ(costs.RatioFor(0.15, 10 * kMegabyte, 400), 0.25);  // 100 ms hide 100 rows
  EXPECT_DOUBLE_EQ(costs.RatioFor(0.15, kMegabyte, 400), 0.15);
  EXPECT_DOUBLE_EQ(costs.RatioFor(0.15, 100 * kMegabyte, 400), 1.0);
}

}  // namespace
}  // namespace intarsia::engine
