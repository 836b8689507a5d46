// BinaryCodesOnHost, BinaryRowsOnDevice: random codes with factors, for the tests of scans on a
// device, as blocks and rows on the host and as rows that the device made of the blocks.
//
// Thread safety: owned by one thread.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <tuple>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "base/check.h"
#include "kernels/binary_rows.h"
#include "kernels/prospects.h"
#include "tests/kernels/device_array.h"

namespace intarsia::kernels {

struct BinaryCodesCase {
  int64_t num_rows = 0;
  int64_t num_words = 1;
  int64_t num_planes = 1;
};

struct BinaryCodesOnHost {
  BinaryCodesCase test_case;
  std::vector<uint64_t> planes[2];
  std::vector<float> scales;  // with room for whole blocks; what is behind the rows is NaN
  std::vector<float> offsets;
  std::vector<float> errors;

  explicit BinaryCodesOnHost(const BinaryCodesCase& codes) : test_case(codes) {
    std::mt19937_64 random(static_cast<uint64_t>(codes.num_rows * 100 + codes.num_words));
    std::uniform_real_distribution<float> uniform(0.5F, 1.5F);
    const auto num_slots = static_cast<size_t>(num_blocks() * kBinaryBlockCodes);
    for (auto& plane : planes) {
      plane.resize(num_slots * static_cast<size_t>(codes.num_words));
      for (uint64_t& word : plane) word = random();
    }
    for (auto* factors : {&scales, &offsets, &errors}) {
      factors->assign(num_slots, std::numeric_limits<float>::quiet_NaN());
      for (int64_t row = 0; row < codes.num_rows; ++row) {
        (*factors)[static_cast<size_t>(row)] = uniform(random);
      }
    }
  }

  int64_t num_blocks() const {
    return (test_case.num_rows + kBinaryBlockCodes - 1) / kBinaryBlockCodes;
  }

  // Without a target.
  BinaryRowsParams params() const {
    BinaryRowsParams params;
    params.planes[0] = planes[0].data();
    params.planes[1] = planes[1].data();
    params.num_planes = test_case.num_planes;
    params.num_words = test_case.num_words;
    params.num_blocks = num_blocks();
    params.num_rows = test_case.num_rows;
    params.scales = scales.data();
    params.offsets = offsets.data();
    params.errors = errors.data();
    return params;
  }
};

// Rows as the reference makes them.
struct BinaryRowsOnHost {
  std::vector<uint32_t> codes;
  std::vector<BinaryTileBounds> bounds;
  BinaryRows rows;

  explicit BinaryRowsOnHost(const BinaryCodesOnHost& source) {
    BinaryRowsParams params = source.params();
    codes.resize(static_cast<size_t>(params.rows().code_bytes() / 4) + 1);
    bounds.resize(static_cast<size_t>(params.rows().num_tiles()) + 1);
    params.codes = codes.data();
    params.bounds = bounds.data();
    INTARSIA_CHECK(BinaryRowsReference(params).ok());
    rows = params.rows();
  }
};

// Rows as the device makes them, from poisoned memory.
struct BinaryRowsOnDevice {
  DeviceArray<uint64_t> plane0;
  DeviceArray<uint64_t> plane1;
  DeviceArray<float> scales;
  DeviceArray<float> offsets;
  DeviceArray<float> errors;
  DeviceArray<uint32_t> codes;
  DeviceArray<BinaryTileBounds> bounds;
  BinaryRows rows;

  explicit BinaryRowsOnDevice(const BinaryCodesOnHost& source)
      : plane0(source.planes[0]),
        plane1(source.planes[1]),
        scales(source.scales),
        offsets(source.offsets),
        errors(source.errors),
        codes(std::vector<uint32_t>(static_cast<size_t>(source.params().rows().code_bytes() / 4),
                                    0xdeadbeefU)),
        bounds(std::vector<BinaryTileBounds>(
            static_cast<size_t>(source.params().rows().num_tiles()))) {
    BinaryRowsParams params = source.params();
    params.planes[0] = plane0.data();
    params.planes[1] = plane1.data();
    params.scales = scales.data();
    params.offsets = offsets.data();
    params.errors = errors.data();
    params.codes = codes.data();
    params.bounds = bounds.data();
    INTARSIA_CHECK(BinaryRowsCuda(params, nullptr).ok());
    rows = params.rows();
  }
};

// What a search leaves, by query, in the order of limits and rows.
struct ProspectsOnHost {
  ProspectLists lists;
  std::vector<ProspectOutcome> outcomes;
  std::vector<int32_t> rows;
  std::vector<float> limits;

  ProspectsOnHost(int64_t num_queries, int64_t k, int64_t candidates_max)
      : outcomes(static_cast<size_t>(num_queries)),
        rows(static_cast<size_t>(num_queries * candidates_max)),
        limits(rows.size()) {
    lists = {num_queries, k, candidates_max, outcomes.data(), rows.data(), limits.data()};
  }

  std::vector<std::pair<float, int32_t>> Of(int64_t query) const {
    std::vector<std::pair<float, int32_t>> prospects;
    const auto begin = static_cast<size_t>(query * lists.candidates_max);
    const int32_t count = outcomes[static_cast<size_t>(query)].num_prospects;
    for (size_t i = begin; i < begin + static_cast<size_t>(count); ++i) {
      prospects.emplace_back(-limits[i], rows[i]);
    }
    std::sort(prospects.begin(), prospects.end());
    return prospects;
  }
};

struct ProspectsOnDevice {
  DeviceArray<ProspectOutcome> outcomes;
  DeviceArray<int32_t> rows;
  DeviceArray<float> limits;
  ProspectLists lists;

