#include "base/aligned_array.h"

#include <cstdint>
#include <utility>

#include <gtest/gtest.h>

namespace intarsia {
namespace {

TEST(AlignedArrayTest, BeginsAtACacheLine) {
  for (const int64_t size : {1, 3, 16, 1000}) {
    AlignedArray<float> array(size);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(array.data()) % 64, 0u);
    EXPECT_EQ(array.size(), size);
    EXPECT_EQ(array.num_bytes(), size * 4);
    EXPECT_EQ(array.span().size(), static_cast<size_t>(size));
    for (int64_t i = 0; i < size; ++i) array[i] = static_cast<float>(i);
    EXPECT_EQ(array[size - 1], static_cast<float>(size - 1));
  }
}

TEST(AlignedArrayTest, LargeArraysBeginAtAHugePage) {
  AlignedArray<uint8_t> array((int64_t{9} << 20) + 1);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(array.data()) % (uintptr_t{2} << 20), 0u);
  EXPECT_EQ(array.num_bytes(), (int64_t{9} << 20) + 1);
  array[array.size() - 1] = 7;
  EXPECT_EQ(array[array.size() - 1], 7);
}

TEST(AlignedArrayTest, MayBeEmpty) {
  const AlignedArray<float> unset;
  const AlignedArray<float> empty(0);
  EXPECT_EQ(unset.size(), 0);
  EXPECT_EQ(unset.data(), nullptr);
  EXPECT_EQ(empty.data(), nullptr);
  EXPECT_TRUE(empty.span().empty());
}

TEST(AlignedArrayTest, MoveKeepsTheMemory) {
  AlignedArray<int32_t> source(4);
  source[2] = 7;
  const int32_t* const data = source.data();
  AlignedArray<int32_t> target(std::move(source));
  EXPECT_EQ(target.data(), data);
  AlignedArray<int32_t> other(1);
  other = std::move(target);
  EXPECT_EQ(other.data(), data);
  EXPECT_EQ(other.size(), 4);
  EXPECT_EQ(other[2], 7);
}

TEST(AlignedArrayTest, AnArrayThatDoesNotFitIsAnError) {
  for (const int64_t size : {INT64_MAX, INT64_MAX / 4, int64_t{1} << 58}) {
    const auto array = AlignedArray<float>::TryCreate(size);
    ASSERT_FALSE(array.ok()) << size;
    EXPECT_EQ(array.status().code(), StatusCode::kResourceExhausted);
  }
  const auto fits = AlignedArray<float>::TryCreate(100);
  ASSERT_TRUE(fits.ok());
  EXPECT_EQ(fits->size(), 100);
  const auto empty = AlignedArray<float>::TryCreate(0);
  ASSERT_TRUE(empty.ok());
  EXPECT_EQ(empty->data(), nullptr);
}

TEST(AlignedArrayDeathTest, ANegativeSizeIsABug) {
  EXPECT_DEATH(AlignedArray<float>(-1), "check failed");
}

}  // namespace
}  // namespace intarsia
