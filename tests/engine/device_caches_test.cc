// DeviceCaches: what stays on a device between prompts, with ordinary memory for the device's.
#include "engine/fusion/device_caches.h"

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/engine/fake_devices.h"

namespace intarsia::engine {
namespace {

constexpr int32_t kNumLayers = 2;
constexpr int64_t kNumTokens = 10;

model::ModelConfig Config() {
  model::ModelConfig config;
  config.num_layers = kNumLayers;
  config.num_kv_heads = 2;
  config.head_dim = 4;
  return config;
}

// A cache whose bytes are all `value`.
class NamedKv : public KvSource {
 public:
  NamedKv(const std::string& name, uint8_t value) : identity_(DigestOf(name)), value_(value) {}
  KvPayloadType type() const override { return KvPayloadType::kBf16; }
  int64_t num_tokens() const override { return kNumTokens; }
  Status ReadLayer(int32_t, std::span<uint8_t> target) const override {
    std::ranges::fill(target, value_);
    return Status::Ok();
  }
  const Digest* identity() const override { return &identity_; }

 private:
  const Digest identity_;
  const uint8_t value_;
};

int64_t LayerBytes() {
  return kernels::KvPayloadBytes(KvPayloadType::kBf16, kNumTokens, Config().kv_size());
}

struct Seen {
  int64_t num_resident = 0;
  int64_t num_coming = 0;
};

class DeviceCachesTest : public testing::Test {
 protected:
  explicit DeviceCachesTest(int64_t bytes_max = 1 << 20)
      : caches_(std::make_shared<SlabMemory>(std::make_unique<PlainMemory>(), 1 << 16), bytes_max) {
    for (uint8_t i = 0; i < 4; ++i) {
      sources_.push_back(std::make_unique<NamedKv>("cache " + std::to_string(i), i));
    }
  }

  // A prompt of the sources; one more segment without a cache.
  Prompt PromptOf(const std::vector<size_t>& indices) const {
    const std::vector<int32_t> tokens(static_cast<size_t>(kNumTokens), 1);
    std::vector<PromptPart> parts;
    for (const size_t index : indices) {
      parts.push_back({.tokens = tokens, .cached = sources_[index].get()});
    }
    parts.push_back({.tokens = tokens});
    return *Prompt::Create({}, parts, tokens);
  }

  // Runs a prompt as a device does: what is there must be right, what comes is copied. Segments of
  // `lost` are not.
  Seen Run(const std::vector<size_t>& indices, const std::vector<size_t>& lost = {},
           bool is_successful = true) {
    DeviceCaches::Lease lease(&caches_, PromptOf(indices), Config());
    Seen seen;
    const auto segments = lease.prompt().segments();
    EXPECT_EQ(segments.back().cached, nullptr);
    for (size_t index = 0; index + 1 < segments.size(); ++index) {
      const KvSource& source = *segments[index].cached;
      if (source.DeviceLayer(0) != nullptr) ++seen.num_resident;
      if (source.DeviceTarget(0) != nullptr) ++seen.num_coming;
      const bool is_lost = std::ranges::find(lost, index) != lost.end();
      for (int32_t layer = 0; layer < kNumLayers; ++layer) {
        const auto value = static_cast<uint8_t>(indices[index]);
        if (const uint8_t* const there = source.DeviceLayer(layer); there != nullptr) {
          EXPECT_EQ(source.DeviceTarget(layer), nullptr);
          EXPECT_EQ(std::count(there, there + LayerBytes(), value), LayerBytes());
        } else if (uint8_t* const target = source.DeviceTarget(layer); target && !is_lost) {
          EXPECT_TRUE(source.ReadLayer(layer, {target, static_cast<size_t>(LayerBytes())}).ok());
        }
      }
    }
    if (is_successful) lease.Keep(lost);
    return seen;
  }

