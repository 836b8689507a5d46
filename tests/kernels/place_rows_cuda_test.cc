#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/place_rows.h"
#include "kernels/rope.h"
#include "tests/kernels/arrays_agree.h"
#include "tests/kernels/bf16_arrays.h"
#include "tests/kernels/device_array.h"
#include "tests/kernels/device_test.h"

namespace intarsia::kernels {
namespace {

constexpr Tolerance kTolerance{.absolute = 1e-6, .relative = 8e-3, .nmse = 1e-6};
constexpr int32_t kNumHeads = 6;
constexpr int32_t kNumKvHeads = 2;
constexpr int64_t kNumPages = 7;
constexpr int64_t kPositions = 1 << 17;

struct Case {
  int32_t head_dim = 0;
  int32_t rotary_dim = 0;
  RopePairing pairing = RopePairing::kHalfSplit;
  std::vector<int32_t> positions;
  int64_t page_table_stride = 0;
};

struct Outputs {
  std::vector<uint16_t> q;
  std::vector<uint16_t> k;
  std::vector<uint16_t> v;
};

// Host memory that begins where pages may.
class AlignedPages {
 public:
  explicit AlignedPages(const std::vector<uint16_t>& values)
      : size_(values.size()),
        memory_(static_cast<uint16_t*>(std::aligned_alloc(kBytes, Rounded(values.size()))),
                &std::free) {
    std::ranges::copy(values, data());
  }
  uint16_t* data() const { return memory_.get(); }
  std::vector<uint16_t> Read() const { return {data(), data() + size_}; }

 private:
  static constexpr size_t kBytes = 128;
  static size_t Rounded(size_t size) {
    return (size * sizeof(uint16_t) + kBytes - 1) / kBytes * kBytes;
  }

  const size_t size_;
  const std::unique_ptr<uint16_t, void (*)(void*)> memory_;
};

class Data {
 public:
  explicit Data(const Case& problem) : problem_(problem) {
    const auto num_rows = static_cast<int64_t>(problem.positions.size());
    const int64_t width = (kNumHeads + 2 * kNumKvHeads) * problem.head_dim;
    qkv_ = RandomBf16(num_rows * width, 1, 2.0F);
    const auto table = RopeTable::Create({.rotary_dim = problem.rotary_dim});
    EXPECT_TRUE(table.ok());
    digits_ = *FillRopeDigits(**table, kPositions);
    page_tables_ = {4, 0, 6, 2, 1, 3, 5};
    if (problem.page_table_stride > 0) page_tables_ = {4, 0, 6, 2, 1, 3};
  }

  Outputs Expected() const {
    Outputs outputs = Poisoned();
    const AlignedPages k(outputs.k);
    const AlignedPages v(outputs.v);
    PlaceRowsParams params = Params(qkv_.data(), problem_.positions.data(), digits_.data(),
                                    page_tables_.data(), &outputs);
    params.layer.k_pages = k.data();
    params.layer.v_pages = v.data();
    const Status status = PlaceRowsReference(params);
    EXPECT_TRUE(status.ok()) << status;
    return {outputs.q, k.Read(), v.Read()};
  }

  Outputs OnDevice() const {
    const Outputs poisoned = Poisoned();
    const DeviceArray<uint16_t> qkv(qkv_);
    const DeviceArray<int32_t> positions(problem_.positions);
    const DeviceArray<float> digits(digits_);
    const DeviceArray<int32_t> page_tables(page_tables_);
    const DeviceArray<uint16_t> q(poisoned.q);
    const DeviceArray<uint16_t> k(poisoned.k);
    const DeviceArray<uint16_t> v(poisoned.v);
    Outputs unused;
    PlaceRowsParams params =
        Params(qkv.data(), positions.data(), digits.data(), page_tables.data(), &unused);
    params.q = q.data();
    params.layer.k_pages = k.data();
    params.layer.v_pages = v.data();
    const Status status = PlaceRowsCuda(params, nullptr);
    EXPECT_TRUE(status.ok()) << status;
    EXPECT_TRUE(q.GuardsAreIntact() && k.GuardsAreIntact() && v.GuardsAreIntact());
    EXPECT_EQ(qkv.CopyToHost(), qkv_);
    return {q.CopyToHost(), k.CopyToHost(), v.CopyToHost()};
  }

