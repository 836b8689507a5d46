#include <cmath>
#include <string>
#include <vector>

#include "kernels/convert.h"
#include "kernels/kv_codec.h"
#include "kernels/value_deviation.h"

namespace intarsia::kernels {
namespace {

constexpr int64_t kRowsMax = int64_t{1} << 24;

}  // namespace

Status CheckValueDeviation(const ValueDeviationParams& params) {
  std::string wrong;
  if (params.num_rows == 0) return Status::Ok();
  if (params.num_rows < 0 || params.num_rows > kRowsMax || params.num_segments < 1) {
    wrong = "the number of rows or segments is out of range";
  } else if (params.segments == nullptr || params.payloads == nullptr ||
             params.positions == nullptr || params.row_segments == nullptr || params.v == nullptr ||
             params.deviation == nullptr) {
    wrong = "a pointer is null";
  } else if (params.width < 8 || params.width % 8 != 0 || params.v_stride < params.width ||
             params.v_stride % 8 != 0) {
    wrong = "width and stride must be multiples of 8";
  }
  if (wrong.empty()) return Status::Ok();
  return {StatusCode::kInvalidArgument,
          "value_deviation: " + wrong + ": rows=" + std::to_string(params.num_rows) + " segments=" +
              std::to_string(params.num_segments) + " width=" + std::to_string(params.width)};
}

Status ValueDeviationReference(const ValueDeviationParams& params) {
  INTARSIA_RETURN_IF_ERROR(CheckValueDeviation(params));
  std::vector<float> cached(static_cast<size_t>(params.width));
  for (int64_t row = 0; row < params.num_rows; ++row) {
    const int32_t index = params.row_segments[row];
    if (index < 0) continue;
    if (index >= params.num_segments) {
      return {StatusCode::kInvalidArgument, "value_deviation: no such segment"};
    }
    const PlacedSegment& segment = params.segments[index];
    INTARSIA_RETURN_IF_ERROR(DecodeKvReference(
        {.type = segment.type,
         .payload = params.payloads[index],
         .payload_bytes = KvPayloadBytes(segment.type, segment.num_tokens, params.width),
         .num_tokens = segment.num_tokens,
         .width = params.width,
         .half = KvHalf::kValue,
         .begin = params.positions[row] - segment.begin,
         .count = 1,
         .target = cached.data()}));
    double sum = 0.0;
    for (int64_t i = 0; i < params.width; ++i) {
      const double difference = double{Bf16ToF32(params.v[row * params.v_stride + i])} -
                                double{cached[static_cast<size_t>(i)]};
      sum += difference * difference;
    }
    params.deviation[params.positions[row]] = static_cast<float>(sum);
  }
  return Status::Ok();
}

}  // namespace intarsia::kernels