  explicit ProspectsOnDevice(const ProspectLists& host)
      : outcomes(std::vector<ProspectOutcome>(static_cast<size_t>(host.num_queries),
                                              ProspectOutcome{-1, -1, -1, -1})),
        rows(std::vector<int32_t>(static_cast<size_t>(host.num_queries * host.candidates_max), -1)),
        limits(std::vector<float>(static_cast<size_t>(host.num_queries * host.candidates_max),
                                  std::numeric_limits<float>::quiet_NaN())) {
    lists = host;
    lists.outcomes = outcomes.data();
    lists.rows = rows.data();
    lists.limits = limits.data();
  }

  bool IsComplete() const {
    const std::vector<ProspectOutcome> all = outcomes.CopyToHost();
    return std::all_of(all.begin(), all.end(),
                       [](const ProspectOutcome& one) { return one.is_complete == 1; });
  }

  // Compares sets, limits to the bit, and guard bands.
  void ExpectIs(const ProspectsOnHost& expected) const {
    ProspectsOnHost actual(lists.num_queries, lists.k, lists.candidates_max);
    actual.outcomes = outcomes.CopyToHost();
    actual.rows = rows.CopyToHost();
    actual.limits = limits.CopyToHost();
    for (int64_t query = 0; query < lists.num_queries; ++query) {
      const ProspectOutcome& want = expected.outcomes[static_cast<size_t>(query)];
      const ProspectOutcome& got = actual.outcomes[static_cast<size_t>(query)];
      ASSERT_EQ(got.num_prospects, want.num_prospects) << "query " << query;
      EXPECT_EQ(got.is_truncated, want.is_truncated) << "query " << query;
      EXPECT_EQ(actual.Of(query), expected.Of(query)) << "query " << query;
    }
    EXPECT_TRUE(outcomes.GuardsAreIntact());
    EXPECT_TRUE(rows.GuardsAreIntact());
    EXPECT_TRUE(limits.GuardsAreIntact());
  }
};

// Calls enqueue(pass) until all queries are complete. Returns the number of passes, 0 for too many.
template <typename Enqueue>
int PassesUntilComplete(const ProspectsOnDevice& prospects, const Enqueue& enqueue) {
  constexpr int kPassesMax = 40;
  for (int pass = 1; pass <= kPassesMax; ++pass) {
    const Status status = enqueue(pass == 1 ? ProspectPass::kFirst : ProspectPass::kNext);
    EXPECT_TRUE(status.ok()) << status.ToString();
    if (!status.ok()) return 0;
    if (prospects.IsComplete()) return pass;
  }
  return 0;
}

// A bit a row, set for one row in `period` on average; 0: for none.
inline std::vector<uint32_t> MakeFilter(int64_t num_rows, int64_t period) {
  std::mt19937 random(static_cast<uint32_t>(period));
  std::vector<uint32_t> filter(
      static_cast<size_t>((num_rows + kBinaryTileRows - 1) / kBinaryTileRows) + 1);
  for (int64_t row = 0; row < num_rows; ++row) {
    const bool is_set = period > 0 && random() % static_cast<uint32_t>(period) == 0;
    filter[static_cast<size_t>(row / 32)] |= (is_set ? 1U : 0U) << (row % 32);
  }
  if (num_rows % 32 != 0) filter[filter.size() - 2] |= ~0U << (num_rows % 32);  // no rows: ignored
  return filter;
}

// Says of changes to good params of a scan whether both the scan and its definition refuse them as
// invalid. The definition is not asked without a workspace, which is the device's alone.
template <typename Params>
class RefusalOfChanges {
 public:
  using Scan = Status (*)(const Params&, ProspectPass, Stream);
  using Reference = Status (*)(const Params&);

  RefusalOfChanges(const Params& good, Scan scan, Reference reference)
      : good_(good), scan_(scan), reference_(reference) {}

  bool operator()(void (*change)(Params*)) const {
    Params params = good_;
    change(&params);
    return scan_(params, ProspectPass::kFirst, nullptr).code() == StatusCode::kInvalidArgument &&
           (params.workspace == nullptr ||
            reference_(params).code() == StatusCode::kInvalidArgument);
  }

  // What no scan takes.
  void ExpectBadRowsAndListsAreRefused() const {
    EXPECT_TRUE((*this)([](Params* p) { p->workspace = nullptr; }));
    EXPECT_TRUE((*this)([](Params* p) { p->rows.codes = nullptr; }));
    EXPECT_TRUE((*this)([](Params* p) { p->rows.num_rows = -1; }));
    EXPECT_TRUE((*this)([](Params* p) { p->rows.num_rows = kBinaryRowsMax + 1; }));
    EXPECT_TRUE((*this)([](Params* p) { p->rows.num_words = 0; }));
    EXPECT_TRUE((*this)([](Params* p) { p->rows.num_planes = 0; }));
    EXPECT_TRUE((*this)([](Params* p) { p->rows.num_planes = 3; }));
    EXPECT_TRUE((*this)([](Params* p) { p->lists.k = 0; }));
    EXPECT_TRUE((*this)([](Params* p) { p->lists.k = 11; }));
    EXPECT_TRUE((*this)([](Params* p) { p->lists.limits = nullptr; }));
    EXPECT_TRUE((*this)([](Params* p) { p->lists.outcomes = nullptr; }));
  }

 private:
  const Params good_;
  const Scan scan_;
  const Reference reference_;
};

}  // namespace intarsia::kernels
