#include "kernels/paged_kv.h"

#include <cstdint>
#include <functional>
#include <vector>

#include <gtest/gtest.h>

namespace intarsia::kernels {
namespace {

// Never dereferenced: what the checker sees are addresses.
PagedKvLayer GoodLayer() {
  alignas(128) static uint16_t pages[256];
  static const int32_t table[3] = {2, 0, 1};
  return {.k_pages = pages,
          .v_pages = pages + 128,
          .page_table = table,
          .num_pages = 3,
          .num_tokens = 300,
          .num_kv_heads = 2,
          .head_dim = 64};
}

TEST(PagedKvTest, TokensOfAHeadLieTogetherWithinAPage) {
  const PagedKvLayer layer = GoodLayer();
  EXPECT_EQ(PagedKvOffset(layer, 0, 0, 1), 64);
  EXPECT_EQ(PagedKvOffset(layer, 0, 1, 0), 128 * 64);
  EXPECT_EQ(PagedKvOffset(layer, 1, 0, 0), PageElements(2, 64));
  EXPECT_EQ(PagedKvOffset(layer, int64_t{1} << 30, 1, 127),
            ((int64_t{1} << 31) + 1) * 128 * 64 + 127 * 64);
}

TEST(PagedKvTest, ALastPageMayBePartlyUsed) {
  EXPECT_EQ(NumPagesFor(0), 0);
  EXPECT_EQ(NumPagesFor(1), 1);
  EXPECT_EQ(NumPagesFor(128), 1);
  EXPECT_EQ(NumPagesFor(129), 2);
}

TEST(PagedKvTest, BadLayersAreRefused) {
  ASSERT_TRUE(CheckPagedKvLayer(GoodLayer()).ok());
  using Change = std::function<void(PagedKvLayer&)>;
  const std::vector<Change> invalid = {
      [](PagedKvLayer& layer) { layer.k_pages = nullptr; },
      [](PagedKvLayer& layer) { layer.v_pages += 8; },
      [](PagedKvLayer& layer) { layer.page_table = nullptr; },
      [](PagedKvLayer& layer) { layer.num_pages = 0; },
      [](PagedKvLayer& layer) { layer.num_pages = -1; },
      [](PagedKvLayer& layer) { layer.num_tokens = -1; },
      [](PagedKvLayer& layer) { layer.num_tokens = INT64_MAX; },
      [](PagedKvLayer& layer) { layer.num_kv_heads = 0; },
  };
  for (size_t i = 0; i < invalid.size(); ++i) {
    PagedKvLayer layer = GoodLayer();
    invalid[i](layer);
    EXPECT_EQ(CheckPagedKvLayer(layer).code(), StatusCode::kInvalidArgument) << "change " << i;
  }
  for (const int32_t head_dim : {0, -16, 8, 40, 272}) {
    PagedKvLayer layer = GoodLayer();
    layer.head_dim = head_dim;
    EXPECT_EQ(CheckPagedKvLayer(layer).code(), StatusCode::kUnsupported) << head_dim;
  }
}

TEST(PagedKvTest, ALayerWithoutTokensNeedsNoMemory) {
  EXPECT_TRUE(CheckPagedKvLayer({.num_kv_heads = 1, .head_dim = 128}).ok());
}

}  // namespace
}  // namespace intarsia::kernels
