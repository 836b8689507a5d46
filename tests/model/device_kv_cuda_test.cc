#include <algorithm>
#include <cstdint>
#include <memory>
#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/device.h"
#include "model/device_kv.h"
#include "tests/kernels/device_test.h"
#include "tests/model/device_model.h"

namespace intarsia::model {
namespace {

constexpr int64_t kPageBytes = 2 * 3 * 2 * 64 * kernels::kPageTokens * 2;

ModelConfig Config() {
  ModelConfig config;
  config.num_layers = 3;
  config.num_kv_heads = 2;
  config.head_dim = 64;
  return config;
}

class DeviceKvTest : public kernels::DeviceTest {
 protected:
  void SetUp() override {
    kernels::DeviceTest::SetUp();
    if (IsSkipped()) return;
    ASSERT_TRUE(kernels::UseDevice(0).ok());
    stream_ = std::make_unique<kernels::DeviceStream>(
        Take(kernels::DeviceStream::Create(kernels::StreamPriority::kNormal)));
    // Ten pages, and the page tables of two requests, but not one byte more.
    pool_ = Take(DeviceKvPool::Create(
        Config(), {.budget_bytes = 10 * (kPageBytes + 8), .num_requests_max = 2}, stream()));
  }

  kernels::Stream stream() const { return stream_->get(); }

  std::vector<int32_t> TableOnDevice(const DeviceKv& kv) const {
    std::vector<int32_t> table(kv.pages().size());
    EXPECT_TRUE(kernels::CopyToHost(table.data(), kv.page_table(),
                                    static_cast<int64_t>(table.size() * 4), stream())
                    .ok());
    EXPECT_TRUE(kernels::WaitFor(stream()).ok());
    return table;
  }

  // What `enqueue` returns while the stream takes no work: it is being recorded, and waiting for
  // it, which is not allowed then, has spoilt the recording. Afterwards the stream works again.
  template <typename Enqueue>
  Status OnASpoiltStream(const Enqueue& enqueue) const {
    Status status;
    const auto recorded = kernels::DeviceGraph::Record(stream(), [&] {
      EXPECT_FALSE(kernels::WaitFor(stream()).ok());
      status = enqueue();
      return Status::Ok();
    });
    EXPECT_FALSE(recorded.ok());
    EXPECT_TRUE(kernels::WaitFor(stream()).ok());
    return status;
  }

