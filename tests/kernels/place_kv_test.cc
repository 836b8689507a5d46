#include "kernels/place_kv.h"

#include <gtest/gtest.h>

#include "kernels/propagate.h"
#include "tests/kernels/arrays_agree.h"
#include "tests/kernels/place_kv_host_data.h"

namespace intarsia::kernels {
namespace {

// What the CPU's kernels make of a token: decode, Propagate, ApplyRope.
struct Placed {
  std::vector<float> k;
  std::vector<float> v;
};

std::vector<float> Widen(const uint16_t* bits, int64_t size) {
  std::vector<float> values(static_cast<size_t>(size));
  Bf16ToF32(bits, size, values.data());
  return values;
}

std::vector<float> Shifted(const PlaceKvData& data, size_t index, int32_t token, KvHalf half) {
  const PlacedSegment& segment = data.segments[index];
  const int64_t width = int64_t{data.test_case.num_kv_heads} * data.test_case.head_dim;
  std::vector<float> cached(static_cast<size_t>(width));
  EXPECT_TRUE(DecodeKv({.type = data.test_case.type,
                        .payload = data.payloads[index].data(),
                        .payload_bytes = static_cast<int64_t>(data.payloads[index].size()),
                        .num_tokens = segment.num_tokens,
                        .width = width,
                        .half = half,
                        .begin = token,
                        .count = 1,
                        .target = cached.data()})
                  .ok());
  const bool is_key = half == KvHalf::kKey;
  const auto& weights = is_key ? data.key_weights : data.value_weights;
  const auto& deltas = is_key ? data.key_deltas : data.value_deltas;
  const int64_t first = segment.first_weight + int64_t{token} * segment.weights_stride;
  const std::vector<float> wide_weights = Widen(weights.data() + first, segment.num_deltas);
  const std::vector<float> wide_deltas =
      Widen(deltas.data() + segment.first_delta * width, segment.num_deltas * width);
  std::vector<float> target(cached.size());
  EXPECT_TRUE(Propagate({.cached = cached.data(),
                         .weights = wide_weights.data(),
                         .deltas = wide_deltas.data(),
                         .target = target.data(),
                         .num_tokens = 1,
                         .num_deltas = segment.num_deltas,
                         .width = width})
                  .ok());
  return target;
}

TEST(PlaceKvTest, TheReferenceIsWhatTheCpusKernelsDo) {
  for (const PlaceKvCase& test_case : PlaceKvCases()) {
    SCOPED_TRACE(test_case.name);
    const PlaceKvData data(test_case);
    const PlacedPages pages = PlaceByReference(data);
    const auto table = RopeTable::Create({.rotary_dim = test_case.rotary_dim, .base = 10'000.0});
    ASSERT_TRUE(table.ok());
    const PagedKvLayer layer = data.Params().layer;
    for (size_t index = 0; index < data.segments.size(); ++index) {
      const PlacedSegment& segment = data.segments[index];
      const int32_t token = segment.num_tokens - 1;
      const int32_t position = segment.begin + token;
      std::vector<float> k = Shifted(data, index, token, KvHalf::kKey);
      const std::vector<float> v = Shifted(data, index, token, KvHalf::kValue);
      std::vector<float> cosines(static_cast<size_t>(test_case.rotary_dim / 2));
      std::vector<float> sines(cosines.size());
      ASSERT_TRUE((*table)->Fill(&position, 1, cosines.data(), sines.data()).ok());
      ASSERT_TRUE(ApplyRope({.x = k.data(),
                             .cosines = cosines.data(),
                             .sines = sines.data(),
                             .y = k.data(),
                             .num_tokens = 1,
                             .num_heads = test_case.num_kv_heads,
                             .head_dim = test_case.head_dim,
                             .rotary_dim = test_case.rotary_dim,
                             .pairing = test_case.pairing},
                            nullptr)
                      .ok());
      const int64_t page = data.page_table[static_cast<size_t>(position / kPageTokens)];
      for (int64_t head = 0; head < test_case.num_kv_heads; ++head) {
        const int64_t offset = PagedKvOffset(layer, page, head, position % kPageTokens);
        for (int64_t i = 0; i < test_case.head_dim; ++i) {
          const auto at = static_cast<size_t>(offset + i);
          if (data.is_row[static_cast<size_t>(position)] != 0) {
            EXPECT_EQ(pages.k[at], PlaceKvData::kPoison);
            EXPECT_EQ(pages.v[at], PlaceKvData::kPoison);
            continue;
          }
          const auto from = static_cast<size_t>(head * test_case.head_dim + i);
          EXPECT_NEAR(Bf16ToF32(pages.k[at]), k[from], 1e-3 + std::abs(k[from]) * 0x1p-7);
          EXPECT_NEAR(Bf16ToF32(pages.v[at]), v[from], 1e-3 + std::abs(v[from]) * 0x1p-7);
        }
      }
    }
  }
}

TEST(PlaceKvTest, TilesCoverEveryWantedTokenOnce) {
  const std::vector<PlacedSegment> segments = {
      {.num_tokens = 1}, {.num_tokens = 128}, {.num_tokens = 129}, {.num_tokens = 300}};
  const std::vector<uint8_t> wanted = {1, 1, 0, 1};
  int64_t num_tokens = 0;
  for (const PlaceTile& tile : MakePlaceTiles(segments, wanted)) {
    ASSERT_NE(tile.segment, 2);
    const PlacedSegment& segment = segments[static_cast<size_t>(tile.segment)];
    num_tokens += std::min(kPlaceTileTokens, segment.num_tokens - tile.first);
  }
  EXPECT_EQ(num_tokens, 1 + 128 + 300);
  EXPECT_EQ(MakePlaceTiles(segments, {}).size(), 1u + 1u + 2u + 3u);
}

}  // namespace
}  // namespace intarsia::kernels
