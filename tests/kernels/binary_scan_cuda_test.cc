#include "kernels/binary_scan_cuda.h"

#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/kernels/binary_scan_cases.h"
#include "tests/kernels/device_test.h"

namespace intarsia::kernels {
namespace {

class BinaryRowsCudaTest : public DeviceTest {};
class BinaryScanCudaTest : public DeviceTest {};

struct ScanCase {
  int64_t k = 10;
  int64_t candidates_max = 100;
  int64_t filter_period = 1;  // 1: no filter
  float error_bound = 0.5F;
  float half_step = 0.01F;
  BinaryScanMethod method = BinaryScanMethod::kDefault;
};

// A problem on both sides.
struct Scan {
  const BinaryCodesOnHost codes;
  const BinaryRowsOnHost host;
  const BinaryRowsOnDevice device;
  std::vector<uint64_t> query;
  std::unique_ptr<DeviceArray<uint64_t>> device_query;

  explicit Scan(BinaryCodesOnHost source) : codes(std::move(source)), host(codes), device(codes) {
    std::mt19937_64 random(5);
    query.resize(static_cast<size_t>(4 * codes.test_case.num_words));
    for (uint64_t& word : query) word = random();
    device_query = std::make_unique<DeviceArray<uint64_t>>(query);
  }

