#include <cstdint>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/gather_rows.h"
#include "tests/kernels/arrays_agree.h"
#include "tests/kernels/bf16_arrays.h"
#include "tests/kernels/device_array.h"
#include "tests/kernels/device_test.h"

namespace intarsia::kernels {
namespace {

using GatherRowsCudaTest = DeviceTest;

TEST_F(GatherRowsCudaTest, GathersRowsOfAnySizeAndZerosForRowsOutOfRange) {
  const std::vector<int32_t> rows = {0, 4, 4, 10, -1, 11, 2'000'000'000, 3};
  for (const int64_t row_floats : {1, 3, 4, 144, 1025}) {
    SCOPED_TRACE(row_floats);
    const std::vector<float> source = RandomFloats(11 * row_floats, 1);
    std::vector<float> expected(rows.size() * static_cast<size_t>(row_floats));
    const DeviceArray<float> device_source(source);
    const DeviceArray<int32_t> device_rows(rows);
    const auto target = FilledOnDevice<float>(static_cast<int64_t>(expected.size()), 7.0F);
    GatherRowsParams params{.source = device_source.data(),
                            .rows = device_rows.data(),
                            .target = target.data(),
                            .num_source_rows = 11,
                            .num_rows = static_cast<int64_t>(rows.size()),
                            .row_bytes = row_floats * 4};
    ASSERT_TRUE(GatherRowsCuda(params, nullptr).ok());
    params.source = source.data();
    params.rows = rows.data();
    params.target = expected.data();
    ASSERT_TRUE(GatherRowsReference(params).ok());
    EXPECT_EQ(target.CopyToHost(), expected);
    EXPECT_TRUE(target.GuardsAreIntact());
  }
}

TEST_F(GatherRowsCudaTest, EmbedsTokensAndZerosForTokensOutOfRange) {
  const std::vector<int32_t> tokens = {0, 16, 5, -1, 17, 5, 2'000'000'000};
  for (const int64_t dim : {8, 64, 2048, 4104}) {
    SCOPED_TRACE(dim);
    const std::vector<uint16_t> table = RandomBf16(17 * dim, 1);
    std::vector<float> expected(tokens.size() * static_cast<size_t>(dim));
    const DeviceArray<uint16_t> device_table(table);
    const DeviceArray<int32_t> device_tokens(tokens);
    const auto hidden = FilledOnDevice<float>(static_cast<int64_t>(expected.size()), 7.0F);
    EmbedRowsParams params{.table = device_table.data(),
                           .tokens = device_tokens.data(),
                           .hidden = hidden.data(),
                           .vocab_size = 17,
                           .num_rows = static_cast<int64_t>(tokens.size()),
                           .dim = dim,
                           .scale = 25.3F};
    ASSERT_TRUE(EmbedRowsCuda(params, nullptr).ok());
    params.table = table.data();
    params.tokens = tokens.data();
    params.hidden = expected.data();
    ASSERT_TRUE(EmbedRowsReference(params).ok());
    EXPECT_EQ(hidden.CopyToHost(), expected);
    EXPECT_TRUE(hidden.GuardsAreIntact());
  }
}

TEST_F(GatherRowsCudaTest, BadParamsAreRefused) {
  const auto floats = FilledOnDevice<float>(64, 0.0F);
  const auto numbers = FilledOnDevice<int32_t>(4, 0);
  const auto bits = FilledOnDevice<uint16_t>(64, 0);
  const GatherRowsParams good{.source = floats.data(),
                              .rows = numbers.data(),
                              .target = floats.data() + 32,
                              .num_source_rows = 2,
                              .num_rows = 2,
                              .row_bytes = 16};
  EXPECT_TRUE(GatherRowsCuda(good, nullptr).ok());
  GatherRowsParams params = good;
  params.rows = nullptr;
  EXPECT_EQ(GatherRowsCuda(params, nullptr).code(), StatusCode::kInvalidArgument);
  params = good;
  params.row_bytes = 6;
  EXPECT_EQ(GatherRowsCuda(params, nullptr).code(), StatusCode::kInvalidArgument);
  const EmbedRowsParams embed{.table = bits.data(),
                              .tokens = numbers.data(),
                              .hidden = floats.data(),
                              .vocab_size = 2,
                              .num_rows = 1,
                              .dim = 8};
  EXPECT_TRUE(EmbedRowsCuda(embed, nullptr).ok());
  EmbedRowsParams bad = embed;
  bad.dim = 12;
  EXPECT_EQ(EmbedRowsCuda(bad, nullptr).code(), StatusCode::kUnsupported);
  bad = embed;
  bad.vocab_size = 0;
  EXPECT_EQ(EmbedRowsCuda(bad, nullptr).code(), StatusCode::kInvalidArgument);
  bad = embed;
  bad.table = nullptr;
  EXPECT_EQ(EmbedRowsCuda(bad, nullptr).code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace intarsia::kernels
