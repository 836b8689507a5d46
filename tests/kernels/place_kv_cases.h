// PlaceKvCase and PlaceKvData: prompts of cached chunks with everything that PlaceKv reads, for its
// tests and benchmarks.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "base/check.h"
#include "kernels/convert.h"
#include "kernels/place_kv.h"
#include "tests/kernels/random_floats.h"

namespace intarsia::kernels {

struct PlaceKvCase {
  std::string name = {};
  KvPayloadType type = KvPayloadType::kBf16;
  int32_t num_kv_heads = 2;
  int32_t head_dim = 128;
  int32_t rotary_dim = 128;
  RopePairing pairing = RopePairing::kHalfSplit;
  std::vector<int32_t> chunk_tokens = {200};
  std::vector<int32_t> chunk_deltas = {0};  // m + 1, or 0
  int32_t first_position = 0;
  int32_t row_period = 0;  // every row_period-th position is a row of the pass
};

inline std::vector<PlaceKvCase> PlaceKvShapes() {
  return {
      {.name = "OneToken", .chunk_tokens = {1}},
      {.name = "OddSizes",
       .chunk_tokens = {1, 127, 128, 129, 17},
       .chunk_deltas = {0, 2, 16, 17, 1},
       .first_position = 41},
      {.name = "ManyDeltas",
       .chunk_tokens = {300, 260},
       .chunk_deltas = {97, 200},
       .first_position = 7,
       .row_period = 5},
      {.name = "Interleaved",
       .pairing = RopePairing::kInterleaved,
       .chunk_tokens = {190, 64},
       .chunk_deltas = {30, 0},
       .first_position = 300,
       .row_period = 3},
      {.name = "Head64",
       .num_kv_heads = 3,
       .head_dim = 64,
       .rotary_dim = 64,
       .chunk_tokens = {131, 250},
       .chunk_deltas = {20, 41},
       .row_period = 7},
      {.name = "Head64Interleaved",
       .num_kv_heads = 3,
       .head_dim = 64,
       .rotary_dim = 64,
       .pairing = RopePairing::kInterleaved,
       .chunk_tokens = {131},
       .chunk_deltas = {20}},
      {.name = "Head256",
       .num_kv_heads = 1,
       .head_dim = 256,
       .rotary_dim = 256,
       .chunk_tokens = {200, 77},
       .chunk_deltas = {33, 12},
       .first_position = 3,
       .row_period = 4},
      {.name = "Head256Interleaved",
       .num_kv_heads = 2,
       .head_dim = 256,
       .rotary_dim = 256,
       .pairing = RopePairing::kInterleaved,
       .chunk_tokens = {140},
       .chunk_deltas = {9}},
      {.name = "Head16",
       .num_kv_heads = 2,
       .head_dim = 16,
       .rotary_dim = 16,
       .chunk_tokens = {40, 9},
       .chunk_deltas = {6, 0},
       .first_position = 5,
       .row_period = 2},
      {.name = "PartlyRotated",
       .head_dim = 128,
       .rotary_dim = 64,
       .chunk_tokens = {150},
       .chunk_deltas = {21}},
      {.name = "Head96",
       .num_kv_heads = 2,
       .head_dim = 96,
       .rotary_dim = 96,
       .pairing = RopePairing::kInterleaved,
       .chunk_tokens = {70},
       .chunk_deltas = {11}},
  };
}

// Every payload in every shape.
inline std::vector<PlaceKvCase> PlaceKvCases() {
  const std::vector<PlaceKvCase> shapes = PlaceKvShapes();
  std::vector<PlaceKvCase> cases = shapes;
  for (const KvPayloadType type :
       {KvPayloadType::kF32, KvPayloadType::kInt8, KvPayloadType::kInt4}) {
    for (const PlaceKvCase& shape : shapes) {
      if (type == KvPayloadType::kInt4 && shape.head_dim % 32 != 0) continue;
      PlaceKvCase& next = cases.emplace_back(shape);
      next.type = type;
      next.name += type == KvPayloadType::kF32    ? "F32"
                   : type == KvPayloadType::kInt8 ? "Int8"
                                                  : "Int4";
    }
  }
  return cases;
}

// Host arrays of a case.
struct PlaceKvData {
  static constexpr uint16_t kPoison = 0x7fc1;  // a NaN that no kernel makes

