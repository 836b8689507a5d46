// AttentionRowsCase: sizes and host data for AttentionRows and AttentionMass, in tests and benches.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <ostream>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/aligned_array.h"
#include "base/check.h"
#include "kernels/attention_rows.h"
#include "kernels/kv_layout.h"

namespace intarsia::kernels {

struct AttentionRowsCase {
  std::string name;  // letters, digits and underscores
  int32_t num_heads = 1;
  int32_t num_kv_heads = 1;
  int32_t head_dim = 64;
  std::vector<int32_t> positions;
  KvType type = KvType::kBf16;
  int32_t window = 0;
  float logit_softcap = 0.0F;
  float q_scale = 1.0F;  // standard deviation of the queries' elements; that of the keys is 1
};

inline std::ostream& operator<<(std::ostream& out, const AttentionRowsCase& problem) {
  return out << problem.name;
}

// All positions in [begin, end).
inline std::vector<int32_t> PositionRange(int32_t begin, int32_t end) {
  std::vector<int32_t> positions;
  for (int32_t position = begin; position < end; ++position) positions.push_back(position);
  return positions;
}

// `num_rows` distinct positions in [0, num_keys), sorted, the last among them.
inline std::vector<int32_t> ScatteredPositions(int64_t num_rows, int32_t num_keys) {
  std::vector<int32_t> positions = PositionRange(0, num_keys - 1);
  std::shuffle(positions.begin(), positions.end(), std::mt19937(17));
  positions.resize(static_cast<size_t>(num_rows - 1));
  positions.push_back(num_keys - 1);
  std::sort(positions.begin(), positions.end());
  return positions;
}

// The data of a case. Memory that no key was stored to is NaN, up to a whole block beyond the last.
class AttentionRowsData {
 public:
  explicit AttentionRowsData(const AttentionRowsCase& problem) : problem_(problem) {
    num_keys_ = int64_t{problem.positions.back()} + 1;
    const int64_t capacity = (num_keys_ + kKvBlockTokens - 1) / kKvBlockTokens * kKvBlockTokens;
    const KvLayer shape{.type = problem.type,
                        .num_kv_heads = problem.num_kv_heads,
                        .head_dim = problem.head_dim,
                        .capacity = capacity + kKvBlockTokens};
    const int64_t num_bytes =
        KvLayerBytes(shape.type, shape.num_kv_heads, shape.head_dim, shape.capacity);
    k_ = AlignedArray<unsigned char>(num_bytes);
    v_ = AlignedArray<unsigned char>(num_bytes);
    std::memset(k_.data(), 0xff, static_cast<size_t>(num_bytes));
    std::memset(v_.data(), 0xff, static_cast<size_t>(num_bytes));
    layer_ = shape;
    layer_.k = k_.data();
    layer_.v = v_.data();
    FillKeys();
    const auto num_rows = static_cast<int64_t>(problem.positions.size());
    q_ = AlignedArray<float>(num_rows * problem.num_heads * problem.head_dim);
    output_ = AlignedArray<float>(q_.size());
    std::normal_distribution<float> normal(0.0F, problem.q_scale);
    for (float& x : q_.span()) x = normal(random_);
  }

  int64_t num_keys() const { return num_keys_; }
  float* q() { return q_.data(); }
  const KvLayer& layer() const { return layer_; }

  AttentionRowsParams Params() {
    return {.layer = layer_,
            .q = q_.data(),
            .positions = problem_.positions.data(),
            .num_rows = static_cast<int64_t>(problem_.positions.size()),
            .num_heads = problem_.num_heads,
            .scale = 1.0F / std::sqrt(static_cast<float>(problem_.head_dim)),
            .window = problem_.window,
            .logit_softcap = problem_.logit_softcap,
            .output = output_.data()};
  }
  // Floating-point operations on visible keys.
  double NumFlops() const {
    double num_keys = 0.0;
    for (const int32_t position : problem_.positions) {
      const int64_t visible = int64_t{position} + 1;
      num_keys += static_cast<double>(
          problem_.window > 0 ? std::min<int64_t>(visible, problem_.window) : visible);
    }
    return 4.0 * problem_.head_dim * problem_.num_heads * num_keys;
  }
  std::vector<float> Output() const { return {output_.data(), output_.data() + output_.size()}; }