  DeviceCaches caches_;
  std::vector<std::unique_ptr<NamedKv>> sources_;
};

TEST_F(DeviceCachesTest, ACacheComesInWithItsSecondPromptAndIsThereForTheThird) {
  EXPECT_EQ(Run({0, 1}).num_coming, 0);
  EXPECT_EQ(Run({0, 1}).num_coming, 2);
  EXPECT_EQ(Run({1, 0, 2}).num_resident, 2);
  const storage::KvMemoryStats stats = caches_.stats();
  EXPECT_EQ(stats.num_entries, 2);
  EXPECT_EQ(stats.num_pins, 0);
  EXPECT_EQ(stats.source_bytes, stats.num_bytes);
}

TEST_F(DeviceCachesTest, WhatWasLostOrFailedDoesNotStay) {
  Run({0, 1, 2});
  EXPECT_EQ(Run({0, 1, 2}, {1}).num_coming, 3);
  EXPECT_EQ(caches_.stats().num_entries, 2);
  EXPECT_EQ(Run({0, 2}).num_resident, 2);
  Run({3});
  EXPECT_EQ(Run({3}, {}, /*is_successful=*/false).num_coming, 1);
  EXPECT_EQ(caches_.stats().num_entries, 2);
  // They begin anew.
  EXPECT_EQ(Run({1, 3}).num_coming, 0);
  EXPECT_EQ(Run({1, 3}).num_coming, 2);
  EXPECT_EQ(Run({1, 3}).num_resident, 2);
}

TEST_F(DeviceCachesTest, TheSameCacheTwiceInAPromptIsOneEntry) {
  Run({0, 0});
  Run({0, 0});
  EXPECT_EQ(Run({0, 0}).num_resident, 2);
  EXPECT_EQ(caches_.stats().num_entries, 1);
}

TEST_F(DeviceCachesTest, WhatIsGoneIsForgotten) {
  Run({0, 1});
  Run({0, 1});
  const Digest gone = *sources_[0]->identity();
  caches_.RemoveIf([&gone](const Digest& identity) { return identity == gone; });
  EXPECT_EQ(caches_.stats().num_entries, 1);
  EXPECT_EQ(Run({0, 1}).num_resident, 1);
}

TEST_F(DeviceCachesTest, SourcesWithoutANameStayAsTheyAre) {
  const MemoryKv unnamed(
      KvPayloadType::kBf16, kNumTokens,
      {static_cast<size_t>(kNumLayers), std::vector<uint8_t>(static_cast<size_t>(LayerBytes()))});
  const std::vector<int32_t> tokens(static_cast<size_t>(kNumTokens), 1);
  const std::vector<PromptPart> parts = {{.tokens = tokens, .cached = &unnamed}};
  const Prompt prompt = *Prompt::Create({}, parts, tokens);
  for (int i = 0; i < 3; ++i) {
    const DeviceCaches::Lease lease(&caches_, prompt, Config());
    EXPECT_EQ(lease.prompt().segments()[0].cached, &unnamed);
  }
}

class EmptyMemory : public MemorySource {
 public:
  MemoryBlock Take(int64_t) override { return {}; }
  void Give(const MemoryBlock&) override {}
};

// A device that has less than the budget says, because others use it too.
class LimitedMemory : public PlainMemory {
 public:
  explicit LimitedMemory(int64_t num_blocks_max) : num_blocks_left_(num_blocks_max) {}
  MemoryBlock Take(int64_t num_bytes) override {
    if (num_blocks_left_ == 0) return {};
    --num_blocks_left_;
    return PlainMemory::Take(num_bytes);
  }
  void Give(const MemoryBlock& block) override {
    ++num_blocks_left_;
    PlainMemory::Give(block);
  }

 private:
  int64_t num_blocks_left_;
};

TEST_F(DeviceCachesTest, WithoutMemoryNothingStays) {
  DeviceCaches none(std::make_shared<EmptyMemory>(), 1 << 20);
  for (int i = 0; i < 3; ++i) {
    const Prompt prompt = PromptOf({0, 1});
    DeviceCaches::Lease lease(&none, prompt, Config());
    EXPECT_EQ(lease.prompt().segments()[0].cached, sources_[0].get());
    lease.Keep({});
  }
  EXPECT_EQ(none.stats().num_entries, 0);
  EXPECT_EQ(none.stats().admissions, 0);
}

TEST_F(DeviceCachesTest, WhereMemoryEndsBeforeTheBudgetTheHottestStay) {
  DeviceCaches caches(std::make_shared<LimitedMemory>(1), 1 << 20);
  const auto is_resident = [&](size_t index) {
    DeviceCaches::Lease lease(&caches, PromptOf({index}), Config());
    lease.Keep({});
    return lease.prompt().segments()[0].cached->DeviceLayer(0) != nullptr;
  };
  for (int i = 0; i < 3; ++i) is_resident(0);
  EXPECT_TRUE(is_resident(0));
  // Once known, another one is not worth more.
  is_resident(1);
  is_resident(1);
  EXPECT_TRUE(is_resident(0));
  EXPECT_EQ(caches.stats().evictions, 0);
  for (int i = 0; i < 40; ++i) is_resident(1);
  EXPECT_TRUE(is_resident(1));
  EXPECT_EQ(caches.stats().num_entries, 1);
  EXPECT_EQ(caches.stats().evictions, 1);
}

class SmallDeviceCachesTest : public DeviceCachesTest {
 protected:
  SmallDeviceCachesTest() : DeviceCachesTest(2 * kNumLayers * 384) {}  // two caches
};

TEST_F(SmallDeviceCachesTest, TheBudgetHolds) {
  ASSERT_EQ(LayerBytes(), 320);  // 384 in memory
  for (int i = 0; i < 20; ++i) {
    Run({static_cast<size_t>(i % 3), 3});
    EXPECT_LE(caches_.stats().num_bytes, 2 * kNumLayers * 384);
  }
  EXPECT_EQ(Run({3}).num_resident, 1);
}

}  // namespace
}  // namespace intarsia::engine
