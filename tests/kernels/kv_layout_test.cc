#include "kernels/kv_layout.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "base/aligned_array.h"
#include "kernels/convert.h"
#include "tests/kernels/for_each_target.h"

namespace intarsia::kernels {
namespace {

// A layer whose memory, with a guard band behind it, is filled with one byte.
class LayerMemory {
 public:
  LayerMemory(KvType type, int32_t num_kv_heads, int32_t head_dim, int64_t capacity)
      : num_bytes_(KvLayerBytes(type, num_kv_heads, head_dim, capacity)),
        k_(num_bytes_ + kGuardBytes),
        v_(num_bytes_ + kGuardBytes),
        layer_{.k = k_.data(),
               .v = v_.data(),
               .type = type,
               .num_kv_heads = num_kv_heads,
               .head_dim = head_dim,
               .capacity = capacity} {
    std::memset(k_.data(), kFill, static_cast<size_t>(k_.size()));
    std::memset(v_.data(), kFill, static_cast<size_t>(v_.size()));
  }

  const KvLayer& layer() const { return layer_; }
  float K(int64_t head, int64_t token, int64_t d) const {
    return Element(k_, KOffset(layer_, head, token, d));
  }
  float V(int64_t head, int64_t token, int64_t d) const {
    return Element(v_, VOffset(layer_, head, token, d));
  }
  std::vector<char> Bytes() const {
    std::vector<char> bytes(k_.data(), k_.data() + k_.size());
    bytes.insert(bytes.end(), v_.data(), v_.data() + v_.size());
    return bytes;
  }
  bool IsGuardIntact() const {
    for (int64_t i = num_bytes_; i < k_.size(); ++i) {
      if (k_[i] != kFill || v_[i] != kFill) return false;
    }
    return true;
  }

 private:
  static constexpr int64_t kGuardBytes = 256;
  static constexpr char kFill = 0x5a;

  float Element(const AlignedArray<char>& bytes, int64_t offset) const {
    if (layer_.type == KvType::kF32) {
      return reinterpret_cast<const float*>(bytes.data())[offset];
    }
    return Bf16ToF32(reinterpret_cast<const uint16_t*>(bytes.data())[offset]);
  }

