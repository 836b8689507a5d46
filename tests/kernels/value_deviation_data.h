// ValueDeviationData: a pass whose rows are every token of some cached chunks but each fifth, and
// rows of no chunk between them, for the tests of ValueDeviation.
#pragma once

#include <cstdint>
#include <vector>

#include "base/check.h"
#include "kernels/value_deviation.h"
#include "tests/kernels/place_kv_cases.h"
#include "tests/kernels/random_floats.h"

namespace intarsia::kernels {

struct ValueDeviationData {
  PlaceKvData placed;
  std::vector<int32_t> positions;
  std::vector<int32_t> row_segments;
  std::vector<uint16_t> v;
  int32_t width;
  int64_t stride;

  ValueDeviationData(KvPayloadType type, int32_t width_of_v, const std::vector<int32_t>& chunks)
      : placed({.type = type,
                .num_kv_heads = 1,
                .head_dim = width_of_v,
                .rotary_dim = width_of_v,
                .chunk_tokens = chunks,
                .first_position = 3}),
        width(width_of_v),
        stride(2 * int64_t{width_of_v} + 16) {
    positions.push_back(1);
    row_segments.push_back(-1);
    for (size_t index = 0; index < placed.segments.size(); ++index) {
      const PlacedSegment& segment = placed.segments[index];
      for (int32_t token = 0; token < segment.num_tokens; ++token) {
        if (token % 5 == 4) continue;
        positions.push_back(segment.begin + token);
        row_segments.push_back(token % 7 == 6 ? -1 : static_cast<int32_t>(index));
      }
    }
    v = PlaceKvData::Narrow(
        RandomFloats(static_cast<int64_t>(positions.size()) * stride, 41, 3.0f));
  }

  // What the places hold that nothing is written to.
  std::vector<float> Untouched() const {
    return std::vector<float>(static_cast<size_t>(positions.back()) + 2, -7.0f);
  }

  ValueDeviationParams Params() const {
    ValueDeviationParams params;
    params.v_stride = stride;
    params.num_rows = std::ssize(positions);
    params.num_segments = static_cast<int32_t>(placed.segments.size());
    params.width = width;
    return params;
  }

  std::vector<float> ByReference() const {
    std::vector<const uint8_t*> payloads;
    for (const auto& payload : placed.payloads) payloads.push_back(payload.data());
    std::vector<float> deviation = Untouched();
    ValueDeviationParams params = Params();
    params.segments = placed.segments.data();
    params.payloads = payloads.data();
    params.positions = positions.data();
    params.row_segments = row_segments.data();
    params.v = v.data();
    params.deviation = deviation.data();
    INTARSIA_CHECK(ValueDeviationReference(params).ok());
    return deviation;
  }
};

}  // namespace intarsia::kernels