  PlaceRowsParams Params(const uint16_t* qkv, const int32_t* positions, const float* digits,
                         const int32_t* page_tables, Outputs* outputs) const {
    return {.layer = {.k_pages = outputs->k.data(),
                      .v_pages = outputs->v.data(),
                      .page_table = page_tables,
                      .num_pages = kNumPages,
                      .num_tokens = problem_.page_table_stride > 0 ? 2 * kPageTokens
                                                                   : kNumPages * kPageTokens,
                      .num_kv_heads = kNumKvHeads,
                      .head_dim = problem_.head_dim},
            .page_table_stride = problem_.page_table_stride,
            .qkv = qkv,
            .positions = positions,
            .rope = {.low = digits,
                     .high = digits + kRopeDigitValues * problem_.rotary_dim,
                     .num_high = NumHighRopeDigits(kPositions),
                     .rotary_dim = problem_.rotary_dim,
                     .pairing = problem_.pairing},
            .q = outputs->q.data(),
            .num_rows = static_cast<int64_t>(problem_.positions.size()),
            .num_heads = kNumHeads};
  }

 private:
  Outputs Poisoned() const {
    const auto q_size = problem_.positions.size() * static_cast<size_t>(kNumHeads) *
                        static_cast<size_t>(problem_.head_dim);
    const auto pool_size =
        static_cast<size_t>(kNumPages * PageElements(kNumKvHeads, problem_.head_dim));
    return {std::vector<uint16_t>(q_size, kBf16Nan), std::vector<uint16_t>(pool_size, kBf16Nan),
            std::vector<uint16_t>(pool_size, kBf16Nan)};
  }

  const Case problem_;
  std::vector<uint16_t> qkv_;
  std::vector<float> digits_;
  std::vector<int32_t> page_tables_;
};

using PlaceRowsCudaTest = DeviceTest;

void ExpectAgreement(const Case& problem) {
  const Data data(problem);
  const Outputs expected = data.Expected();
  const Outputs actual = data.OnDevice();
  EXPECT_TRUE(ArraysAgree(ToFloats(actual.q), ToFloats(expected.q), kTolerance));
  EXPECT_TRUE(ArraysAgree(ToFloats(actual.k), ToFloats(expected.k), kTolerance));
  EXPECT_TRUE(ArraysAgree(ToFloats(actual.v), ToFloats(expected.v), {}));
}

TEST_F(PlaceRowsCudaTest, AgreesWithTheReferenceAndWritesNothingElse) {
  for (const RopePairing pairing : {RopePairing::kHalfSplit, RopePairing::kInterleaved}) {
    for (const auto& [head_dim, rotary_dim] :
         {std::pair{16, 16}, {64, 64}, {128, 128}, {128, 32}, {256, 256}}) {
      SCOPED_TRACE(std::to_string(head_dim) + ", rotated " + std::to_string(rotary_dim));
      ExpectAgreement({head_dim, rotary_dim, pairing, {0, 1, 127, 128, 300, 511, 895}});
    }
  }
}

TEST_F(PlaceRowsCudaTest, RowsOfManyRequestsGoToTheirOwnPages) {
  ExpectAgreement({64, 64, RopePairing::kHalfSplit, {200, 5, 128}, /*page_table_stride=*/2});
}

TEST_F(PlaceRowsCudaTest, RowsOutOfRangeAreLeftAlone) {
  ExpectAgreement({64, 64, RopePairing::kHalfSplit, {-1, 3, 896, 1'000'000'000, 7}});
}

TEST_F(PlaceRowsCudaTest, BadParamsAreRefused) {
  const Data data({64, 64, RopePairing::kHalfSplit, {1, 2}});
  const auto bits = FilledOnDevice<uint16_t>(8, 0);
  const auto floats = FilledOnDevice<float>(8, 0.0F);
  const auto numbers = FilledOnDevice<int32_t>(8, 0);
  Outputs unused;
  PlaceRowsParams good =
      data.Params(bits.data(), numbers.data(), floats.data(), numbers.data(), &unused);
  good.layer.k_pages = bits.data();
  good.layer.v_pages = bits.data();
  good.q = bits.data();
  ASSERT_TRUE(CheckPlaceRows(good).ok());
  PlaceRowsParams params = good;
  params.qkv = nullptr;
  EXPECT_EQ(PlaceRowsCuda(params, nullptr).code(), StatusCode::kInvalidArgument);
  params = good;
  params.num_rows = -1;
  EXPECT_EQ(PlaceRowsCuda(params, nullptr).code(), StatusCode::kInvalidArgument);
  params = good;
  params.rope.rotary_dim = 128;
  EXPECT_EQ(PlaceRowsCuda(params, nullptr).code(), StatusCode::kInvalidArgument);
  params = good;
  params.rope.rotary_dim = 24;
  EXPECT_EQ(PlaceRowsCuda(params, nullptr).code(), StatusCode::kUnsupported);
  params = good;
  params.layer.page_table = nullptr;
  EXPECT_EQ(PlaceRowsCuda(params, nullptr).code(), StatusCode::kInvalidArgument);
  params = good;
  params.num_rows = 0;
  EXPECT_TRUE(PlaceRowsCuda(params, nullptr).ok());
}

}  // namespace
}  // namespace intarsia::kernels
