#include <algorithm>
#include <string>
#include <vector>

#include "kernels/convert.h"
#include "kernels/measure_shift.h"

namespace intarsia::kernels {
namespace {

struct Half {
  KvHalf half;
  const uint16_t* computed;
  int64_t stride;
  const uint16_t* known;
  const float* u;
  uint16_t* deltas;
};

Status MeasureHalf(const MeasureShiftParams& params, const Half& half) {
  const int64_t width = params.width;
  std::vector<float> cached(static_cast<size_t>(width));
  std::vector<double> sum(static_cast<size_t>(width));
  const auto write_sum = [&](const PropagationChunk& chunk) {
    uint16_t* const target = half.deltas + (chunk.first_delta + chunk.num_rows) * width;
    for (int64_t i = 0; i < width; ++i) {
      target[i] = F32ToBf16(static_cast<float>(sum[static_cast<size_t>(i)]));
    }
  };
  for (int32_t index = 0; index < params.num_chunks; ++index) {
    const PropagationChunk& chunk = params.chunks[index];
    const KvPayloadType type = params.segments[chunk.segment].type;
    if (params.order == PropagationOrder::kCausal) write_sum(chunk);
    for (int64_t s = 0; s < chunk.num_rows; ++s) {
      const int64_t row = chunk.first_row + s;
      INTARSIA_RETURN_IF_ERROR(
          DecodeKvReference({.type = type,
                             .payload = params.payloads[chunk.segment],
                             .payload_bytes = KvPayloadBytes(type, chunk.num_tokens, width),
                             .num_tokens = chunk.num_tokens,
                             .width = width,
                             .half = half.half,
                             .begin = params.rows[row],
                             .count = 1,
                             .target = cached.data()}));
      const int64_t pass_row = params.pass_rows[row];
      if (pass_row < 0) std::ranges::fill(cached, 0.0F);
      const uint16_t* const computed = pass_row < 0 ? half.known + ~pass_row * width
                                                    : half.computed + pass_row * half.stride;
      uint16_t* const target = half.deltas + (chunk.first_delta + s) * width;
      for (int64_t i = 0; i < width; ++i) {
        const double delta = double{Bf16ToF32(computed[i])} - cached[static_cast<size_t>(i)];
        target[i] = F32ToBf16(static_cast<float>(delta));
        sum[static_cast<size_t>(i)] += half.u[row] * delta;
      }
    }
  }
  if (params.order == PropagationOrder::kCausal) return Status::Ok();
  for (int32_t index = 0; index < params.num_chunks; ++index) write_sum(params.chunks[index]);
  return Status::Ok();
}

}  // namespace

Status CheckMeasureShift(const MeasureShiftParams& params) {
  std::string wrong;
  if (params.num_chunks < 0 || params.num_chunks > 65'535) {
    wrong = "the number of chunks is out of range";
  } else if (params.num_chunks == 0) {
    return Status::Ok();
  } else if (params.chunks == nullptr || params.segments == nullptr || params.payloads == nullptr ||
             params.rows == nullptr || params.pass_rows == nullptr || params.k == nullptr ||
             params.v == nullptr || params.key_u == nullptr || params.value_u == nullptr ||
             params.key_deltas == nullptr || params.value_deltas == nullptr ||
             params.workspace == nullptr) {
    wrong = "a pointer is null";
  } else if (params.width < 8 || params.width % 8 != 0 || params.k_stride < params.width ||
             params.k_stride % 8 != 0 || params.v_stride < params.width ||
             params.v_stride % 8 != 0) {
    wrong = "width and strides must be multiples of 8";
  }
  if (wrong.empty()) return Status::Ok();
  return {StatusCode::kInvalidArgument, "measure_shift: " + wrong +
                                            ": chunks=" + std::to_string(params.num_chunks) +
                                            " width=" + std::to_string(params.width)};
}

Status MeasureShiftReference(const MeasureShiftParams& params) {
  INTARSIA_RETURN_IF_ERROR(CheckMeasureShift(params));
  INTARSIA_RETURN_IF_ERROR(MeasureHalf(params, {.half = KvHalf::kKey,
                                                .computed = params.k,
                                                .stride = params.k_stride,
                                                .known = params.known_key_deltas,
                                                .u = params.key_u,
                                                .deltas = params.key_deltas}));
  return MeasureHalf(params, {.half = KvHalf::kValue,
                              .computed = params.v,
                              .stride = params.v_stride,
                              .known = params.known_value_deltas,
                              .u = params.value_u,
                              .deltas = params.value_deltas});
}

}  // namespace intarsia::kernels