 private:
  void FillKeys() {
    const int64_t token_size = int64_t{problem_.num_kv_heads} * problem_.head_dim;
    std::vector<float> k(static_cast<size_t>(num_keys_ * token_size));
    std::vector<float> v(k.size());
    std::normal_distribution<float> normal;
    for (float& x : k) x = normal(random_);
    for (float& x : v) x = normal(random_);
    const std::vector<int32_t> tokens = PositionRange(0, static_cast<int32_t>(num_keys_));
    const Status status = StoreKv({layer_, tokens.data(), k.data(), v.data(), num_keys_});
    INTARSIA_CHECK(status.ok());
  }

  const AttentionRowsCase problem_;
  std::mt19937 random_{29};
  int64_t num_keys_ = 0;
  AlignedArray<unsigned char> k_;
  AlignedArray<unsigned char> v_;
  AlignedArray<float> q_;
  AlignedArray<float> output_;
  KvLayer layer_;
};

// Every shape that a form must get right, once for each type of layer.
inline std::vector<AttentionRowsCase> AttentionRowsCases() {
  const std::vector<AttentionRowsCase> shapes = {
      {.name = "one_key", .head_dim = 16, .positions = {0}},
      {.name = "two_keys", .head_dim = 16, .positions = {1}},
      {.name = "one_above_a_kv_block", .num_heads = 3, .positions = PositionRange(0, 17)},
      {.name = "one_above_a_key_block", .head_dim = 128, .positions = PositionRange(120, 129)},
      {.name = "odd_keys", .num_heads = 2, .num_kv_heads = 2, .positions = {30, 62, 64}},
      {.name = "smollm2", .num_heads = 9, .num_kv_heads = 3, .positions = PositionRange(0, 150)},
      {.name = "qwen",
       .num_heads = 14,
       .num_kv_heads = 2,
       .positions = ScatteredPositions(40, 600)},
      {.name = "group_of_8", .num_heads = 8, .head_dim = 80, .positions = PositionRange(0, 70)},
      {.name = "group_of_64", .num_heads = 64, .head_dim = 16, .positions = {5, 16, 40}},
      {.name = "group_of_5", .num_heads = 10, .num_kv_heads = 2, .positions = {5, 9, 77, 140}},
      {.name = "head_dim_48", .num_heads = 4, .head_dim = 48, .positions = PositionRange(7, 40)},
      {.name = "head_dim_112", .num_heads = 2, .head_dim = 112, .positions = PositionRange(0, 33)},
      {.name = "head_dim_256", .num_heads = 4, .head_dim = 256, .positions = PositionRange(0, 70)},
      {.name = "duplicates", .num_heads = 3, .positions = {3, 3, 3, 40, 40, 41, 300, 300}},
      {.name = "scattered", .num_heads = 1, .positions = ScatteredPositions(100, 900)},
      {.name = "window_1", .num_heads = 3, .positions = PositionRange(0, 40), .window = 1},
      {.name = "window_17", .num_heads = 3, .positions = PositionRange(0, 200), .window = 17},
      {.name = "window_128", .positions = ScatteredPositions(90, 700), .window = 128},
      {.name = "window_above_all", .positions = PositionRange(0, 40), .window = 1 << 30},
      {.name = "softcap", .num_heads = 2, .positions = PositionRange(0, 40), .logit_softcap = 2.0F},
      {.name = "softcap_of_gemma",
       .num_heads = 2,
       .positions = ScatteredPositions(20, 333),
       .window = 64,
       .logit_softcap = 50.0F,
       .q_scale = 8.0F},
      {.name = "decode", .num_heads = 7, .positions = {1'999}},
      {.name = "decode_in_parts", .num_heads = 9, .num_kv_heads = 3, .positions = {2'500}},
      {.name = "parts_without_keys", .num_heads = 3, .positions = {2, 900, 3'001}},
      {.name = "parts_of_a_window", .num_heads = 3, .positions = {2, 900, 3'001}, .window = 1'300},
      {.name = "large_scores",
       .num_heads = 2,
       .positions = PositionRange(0, 150),
       .q_scale = 40.0F},
      {.name = "huge_scores", .num_heads = 2, .positions = PositionRange(0, 50), .q_scale = 1e6F},
      {.name = "zero_queries",
       .num_heads = 2,
       .positions = PositionRange(0, 50),
       .q_scale = 1e-30F},
  };
  std::vector<AttentionRowsCase> cases;
  for (const KvType type : {KvType::kF32, KvType::kBf16}) {
    for (AttentionRowsCase problem : shapes) {
      problem.type = type;
      problem.name += type == KvType::kF32 ? "_f32" : "_bf16";
      cases.push_back(std::move(problem));
    }
  }
  return cases;
}

}  // namespace intarsia::kernels