  const int64_t num_bytes_;
  AlignedArray<char> k_;
  AlignedArray<char> v_;
  const KvLayer layer_;
};

std::vector<float> RandomFloats(int64_t size, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(size));
  for (float& value : values) value = normal(random);
  return values;
}

float Rounded(KvType type, float value) {
  return type == KvType::kF32 ? value : Bf16ToF32(F32ToBf16(value));
}

std::vector<int32_t> Consecutive(int32_t begin, int32_t size) {
  std::vector<int32_t> positions(static_cast<size_t>(size));
  std::iota(positions.begin(), positions.end(), begin);
  return positions;
}

class KvLayoutTest : public ::testing::TestWithParam<std::tuple<KvType, int32_t, int32_t>> {
 protected:
  KvType type() const { return std::get<0>(GetParam()); }
  int32_t num_kv_heads() const { return std::get<1>(GetParam()); }
  int32_t head_dim() const { return std::get<2>(GetParam()); }
  int64_t token_size() const { return int64_t{num_kv_heads()} * head_dim(); }
  LayerMemory NewLayer() const { return {type(), num_kv_heads(), head_dim(), 64}; }
};

TEST_P(KvLayoutTest, StoresEveryElementAtItsOffset) {
  // Whole blocks, ragged ends on both sides, gaps and a descending run.
  std::vector<std::vector<int32_t>> all_positions = {
      Consecutive(0, 64),  Consecutive(5, 1), Consecutive(3, 40), Consecutive(16, 17),
      Consecutive(47, 17), {0, 2, 4, 33, 34}, {9, 8, 7}};
  ForEachTarget([&] {
    for (const std::vector<int32_t>& positions : all_positions) {
      const LayerMemory memory = NewLayer();
      const auto num_tokens = static_cast<int64_t>(positions.size());
      const std::vector<float> k = RandomFloats(num_tokens * token_size(), 1);
      const std::vector<float> v = RandomFloats(num_tokens * token_size(), 2);
      ASSERT_TRUE(StoreKv({memory.layer(), positions.data(), k.data(), v.data(), num_tokens}).ok());
      for (int64_t i = 0; i < num_tokens * token_size(); ++i) {
        const int64_t token = positions[static_cast<size_t>(i / token_size())];
        const int64_t head = i % token_size() / head_dim();
        const int64_t d = i % head_dim();
        ASSERT_EQ(memory.K(head, token, d), Rounded(type(), k[static_cast<size_t>(i)])) << i;
        ASSERT_EQ(memory.V(head, token, d), Rounded(type(), v[static_cast<size_t>(i)])) << i;
      }
      EXPECT_TRUE(memory.IsGuardIntact());
    }
  });
}

TEST_P(KvLayoutTest, LoadsBackWhatWasStored) {
  ForEachTarget([&] {
    const LayerMemory memory = NewLayer();
    const std::vector<float> k = RandomFloats(64 * token_size(), 1);
    const std::vector<float> v = RandomFloats(64 * token_size(), 2);
    const std::vector<int32_t> positions = Consecutive(0, 64);
    ASSERT_TRUE(StoreKv({memory.layer(), positions.data(), k.data(), v.data(), 64}).ok());
    for (const auto& [begin, num_tokens] :
         std::vector<std::pair<int64_t, int64_t>>{{0, 64}, {3, 40}, {16, 16}, {63, 1}, {64, 0}}) {
      const auto size = static_cast<size_t>(num_tokens * token_size());
      std::vector<float> loaded_k(size);
      std::vector<float> loaded_v(size);
      ASSERT_TRUE(
          LoadKv({memory.layer(), begin, num_tokens, loaded_k.data(), loaded_v.data()}).ok());
      for (size_t i = 0; i < size; ++i) {
        const size_t from = static_cast<size_t>(begin * token_size()) + i;
        ASSERT_EQ(loaded_k[i], Rounded(type(), k[from])) << i;
        ASSERT_EQ(loaded_v[i], Rounded(type(), v[from])) << i;
      }
    }
  });
}

TEST_P(KvLayoutTest, TouchesOnlyTheTokensItStores) {
  ForEachTarget([&] {
    const LayerMemory memory = NewLayer();
    const LayerMemory untouched = NewLayer();
    const std::vector<int32_t> positions = Consecutive(15, 18);
    const std::vector<float> rows = RandomFloats(18 * token_size(), 3);
    ASSERT_TRUE(StoreKv({memory.layer(), positions.data(), rows.data(), rows.data(), 18}).ok());
    for (int64_t token = 0; token < 64; ++token) {
      if (token >= 15 && token < 33) continue;
      for (int64_t i = 0; i < token_size(); ++i) {
        const int64_t head = i / head_dim();
        ASSERT_EQ(memory.K(head, token, i % head_dim()), untouched.K(head, token, i % head_dim()));
        ASSERT_EQ(memory.V(head, token, i % head_dim()), untouched.V(head, token, i % head_dim()));
      }
    }
  });
}

TEST_P(KvLayoutTest, NullHalvesAreLeftAlone) {
  const std::vector<int32_t> positions = Consecutive(0, 20);
  const std::vector<float> rows = RandomFloats(20 * token_size(), 4);
  const LayerMemory keys = NewLayer();
  ASSERT_TRUE(StoreKv({keys.layer(), positions.data(), rows.data(), nullptr, 20}).ok());
  const LayerMemory values = NewLayer();
  ASSERT_TRUE(StoreKv({values.layer(), positions.data(), nullptr, rows.data(), 20}).ok());
  const LayerMemory untouched = NewLayer();
  EXPECT_EQ(keys.V(0, 0, 0), untouched.V(0, 0, 0));
  EXPECT_EQ(values.K(0, 0, 0), untouched.K(0, 0, 0));
  EXPECT_EQ(keys.K(0, 0, 0), Rounded(type(), rows[0]));
  EXPECT_EQ(values.V(0, 0, 0), Rounded(type(), rows[0]));
  std::vector<float> loaded(rows.size());
  ASSERT_TRUE(LoadKv({keys.layer(), 0, 20, loaded.data(), nullptr}).ok());
  ASSERT_TRUE(LoadKv({values.layer(), 0, 20, nullptr, loaded.data()}).ok());
}

TEST_P(KvLayoutTest, NaNAndInfinitiesSurvive) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  std::vector<float> rows(static_cast<size_t>(16 * token_size()), 1.0F);
  rows[0] = std::numeric_limits<float>::quiet_NaN();
  rows[1] = kInfinity;
  rows[2] = -kInfinity;
  rows[3] = std::bit_cast<float>(0x7f800001U);  // A NaN whose payload is lost by rounding.
  const std::vector<int32_t> positions = Consecutive(16, 16);
  ForEachTarget([&] {
    const LayerMemory memory = NewLayer();
    ASSERT_TRUE(StoreKv({memory.layer(), positions.data(), rows.data(), rows.data(), 16}).ok());
    EXPECT_TRUE(std::isnan(memory.K(0, 16, 0)) && std::isnan(memory.V(0, 16, 0)));
    EXPECT_TRUE(std::isnan(memory.K(0, 16, 3)) && std::isnan(memory.V(0, 16, 3)));
    EXPECT_EQ(memory.K(0, 16, 1), kInfinity);
    EXPECT_EQ(memory.V(0, 16, 2), -kInfinity);
  });
}

using Shape = std::tuple<KvType, int32_t, int32_t>;