  explicit PlaceKvData(const PlaceKvCase& c) : test_case(c) {
    const int64_t width = int64_t{c.num_kv_heads} * c.head_dim;
    int32_t begin = c.first_position;
    int32_t num_deltas = 0;
    int64_t num_weights = 0;
    for (size_t index = 0; index < c.chunk_tokens.size(); ++index) {
      const auto made = MakePlacedSegment(c.type, begin, c.chunk_tokens[index], width);
      INTARSIA_CHECK(made.ok());
      PlacedSegment segment = *made;
      segment.num_deltas = index < c.chunk_deltas.size() ? c.chunk_deltas[index] : 0;
      segment.first_delta = num_deltas;
      segment.weights_stride = (segment.num_deltas + 15) / 16 * 16;
      segment.first_weight = num_weights;
      begin += segment.num_tokens;
      num_deltas += segment.num_deltas;
      num_weights += int64_t{segment.num_tokens} * segment.weights_stride;
      // Four different ones are enough, and large cases are made faster.
      const bool is_again = index >= 4 && segments[index - 4].num_tokens == segment.num_tokens;
      payloads.push_back(is_again
                             ? payloads[index - 4]
                             : Payload(segment.num_tokens, width, static_cast<uint32_t>(index)));
      segments.push_back(segment);
    }
    num_positions = begin;
    key_weights = Weights(num_weights, 11);
    value_weights = Weights(num_weights, 12);
    key_deltas = Narrow(RandomFloats(int64_t{num_deltas} * width, 13));
    value_deltas = Narrow(RandomFloats(int64_t{num_deltas} * width, 14));
    tiles = MakePlaceTiles(segments, {});
    is_row.resize(static_cast<size_t>(num_positions));
    for (int32_t i = 0; c.row_period > 0 && i < num_positions; i += c.row_period) {
      is_row[static_cast<size_t>(i)] = 1;
    }
    const int64_t num_pages = NumPagesFor(num_positions) + 2;
    page_table.resize(static_cast<size_t>(num_pages));
    std::iota(page_table.begin(), page_table.end(), 0);
    std::shuffle(page_table.begin(), page_table.end(), std::mt19937(5));
    num_page_elements = num_pages * PageElements(c.num_kv_heads, c.head_dim);
    const auto table = RopeTable::Create({.rotary_dim = c.rotary_dim, .base = 10'000.0});
    INTARSIA_CHECK(table.ok());
    const auto filled = FillRopeDigits(**table, num_positions);
    INTARSIA_CHECK(filled.ok());
    digits = *filled;
  }

  // Everything but pointers.
  PlaceKvParams Params() const {
    PlaceKvParams params;
    params.layer.num_pages = static_cast<int64_t>(page_table.size());
    params.layer.num_tokens = num_positions;
    params.layer.num_kv_heads = test_case.num_kv_heads;
    params.layer.head_dim = test_case.head_dim;
    params.type = test_case.type;
    params.rope.num_high = NumHighRopeDigits(num_positions);
    params.rope.rotary_dim = test_case.rotary_dim;
    params.rope.pairing = test_case.pairing;
    params.num_segments = static_cast<int32_t>(segments.size());
    params.num_tiles = static_cast<int32_t>(tiles.size());
    return params;
  }

  std::vector<uint8_t> Payload(int32_t num_tokens, int64_t width, uint32_t seed) const {
    const std::vector<float> k = RandomFloats(num_tokens * width, 100 + seed, 2.0f);
    const std::vector<float> v = RandomFloats(num_tokens * width, 200 + seed);
    std::vector<uint8_t> payload(
        static_cast<size_t>(KvPayloadBytes(test_case.type, num_tokens, width)));
    INTARSIA_CHECK(EncodeKvReference({.type = test_case.type,
                                      .k = k.data(),
                                      .v = v.data(),
                                      .num_tokens = num_tokens,
                                      .width = width,
                                      .payload = payload.data(),
                                      .payload_bytes = static_cast<int64_t>(payload.size())})
                       .ok());
    return payload;
  }

  static std::vector<uint16_t> Narrow(const std::vector<float>& values) {
    std::vector<uint16_t> narrow(values.size());
    F32ToBf16(values.data(), static_cast<int64_t>(values.size()), narrow.data());
    return narrow;
  }

  // Weights are random up to num_deltas and 0 beyond.
  std::vector<uint16_t> Weights(int64_t num_weights, uint32_t seed) const {
    std::vector<float> weights = RandomFloats(num_weights, seed, 0.1f);
    for (const PlacedSegment& segment : segments) {
      for (int64_t i = 0; i < int64_t{segment.num_tokens} * segment.weights_stride; ++i) {
        const bool is_used = i % segment.weights_stride < segment.num_deltas;
        if (!is_used) weights[static_cast<size_t>(segment.first_weight + i)] = 0.0f;
      }
    }
    return Narrow(weights);
  }

  PlaceKvCase test_case;
  std::vector<PlacedSegment> segments;
  std::vector<PlaceTile> tiles;
  std::vector<std::vector<uint8_t>> payloads;
  std::vector<uint8_t> is_row;
  std::vector<uint16_t> key_weights;
  std::vector<uint16_t> value_weights;
  std::vector<uint16_t> key_deltas;
  std::vector<uint16_t> value_deltas;
  std::vector<int32_t> page_table;
  std::vector<float> digits;
  int64_t num_page_elements = 0;
  int32_t num_positions = 0;
};

}  // namespace intarsia::kernels