  std::unique_ptr<kernels::DeviceStream> stream_;
  std::unique_ptr<DeviceKvPool> pool_;
};

TEST_F(DeviceKvTest, TheBudgetIsHard) {
  EXPECT_EQ(pool_->num_pages(), 10);
  EXPECT_LE(pool_->num_bytes(), 10 * (kPageBytes + 8));
  auto first = Take(pool_->Allocate(6 * kernels::kPageTokens, stream()));
  EXPECT_EQ(pool_->num_free_pages(), 4);
  const auto refused = pool_->Allocate(4 * kernels::kPageTokens + 1, stream());
  EXPECT_EQ(refused.status().code(), StatusCode::kResourceExhausted) << refused.status();
  EXPECT_EQ(pool_->num_free_pages(), 4);
  EXPECT_EQ(first->Extend(INT64_MAX).code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(first->capacity(), 6 * kernels::kPageTokens);
  ASSERT_TRUE(first->Extend(10 * kernels::kPageTokens).ok());
  EXPECT_EQ(pool_->num_free_pages(), 0);
  first.reset();
  EXPECT_EQ(pool_->num_free_pages(), 10);
}

TEST_F(DeviceKvTest, RequestsHaveDistinctPagesAndTablesThatTheDeviceSees) {
  const auto first = Take(pool_->Allocate(300, stream()));
  const auto second = Take(pool_->Allocate(1, stream()));
  ASSERT_TRUE(first->Extend(500).ok());
  ASSERT_TRUE(second->Extend(129).ok());
  std::set<int32_t> pages(first->pages().begin(), first->pages().end());
  pages.insert(second->pages().begin(), second->pages().end());
  EXPECT_EQ(pages.size(), 6U);
  EXPECT_TRUE(std::ranges::equal(TableOnDevice(*first), first->pages()));
  EXPECT_TRUE(std::ranges::equal(TableOnDevice(*second), second->pages()));
  EXPECT_NE(first->page_table(), second->page_table());
  EXPECT_EQ(first->layer(0).num_tokens, 512);
  const int64_t half = first->layer(0).v_pages - first->layer(0).k_pages;
  EXPECT_EQ(first->layer(1).k_pages - first->layer(0).v_pages, half);
  EXPECT_TRUE(kernels::CheckPagedKvLayer(first->layer(2)).ok());
}

TEST_F(DeviceKvTest, SlotsAreLimitedAndComeBack) {
  auto first = Take(pool_->Allocate(1, stream()));
  auto second = Take(pool_->Allocate(1, stream()));
  EXPECT_EQ(pool_->Allocate(1, stream()).status().code(), StatusCode::kResourceExhausted);
  first.reset();
  const auto third = Take(pool_->Allocate(1'000, stream()));
  EXPECT_EQ(third->capacity(), 1'024);
  EXPECT_TRUE(std::ranges::equal(TableOnDevice(*third), third->pages()));
  // A request that found no pages leaves its slot behind.
  second.reset();
  EXPECT_FALSE(pool_->Allocate(5'000, stream()).ok());
  EXPECT_TRUE(pool_->Allocate(1, stream()).ok());
}

TEST_F(DeviceKvTest, PagesThatDoNotReachTheTableGoBackAndTheRequestIsAsItWas) {
  auto kv = Take(pool_->Allocate(2 * kernels::kPageTokens, stream()));
  const std::vector<int32_t> pages(kv->pages().begin(), kv->pages().end());
  const int32_t* const table = kv->page_table();
  for (int round = 0; round < 3; ++round) {
    const Status status =
        OnASpoiltStream([&] { return kv->Extend(kv->capacity() + 3 * kernels::kPageTokens); });
    EXPECT_EQ(status.code(), StatusCode::kInternal) << status;
    EXPECT_TRUE(status.message().starts_with("device kv pool: ")) << status;
    EXPECT_EQ(pool_->num_free_pages(), 8);
    EXPECT_EQ(kv->capacity(), 2 * kernels::kPageTokens);
    EXPECT_TRUE(std::ranges::equal(kv->pages(), pages));
    EXPECT_EQ(TableOnDevice(*kv), pages);
  }
  // What it has is enough, so nothing is copied.
  EXPECT_TRUE(OnASpoiltStream([&] { return kv->Extend(kernels::kPageTokens); }).ok());
  ASSERT_TRUE(kv->Extend(10 * kernels::kPageTokens).ok());
  EXPECT_EQ(kv->page_table(), table);
  EXPECT_EQ(std::set<int32_t>(kv->pages().begin(), kv->pages().end()).size(), 10U);
  EXPECT_TRUE(std::ranges::equal(TableOnDevice(*kv), kv->pages()));
  kv.reset();
  EXPECT_EQ(pool_->num_free_pages(), 10);
}

// Here it is waiting for whoever had the pages before that fails.
TEST_F(DeviceKvTest, PagesThatCannotBeWaitedForStayFree) {
  Take(pool_->Allocate(10 * kernels::kPageTokens, stream())).reset();
  const auto kv = Take(pool_->Allocate(1, stream()));
  EXPECT_EQ(OnASpoiltStream([&] { return kv->Extend(200); }).code(), StatusCode::kInternal);
  EXPECT_EQ(kv->capacity(), kernels::kPageTokens);
  for (int round = 0; round < 3; ++round) {
    EXPECT_EQ(OnASpoiltStream([&] { return pool_->Allocate(200, stream()).status(); }).code(),
              StatusCode::kInternal);
    EXPECT_EQ(pool_->num_free_pages(), 9);
  }
  // Nor is the slot lost.
  const auto other = Take(pool_->Allocate(9 * kernels::kPageTokens, stream()));
  EXPECT_TRUE(std::ranges::equal(TableOnDevice(*other), other->pages()));
  EXPECT_TRUE(std::ranges::equal(TableOnDevice(*kv), kv->pages()));
}

TEST_F(DeviceKvTest, BadOptionsAreRefused) {
  EXPECT_EQ(pool_->Allocate(0, stream()).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(DeviceKvPool::Create(Config(), {.budget_bytes = kPageBytes}, stream()).status().code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(DeviceKvPool::Create(Config(), {.budget_bytes = -1}, stream()).status().code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(DeviceKvPool::Create(
                Config(), {.budget_bytes = int64_t{1} << 30, .num_requests_max = 0}, stream())
                .status()
                .code(),
            StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace intarsia::model
