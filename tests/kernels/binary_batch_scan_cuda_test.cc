#include "kernels/binary_batch_scan_cuda.h"

#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "tests/kernels/binary_scan_cases.h"
#include "tests/kernels/device_test.h"

namespace intarsia::kernels {
namespace {

class BinaryBatchScanCudaTest : public DeviceTest {};

struct BatchCase {
  int64_t num_queries = 3;
  int64_t k = 10;
  int64_t candidates_max = 100;
  int64_t filter_period = 1;  // 1: no filter
  float error_bound = 0.5F;
  BinaryBatchMethod method = BinaryBatchMethod::kDefault;
};

// Queries on the host, each with a step of its own.
struct BatchQueries {
  std::vector<int8_t> levels;
  std::vector<float> steps;
  std::vector<float> bases;
  std::vector<float> error_bounds;

  BatchQueries(int64_t num_queries, int64_t num_words, float error_bound) {
    std::mt19937 random(static_cast<uint32_t>(num_queries));
    levels.resize(static_cast<size_t>(num_queries * num_words * 64));
    for (int8_t& level : levels) {
      level = static_cast<int8_t>(static_cast<int>(random() % 255) - kBatchLevelMax);
    }
    for (int64_t i = 0; i < num_queries; ++i) {
      steps.push_back(0.001F * static_cast<float>(i % 5 + 1));
      bases.push_back(0.1F * static_cast<float>(i % 7) - 0.3F);
      error_bounds.push_back(error_bound * static_cast<float>(i % 3 + 1));
    }
  }

  void Fill(BinaryBatchScanCudaParams* params) const {
    params->queries = levels.data();
    params->steps = steps.data();
    params->bases = bases.data();
    params->error_bounds = error_bounds.data();
  }
};

struct BatchScan {
  const BinaryCodesOnHost codes;
  const BinaryRowsOnHost host;
  const BinaryRowsOnDevice device;

  explicit BatchScan(BinaryCodesOnHost source)
      : codes(std::move(source)), host(codes), device(codes) {}

  // Returns the number of passes, 0 if it has failed.
  int Expect(const BatchCase& test_case, const BatchQueries& queries) const {
    SCOPED_TRACE("rows " + std::to_string(codes.test_case.num_rows) + " words " +
                 std::to_string(codes.test_case.num_words) + " planes " +
                 std::to_string(codes.test_case.num_planes) + " queries " +
                 std::to_string(test_case.num_queries) + " k " + std::to_string(test_case.k) +
                 " filter " + std::to_string(test_case.filter_period));
    const std::vector<uint32_t> filter =
        MakeFilter(codes.test_case.num_rows, test_case.filter_period);
    ProspectsOnHost expected(test_case.num_queries, test_case.k, test_case.candidates_max);
    BinaryBatchScanCudaParams params;
    params.rows = host.rows;
    params.filter = test_case.filter_period == 1 ? nullptr : filter.data();
    queries.Fill(&params);
    params.lists = expected.lists;
    params.method = test_case.method;
    EXPECT_TRUE(BinaryBatchScanCudaReference(params).ok());
    const DeviceArray<uint32_t> device_filter(filter);
    const DeviceArray<int8_t> levels(queries.levels);
    const DeviceArray<float> steps(queries.steps);
    const DeviceArray<float> bases(queries.bases);
    const DeviceArray<float> error_bounds(queries.error_bounds);
    const ProspectsOnDevice prospects(expected.lists);
    const DeviceArray<uint8_t> workspace(std::vector<uint8_t>(
        static_cast<size_t>(BinaryBatchScanWorkspaceBytes(params)), uint8_t{0xff}));
    params.rows = device.rows;
    params.filter = params.filter == nullptr ? nullptr : device_filter.data();
    params.queries = levels.data();
    params.steps = steps.data();
    params.bases = bases.data();
    params.error_bounds = error_bounds.data();
    params.lists = prospects.lists;
    params.workspace = workspace.data();
    const auto enqueue = [&](ProspectPass pass) {
      return BinaryBatchScanCuda(params, pass, nullptr);
    };
    const int num_passes = PassesUntilComplete(prospects, enqueue);
    EXPECT_GT(num_passes, 0);
    prospects.ExpectIs(expected);
    EXPECT_TRUE(workspace.GuardsAreIntact());
    // One more pass changes nothing.
    EXPECT_TRUE(enqueue(ProspectPass::kNext).ok());
    prospects.ExpectIs(expected);
    return num_passes;
  }

