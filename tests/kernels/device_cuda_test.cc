#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/device.h"
#include "tests/kernels/device_array.h"
#include "tests/kernels/device_test.h"

namespace intarsia::kernels {
namespace {

TEST(DeviceAbsenceTest, AMachineWithoutADeviceSaysSo) {
  const auto count = CountDevices();
  if (count.ok()) GTEST_SKIP() << "this machine has a device";
  EXPECT_EQ(count.status().code(), StatusCode::kUnsupported) << count.status();
  EXPECT_EQ(UseDevice(0).code(), StatusCode::kUnsupported);
  EXPECT_EQ(QueryDevice(0).status().code(), StatusCode::kUnsupported);
  EXPECT_EQ(PinnedBuffer::Allocate(8).status().code(), StatusCode::kUnsupported);
  EXPECT_EQ(DeviceStream::Create(StreamPriority::kNormal).status().code(),
            StatusCode::kUnsupported);
  EXPECT_EQ(DeviceEvent::Create(EventTiming::kOff).status().code(), StatusCode::kUnsupported);
  EXPECT_EQ(DeviceBuffer::Allocate(8, nullptr).status().code(), StatusCode::kUnsupported);
}

using DeviceCudaTest = DeviceTest;

TEST_F(DeviceCudaTest, ADeviceDescribesItself) {
  const auto info = QueryDevice(0);
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_FALSE(info->name.empty());
  EXPECT_GE(info->capability, 80);
  EXPECT_GT(info->num_multiprocessors, 0);
  EXPECT_GT(info->memory_bytes, 0);
  EXPECT_LE(info->free_bytes, info->memory_bytes);
  EXPECT_EQ(QueryDevice(-1).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(UseDevice(1'000).code(), StatusCode::kInvalidArgument);
}

TEST_F(DeviceCudaTest, WorkOfTwoStreamsIsOrderedByAnEvent) {
  auto first = DeviceStream::Create(StreamPriority::kNormal);
  auto second = DeviceStream::Create(StreamPriority::kHigh);
  auto filled = DeviceEvent::Create(EventTiming::kOn);
  auto copied = DeviceEvent::Create(EventTiming::kOn);
  ASSERT_TRUE(first.ok() && second.ok() && filled.ok() && copied.ok());
  const int64_t size = int64_t{32} << 20;
  auto buffer = DeviceBuffer::Allocate(size, first->get());
  auto pinned = PinnedBuffer::Allocate(size);
  ASSERT_TRUE(buffer.ok() && pinned.ok());
  ASSERT_TRUE(FillDevice(buffer->data(), 0x5a, size, first->get()).ok());
  ASSERT_TRUE(filled->Record(first->get()).ok());
  ASSERT_TRUE(filled->HoldBack(second->get()).ok());
  ASSERT_TRUE(CopyToHost(pinned->data(), buffer->data(), size, second->get()).ok());
  ASSERT_TRUE(copied->Record(second->get()).ok());
  ASSERT_TRUE(copied->Wait().ok());
  const auto is_reached = filled->IsReached();
  EXPECT_TRUE(is_reached.ok() && *is_reached);
  const auto milliseconds = copied->MillisecondsSince(*filled);
  ASSERT_TRUE(milliseconds.ok()) << milliseconds.status();
  EXPECT_GE(*milliseconds, 0.0F);
  for (int64_t i = 0; i < size; ++i) ASSERT_EQ(pinned->as<uint8_t>()[i], 0x5a) << i;
}

TEST_F(DeviceCudaTest, AskingForTooMuchIsRefusedAndTheDeviceStaysUsable) {
  const auto info = QueryDevice(0);
  ASSERT_TRUE(info.ok());
  const auto refused = DeviceBuffer::Allocate(2 * info->memory_bytes, nullptr);
  EXPECT_EQ(refused.status().code(), StatusCode::kResourceExhausted) << refused.status();
  EXPECT_EQ(DeviceBuffer::Allocate(-1, nullptr).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(PinnedBuffer::Allocate(-1).status().code(), StatusCode::kInvalidArgument);
  std::vector<int32_t> numbers(1'000);
  std::iota(numbers.begin(), numbers.end(), 0);
  const DeviceArray<int32_t> array(numbers);
  const DeviceArray<int32_t> copy(std::vector<int32_t>(1'000));
  ASSERT_TRUE(CopyOnDevice(copy.data(), array.data(), 4'000, nullptr).ok());
  EXPECT_EQ(copy.CopyToHost(), numbers);
  EXPECT_TRUE(copy.GuardsAreIntact());
}

TEST_F(DeviceCudaTest, AnErrorIsReportedOnceAndNotByTheNextLaunch) {
  auto stream = DeviceStream::Create(StreamPriority::kNormal);
  ASSERT_TRUE(stream.ok());
  auto buffer = DeviceBuffer::Allocate(8, stream->get());
  auto event = DeviceEvent::Create(EventTiming::kOff);
  ASSERT_TRUE(buffer.ok() && event.ok());
  ASSERT_TRUE(WaitFor(stream->get()).ok());
  const auto recorded = DeviceGraph::Record(stream->get(), [&] {
    // Not allowed here, and then nothing is.
    EXPECT_FALSE(WaitFor(stream->get()).ok());
    EXPECT_EQ(cudaPeekAtLastError(), cudaSuccess);
    EXPECT_EQ(FillDevice(buffer->data(), 1, 8, stream->get()).code(), StatusCode::kInternal);
    EXPECT_EQ(cudaPeekAtLastError(), cudaSuccess);
    const int64_t number = 1;
    EXPECT_FALSE(CopyToDevice(buffer->data(), &number, 8, stream->get()).ok());
    EXPECT_EQ(cudaPeekAtLastError(), cudaSuccess);
    EXPECT_FALSE(event->Record(stream->get()).ok());
    EXPECT_EQ(cudaPeekAtLastError(), cudaSuccess);
    return Status(StatusCode::kCancelled, "enough");
  });
  EXPECT_EQ(recorded.status().code(), StatusCode::kCancelled);
  EXPECT_EQ(cudaPeekAtLastError(), cudaSuccess);
  // The stream works again.
  ASSERT_TRUE(FillDevice(buffer->data(), 7, 8, stream->get()).ok());
  int64_t number = 0;
  ASSERT_TRUE(CopyToHost(&number, buffer->data(), 8, stream->get()).ok());
  ASSERT_TRUE(WaitFor(stream->get()).ok());
  EXPECT_EQ(number, 0x0707070707070707);
}

TEST_F(DeviceCudaTest, FreeMemoryGoesBackToTheSystemWhenItIsAsked) {
  constexpr int64_t kSize = int64_t{512} << 20;
  const auto pool_bytes = [] {
    const auto info = QueryDevice(0);
    EXPECT_TRUE(info.ok()) << info.status();
    return info.ok() ? info->pool_bytes : 0;
  };
  auto stream = DeviceStream::Create(StreamPriority::kNormal);
  ASSERT_TRUE(UseDevice(0).ok() && stream.ok());
  const auto kept = DeviceBuffer::Allocate(8, stream->get());
  ASSERT_TRUE(kept.ok() && FillDevice(kept->data(), 7, 8, stream->get()).ok());
  int64_t used_bytes = 0;
  {
    const auto buffer = DeviceBuffer::Allocate(kSize, stream->get());
    ASSERT_TRUE(buffer.ok()) << buffer.status();
    used_bytes = pool_bytes();
    EXPECT_GE(used_bytes, kSize);
    // What is in use stays.
    EXPECT_TRUE(ReturnFreeMemory(0).ok());
    EXPECT_GE(pool_bytes(), kSize);
    EXPECT_TRUE(FillDevice(buffer->data(), 1, kSize, stream->get()).ok());
  }
  ASSERT_TRUE(WaitFor(stream->get()).ok());
  EXPECT_GE(pool_bytes(), kSize);
  EXPECT_TRUE(ReturnFreeMemory(0).ok());
  EXPECT_LE(pool_bytes(), used_bytes - kSize / 2);
  int64_t number = 0;
  ASSERT_TRUE(CopyToHost(&number, kept->data(), 8, stream->get()).ok());
  ASSERT_TRUE(WaitFor(stream->get()).ok());
  EXPECT_EQ(number, 0x0707070707070707);
  EXPECT_EQ(ReturnFreeMemory(1'000).code(), StatusCode::kInvalidArgument);
}

TEST_F(DeviceCudaTest, AnEmptyBufferIsNull) {
  const auto buffer = DeviceBuffer::Allocate(0, nullptr);
  ASSERT_TRUE(buffer.ok());
  EXPECT_EQ(buffer->data(), nullptr);
  EXPECT_TRUE(CopyToHost(nullptr, nullptr, 0, nullptr).ok());
  EXPECT_EQ(CopyToHost(nullptr, nullptr, -1, nullptr).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(FillDevice(nullptr, 0, -1, nullptr).code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace intarsia::kernels
