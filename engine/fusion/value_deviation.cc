#include "engine/fusion/value_deviation.h"

#include <cstring>
#include <vector>

#include "kernels/convert.h"

namespace intarsia::engine {
namespace {

// Cached V of all tokens.
Status ReadValues(const ValueDeviationParams& params, std::vector<float>* cached) {
  const int64_t size = params.num_tokens * params.width;
  cached->resize(static_cast<size_t>(size));
  // Behind the keys.
  if (params.type == kernels::KvPayloadType::kF32) {
    std::memcpy(cached->data(), params.payload.data() + size * 4, static_cast<size_t>(size) * 4);
    return Status::Ok();
  }
  if (params.type == kernels::KvPayloadType::kBf16) {
    kernels::Bf16ToF32(reinterpret_cast<const uint16_t*>(params.payload.data()) + size, size,
                       cached->data());
    return Status::Ok();
  }
  return kernels::DecodeKv({.type = params.type,
                            .payload = params.payload.data(),
                            .payload_bytes = std::ssize(params.payload),
                            .num_tokens = params.num_tokens,
                            .width = params.width,
                            .half = kernels::KvHalf::kValue,
                            .begin = 0,
                            .count = params.num_tokens,
                            .target = cached->data()});
}

}  // namespace

Status ValueDeviation(const ValueDeviationParams& params) {
  if (std::ssize(params.payload) !=
      kernels::KvPayloadBytes(params.type, params.num_tokens, params.width)) {
    return Status(StatusCode::kInvalidArgument, "deviation of V: a payload of another size");
  }
  std::vector<float> cached;
  INTARSIA_RETURN_IF_ERROR(ReadValues(params, &cached));
  for (int64_t token = 0; token < params.num_tokens; ++token) {
    const uint16_t* const fresh = params.values + token * params.stride;
    const float* const before = cached.data() + token * params.width;
    float sum = 0.0f;
    for (int64_t i = 0; i < params.width; ++i) {
      const float difference = kernels::Bf16ToF32(fresh[i]) - before[i];
      sum += difference * difference;
    }
    params.deviation[token] = sum;
  }
  return Status::Ok();
}

}  // namespace intarsia::engine