  int Expect(const BatchCase& test_case) const {
    return Expect(test_case, BatchQueries(test_case.num_queries, codes.test_case.num_words,
                                          test_case.error_bound));
  }
};

TEST_F(BinaryBatchScanCudaTest, LeavesWhatTheReferenceLeaves) {
  for (const int64_t num_words : {1, 5, 16}) {
    for (const int64_t num_planes : {1, 2}) {
      for (const int64_t num_rows : {1, 700}) {
        const BatchScan scan(BinaryCodesOnHost({num_rows, num_words, num_planes}));
        scan.Expect({});
        scan.Expect({.num_queries = 17, .filter_period = 3});
        scan.Expect({.num_queries = 65});
        scan.Expect({.num_queries = 1, .k = 1, .candidates_max = 1, .error_bound = 0.0F});
      }
    }
  }
}

TEST_F(BinaryBatchScanCudaTest, AnyNumberOfQueriesIsScanned) {
  const BatchScan scan(BinaryCodesOnHost({300, 2, 1}));
  for (const int64_t num_queries : {0, 1, 16, 17, 33, 64, 65, 130}) {
    scan.Expect({.num_queries = num_queries});
    scan.Expect(
        {.num_queries = num_queries, .filter_period = 20, .method = BinaryBatchMethod::kWarp});
  }
}

TEST_F(BinaryBatchScanCudaTest, LongCodesAreScannedAndLongerOnesRefused) {
  for (const int64_t num_words : {48, 100, 128}) {
    const BatchScan scan(BinaryCodesOnHost({70, num_words, 1}));
    scan.Expect({.num_queries = 40});
  }
  const BatchScan scan(BinaryCodesOnHost({1, 129, 1}));
  const BatchQueries queries(1, 129, 0.0F);
  ProspectsOnHost lists(1, 1, 1);
  BinaryBatchScanCudaParams params;
  params.rows = scan.host.rows;
  queries.Fill(&params);
  params.lists = lists.lists;
  params.workspace = &lists;
  EXPECT_EQ(BinaryBatchScanCuda(params, ProspectPass::kFirst, nullptr).code(),
            StatusCode::kUnsupported);
}

// More rows than the workspace holds entries: a sample sets the thresholds first.
TEST_F(BinaryBatchScanCudaTest, ASampleComesFirstWhenThereAreManyRows) {
  const BatchScan scan(BinaryCodesOnHost({40'003, 2, 1}));
  for (const int64_t filter_period : {1, 1'000}) {
    EXPECT_EQ(1, scan.Expect({.filter_period = filter_period}));
  }
}

TEST_F(BinaryBatchScanCudaTest, MoreThanTheWorkspaceHoldsTakesMorePasses) {
  const BatchScan scan(BinaryCodesOnHost({40'003, 1, 1}));
  BatchQueries queries(3, 1, 0.1F);
  queries.error_bounds[1] = 1'000.0F;  // one of them alone
  EXPECT_GT(scan.Expect({.num_queries = 3}, queries), 1);
  BatchQueries more(18, 1, 0.1F);
  more.error_bounds[17] = 1'000.0F;
  EXPECT_GT(scan.Expect({.num_queries = 18}, more), 1);
}

TEST_F(BinaryBatchScanCudaTest, OfEqualLimitsTheLowerRowsAreKept) {
  BinaryCodesOnHost codes({40'000, 1, 1});
  codes.scales.assign(codes.scales.size(), 1.0F);
  codes.offsets.assign(codes.offsets.size(), 0.0F);
  codes.errors.assign(codes.errors.size(), 1.0F);
  codes.planes[0].assign(codes.planes[0].size(), 42);
  const BatchScan scan(std::move(codes));
  for (const int64_t filter_period : {1, 300}) {
    EXPECT_GT(scan.Expect({.filter_period = filter_period}), 0);
  }
}

TEST_F(BinaryBatchScanCudaTest, TheLargestProductsFitTheirSums) {
  BinaryCodesOnHost codes({64, 128, 2});
  for (auto& plane : codes.planes) plane.assign(plane.size(), ~uint64_t{0});
  const BatchScan scan(std::move(codes));
  for (const int8_t level : {int8_t{-127}, int8_t{127}}) {
    for (const int64_t num_queries : {2, 17}) {
      BatchQueries queries(num_queries, 128, 0.5F);
      queries.levels.assign(queries.levels.size(), level);
      scan.Expect({.num_queries = num_queries, .k = 20}, queries);
    }
  }
}

TEST_F(BinaryBatchScanCudaTest, FactorsOfAnySignAndWithoutALimitAreBounded) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> special = {kNan,  kInfinity, -kInfinity, 0.0F,
                                      -0.0F, -1.0F,     1e-42F,     3e38F};
  std::mt19937 random(11);
  BinaryCodesOnHost codes({36'000, 1, 2});
  for (auto* factors : {&codes.scales, &codes.offsets, &codes.errors}) {
    for (size_t i = 0; i < 36'000; ++i) {
      if (i > 18'000) (*factors)[i] -= 1.0F;
      if (random() % 200 == 0) (*factors)[i] = special[random() % special.size()];
    }
  }
  const BatchScan scan(std::move(codes));
  BatchQueries queries(6, 1, 0.5F);
  queries.steps[1] = 0.0F;
  queries.steps[2] = -0.01F;
  queries.steps[3] = kNan;
  queries.error_bounds[4] = -1.0F;
  queries.bases[5] = kInfinity;
  scan.Expect({.num_queries = 6, .k = 200, .candidates_max = 300}, queries);
  scan.Expect({.num_queries = 6, .k = 50, .filter_period = 3}, queries);
}

TEST_F(BinaryBatchScanCudaTest, NoRowsLeaveNothing) {
  const BatchScan scan(BinaryCodesOnHost({0, 16, 1}));
  EXPECT_EQ(1, scan.Expect({}));
}

TEST_F(BinaryBatchScanCudaTest, BadParamsAreRefusedBeforeALaunch) {
  const BatchScan scan(BinaryCodesOnHost({40, 2, 2}));
  const BatchQueries queries(2, 2, 0.5F);
  ProspectsOnHost lists(2, 10, 10);
  BinaryBatchScanCudaParams good;
  good.rows = scan.host.rows;
  queries.Fill(&good);
  good.lists = lists.lists;
  good.workspace = &lists;
  const RefusalOfChanges<BinaryBatchScanCudaParams> refuses(good, BinaryBatchScanCuda,
                                                            BinaryBatchScanCudaReference);
  refuses.ExpectBadRowsAndListsAreRefused();
  EXPECT_TRUE(refuses([](BinaryBatchScanCudaParams* p) { p->queries = nullptr; }));
  EXPECT_TRUE(refuses([](BinaryBatchScanCudaParams* p) { p->steps = nullptr; }));
  EXPECT_TRUE(refuses([](BinaryBatchScanCudaParams* p) { p->bases = nullptr; }));
  EXPECT_TRUE(refuses([](BinaryBatchScanCudaParams* p) { p->error_bounds = nullptr; }));
  EXPECT_TRUE(refuses([](BinaryBatchScanCudaParams* p) { p->lists.num_queries = -1; }));
  EXPECT_TRUE(refuses([](BinaryBatchScanCudaParams* p) { p->lists.num_queries = 1'025; }));
}

}  // namespace
}  // namespace intarsia::kernels