  // Returns the number of passes, 0 if it has failed.
  int Expect(const ScanCase& test_case) const {
    SCOPED_TRACE("rows " + std::to_string(codes.test_case.num_rows) + " words " +
                 std::to_string(codes.test_case.num_words) + " planes " +
                 std::to_string(codes.test_case.num_planes) + " k " + std::to_string(test_case.k) +
                 " candidates " + std::to_string(test_case.candidates_max) + " filter " +
                 std::to_string(test_case.filter_period) + " method " +
                 std::to_string(static_cast<int>(test_case.method)));
    const std::vector<uint32_t> filter =
        MakeFilter(codes.test_case.num_rows, test_case.filter_period);
    ProspectsOnHost expected(1, test_case.k, test_case.candidates_max);
    BinaryScanCudaParams params;
    params.rows = host.rows;
    params.filter = test_case.filter_period == 1 ? nullptr : filter.data();
    params.query_planes = query.data();
    params.half_step = test_case.half_step;
    params.base = 0.25F;
    params.error_bound = test_case.error_bound;
    params.lists = expected.lists;
    params.method = test_case.method;
    EXPECT_TRUE(BinaryScanCudaReference(params).ok());
    const DeviceArray<uint32_t> device_filter(filter);
    const ProspectsOnDevice prospects(expected.lists);
    const DeviceArray<uint8_t> workspace(std::vector<uint8_t>(
        static_cast<size_t>(ProspectWorkspaceBytes(expected.lists)), uint8_t{0xff}));
    params.rows = device.rows;
    params.filter = params.filter == nullptr ? nullptr : device_filter.data();
    params.query_planes = device_query->data();
    params.lists = prospects.lists;
    params.workspace = workspace.data();
    const int num_passes = PassesUntilComplete(
        prospects, [&](ProspectPass pass) { return BinaryScanCuda(params, pass, nullptr); });
    EXPECT_GT(num_passes, 0);
    prospects.ExpectIs(expected);
    EXPECT_TRUE(workspace.GuardsAreIntact());
    // One more pass changes nothing.
    EXPECT_TRUE(BinaryScanCuda(params, ProspectPass::kNext, nullptr).ok());
    prospects.ExpectIs(expected);
    return num_passes;
  }
};

TEST_F(BinaryRowsCudaTest, AreThoseOfTheReference) {
  for (const int64_t num_rows : {0, 1, 7, 32, 33, 100, 1'000}) {
    for (const int64_t num_words : {1, 2, 3, 6, 16}) {
      for (const int64_t num_planes : {1, 2}) {
        const Scan scan(BinaryCodesOnHost({num_rows, num_words, num_planes}));
        std::vector<uint32_t> codes = scan.device.codes.CopyToHost();
        codes.push_back(0);
        EXPECT_EQ(codes, scan.host.codes);
        std::vector<BinaryTileBounds> bounds = scan.device.bounds.CopyToHost();
        EXPECT_EQ(0, std::memcmp(bounds.data(), scan.host.bounds.data(),
                                 bounds.size() * sizeof(BinaryTileBounds)));
        EXPECT_TRUE(scan.device.codes.GuardsAreIntact());
        EXPECT_TRUE(scan.device.bounds.GuardsAreIntact());
      }
    }
  }
}

TEST_F(BinaryScanCudaTest, LeavesWhatTheReferenceLeaves) {
  for (const int64_t num_words : {1, 3, 6, 7, 12, 16, 24, 32}) {
    for (const int64_t num_planes : {1, 2}) {
      for (const int64_t num_rows : {1, 31, 2'000}) {
        const Scan scan(BinaryCodesOnHost({num_rows, num_words, num_planes}));
        for (const int64_t filter_period : {1, 2, 100}) {
          scan.Expect({.filter_period = filter_period});
        }
        scan.Expect({.k = 1, .candidates_max = 1, .error_bound = 0.0F});
        scan.Expect({.filter_period = 0});
      }
    }
  }
}

TEST_F(BinaryScanCudaTest, LongCodesAreScannedAndLongerOnesRefused) {
  for (const int64_t num_words : {48, 64, 96, 97, 192}) {
    const Scan scan(BinaryCodesOnHost({200, num_words, 1}));
    scan.Expect({});
    scan.Expect({.filter_period = 3});
  }
  const Scan scan(BinaryCodesOnHost({1, 193, 1}));
  ProspectsOnHost lists(1, 1, 1);
  BinaryScanCudaParams params;
  params.rows = scan.host.rows;
  params.query_planes = scan.query.data();
  params.lists = lists.lists;
  params.workspace = &lists;
  EXPECT_EQ(BinaryScanCuda(params, ProspectPass::kFirst, nullptr).code(), StatusCode::kUnsupported);
}

TEST_F(BinaryScanCudaTest, AllMethodsOfCountingAgree) {
  for (const int64_t num_words : {2, 6, 16, 24, 32, 40}) {
    for (const int64_t num_planes : {1, 2}) {
      const Scan scan(BinaryCodesOnHost({1'000, num_words, num_planes}));
      for (const auto method : {BinaryScanMethod::kAdd, BinaryScanMethod::kTensor}) {
        scan.Expect({.method = method});
        scan.Expect({.filter_period = 10, .method = method});
      }
    }
  }
}

// More rows than the workspace holds entries: a sample sets the threshold first.
TEST_F(BinaryScanCudaTest, ASampleComesFirstWhenThereAreManyRows) {
  for (const BinaryScanMethod method : {BinaryScanMethod::kAdd, BinaryScanMethod::kTensor}) {
    const Scan scan(BinaryCodesOnHost({70'003, 2, 1}));
    for (const int64_t filter_period : {1, 1'000}) {
      EXPECT_EQ(1, scan.Expect({.filter_period = filter_period, .method = method}));
    }
    EXPECT_EQ(1, scan.Expect({.k = 1, .candidates_max = 1, .method = method}));
    EXPECT_EQ(1, scan.Expect({.k = 500, .candidates_max = 600, .method = method}));
    // More than the sample has parts: it cannot say how high the k-th is.
    EXPECT_EQ(2, scan.Expect({.k = 3'000, .candidates_max = 4'000, .method = method}));
  }
}

TEST_F(BinaryScanCudaTest, MoreThanTheWorkspaceHoldsTakesMorePasses) {
  const Scan scan(BinaryCodesOnHost({70'003, 1, 1}));
  EXPECT_GT(scan.Expect({.error_bound = 1'000.0F}), 1);
  EXPECT_GT(scan.Expect({.k = 5'000, .candidates_max = 5'000, .error_bound = 1'000.0F}), 1);
  // All limits are equal: the first rows are kept.
  EXPECT_GT(scan.Expect({.filter_period = 2, .error_bound = 3.0e38F}), 1);
}

TEST_F(BinaryScanCudaTest, OfEqualLimitsTheLowerRowsAreKept) {
  BinaryCodesOnHost codes({70'000, 1, 1});
  codes.scales.assign(codes.scales.size(), 1.0F);
  codes.offsets.assign(codes.offsets.size(), 0.0F);
  codes.errors.assign(codes.errors.size(), 1.0F);
  codes.planes[0].assign(codes.planes[0].size(), 42);
  const Scan scan(std::move(codes));
  for (const int64_t filter_period : {1, 2, 300}) {
    EXPECT_GT(scan.Expect({.filter_period = filter_period}), 0);
    EXPECT_GT(scan.Expect({.filter_period = filter_period, .half_step = 0.0F}), 0);
  }
}

TEST_F(BinaryScanCudaTest, MoreWantedThanThereAreGivesAll) {
  const Scan scan(BinaryCodesOnHost({100, 2, 1}));
  scan.Expect({.k = 1'000, .candidates_max = 1'000});
  scan.Expect({.k = 1'000, .candidates_max = 1'000, .filter_period = 7});
  scan.Expect({.k = 100, .candidates_max = 100});
  scan.Expect({.k = 99, .candidates_max = 99, .error_bound = 0.0F});
}

TEST_F(BinaryScanCudaTest, NoRowsLeaveNothing) {
  const Scan scan(BinaryCodesOnHost({0, 16, 1}));
  EXPECT_EQ(1, scan.Expect({}));
}

TEST_F(BinaryScanCudaTest, FactorsOfAnySignAndWithoutALimitAreBounded) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> special = {kNan,  kInfinity, -kInfinity, 0.0F,
                                      -0.0F, -1.0F,     1e-42F,     3e38F};
  std::mt19937 random(11);
  BinaryCodesOnHost codes({40'000, 2, 2});
  for (auto* factors : {&codes.scales, &codes.offsets, &codes.errors}) {
    for (size_t i = 0; i < 40'000; ++i) {
      (*factors)[i] -= 1.0F;
      if (random() % 200 == 0) (*factors)[i] = special[random() % special.size()];
    }
  }
  const Scan scan(std::move(codes));
  for (const float half_step : {0.01F, 0.0F, -0.01F}) {
    for (const float error_bound : {0.0F, 0.5F}) {
      scan.Expect(
          {.k = 500, .candidates_max = 600, .error_bound = error_bound, .half_step = half_step});
      scan.Expect(
          {.k = 50, .filter_period = 3, .error_bound = error_bound, .half_step = half_step});
    }
  }
}

TEST_F(BinaryScanCudaTest, BadParamsAreRefusedBeforeALaunch) {
  const Scan scan(BinaryCodesOnHost({40, 2, 2}));
  ProspectsOnHost lists(1, 10, 10);
  BinaryScanCudaParams good;
  good.rows = scan.host.rows;
  good.query_planes = scan.query.data();
  good.lists = lists.lists;
  good.workspace = &lists;
  const RefusalOfChanges<BinaryScanCudaParams> refuses(good, BinaryScanCuda,
                                                       BinaryScanCudaReference);
  refuses.ExpectBadRowsAndListsAreRefused();
  EXPECT_TRUE(refuses([](BinaryScanCudaParams* p) { p->query_planes = nullptr; }));
  EXPECT_TRUE(refuses([](BinaryScanCudaParams* p) { p->rows.bounds = nullptr; }));
  EXPECT_TRUE(refuses([](BinaryScanCudaParams* p) { p->rows.num_words = 1'025; }));
  EXPECT_TRUE(refuses([](BinaryScanCudaParams* p) { p->lists.num_queries = 2; }));
  EXPECT_TRUE(refuses([](BinaryScanCudaParams* p) { p->lists.candidates_max = 2 << 20; }));
  EXPECT_TRUE(refuses([](BinaryScanCudaParams* p) { p->lists.rows = nullptr; }));
  EXPECT_TRUE(refuses([](BinaryScanCudaParams* p) { p->error_bound = -1.0F; }));
  EXPECT_TRUE(refuses([](BinaryScanCudaParams* p) { p->error_bound = std::nanf(""); }));
  BinaryRowsParams rows = scan.codes.params();
  EXPECT_EQ(BinaryRowsCuda(rows, nullptr).code(), StatusCode::kInvalidArgument);  // no target
  rows.num_rows = rows.num_blocks * kBinaryBlockCodes + 1;
  EXPECT_EQ(BinaryRowsCuda(rows, nullptr).code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace intarsia::kernels