std::string NameOf(const ::testing::TestParamInfo<Shape>& shape) {
  return std::string(std::get<0>(shape.param) == KvType::kF32 ? "f32" : "bf16") + "_heads" +
         std::to_string(std::get<1>(shape.param)) + "_dim" +
         std::to_string(std::get<2>(shape.param));
}

INSTANTIATE_TEST_SUITE_P(Shapes, KvLayoutTest,
                         ::testing::Combine(::testing::Values(KvType::kF32, KvType::kBf16),
                                            ::testing::Values(1, 3),
                                            ::testing::Values(16, 64, 80, 256)),
                         NameOf);

TEST(KvLayoutErrorsTest, BytesAreThoseOfTheElements) {
  EXPECT_EQ(KvLayerBytes(KvType::kBf16, 3, 64, 4'096), 2 * 3 * 64 * 4'096);
  EXPECT_EQ(KvLayerBytes(KvType::kF32, 3, 64, 4'096), 4 * 3 * 64 * 4'096);
  EXPECT_EQ(KvLayerBytes(KvType::kF32, 0, 64, 4'096), -1);
  EXPECT_EQ(KvLayerBytes(KvType::kF32, 3, 64, 17), -1);
  EXPECT_EQ(KvLayerBytes(KvType::kF32, 3, 64, std::numeric_limits<int64_t>::max() / 16 * 16), -1);
}

TEST(KvLayoutErrorsTest, BadLayersAreRefused) {
  const LayerMemory memory(KvType::kBf16, 2, 64, 32);
  const auto code_of = [&](auto change) {
    KvLayer layer = memory.layer();
    change(layer);
    return CheckKvLayer(layer).code();
  };
  EXPECT_EQ(code_of([](KvLayer&) {}), StatusCode::kOk);
  EXPECT_EQ(code_of([](KvLayer& layer) { layer.k = nullptr; }), StatusCode::kInvalidArgument);
  EXPECT_EQ(code_of([](KvLayer& layer) { layer.v = nullptr; }), StatusCode::kInvalidArgument);
  EXPECT_EQ(code_of([](KvLayer& layer) { layer.v = static_cast<char*>(layer.v) + 2; }),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(code_of([](KvLayer& layer) { layer.type = static_cast<KvType>(7); }),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(code_of([](KvLayer& layer) { layer.num_kv_heads = 0; }), StatusCode::kInvalidArgument);
  EXPECT_EQ(code_of([](KvLayer& layer) { layer.head_dim = -16; }), StatusCode::kInvalidArgument);
  EXPECT_EQ(code_of([](KvLayer& layer) { layer.capacity = 30; }), StatusCode::kInvalidArgument);
  EXPECT_EQ(code_of([](KvLayer& layer) { layer.head_dim = 40; }), StatusCode::kUnsupported);
  EXPECT_EQ(code_of([](KvLayer& layer) { layer.head_dim = 272; }), StatusCode::kUnsupported);
}

TEST(KvLayoutErrorsTest, APositionOutOfRangeWritesNothing) {
  const LayerMemory memory(KvType::kBf16, 1, 16, 32);
  const std::vector<char> before = memory.Bytes();
  const std::vector<float> rows(48, 1.0F);
  for (const int32_t bad : {-1, 32}) {
    const std::vector<int32_t> positions = {0, 1, bad};
    const Status status = StoreKv({memory.layer(), positions.data(), rows.data(), rows.data(), 3});
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    EXPECT_NE(status.message().find("index=2"), std::string_view::npos) << status;
  }
  EXPECT_EQ(memory.Bytes(), before);
}

TEST(KvLayoutErrorsTest, CountsOutOfRangeAreRefused) {
  const LayerMemory memory(KvType::kBf16, 1, 16, 32);
  std::vector<float> rows(16, 1.0F);
  const auto load = [&](int64_t begin, int64_t num_tokens) {
    return LoadKv({memory.layer(), begin, num_tokens, rows.data(), rows.data()}).code();
  };
  EXPECT_EQ(load(31, 1), StatusCode::kOk);
  EXPECT_EQ(load(-1, 1), StatusCode::kInvalidArgument);
  EXPECT_EQ(load(0, -1), StatusCode::kInvalidArgument);
  EXPECT_EQ(load(32, 1), StatusCode::kInvalidArgument);
  EXPECT_EQ(load(1, std::numeric_limits<int64_t>::max()), StatusCode::kInvalidArgument);
  EXPECT_EQ(StoreKv({memory.layer(), nullptr, rows.data(), rows.data(), 1}).code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(StoreKv({memory.layer(), nullptr, nullptr, nullptr, -1}).code(),
            StatusCode::kInvalidArgument);
  EXPECT_TRUE(StoreKv({memory.layer(), nullptr, nullptr, nullptr, 0}).ok());
}

}  // namespace
}  // namespace intarsia::kernels
