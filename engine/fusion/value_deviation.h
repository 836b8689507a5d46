// ValueDeviation: how far computed V is from cached V, for the selector `deviation` on a device.
//
// Thread safety: may be called concurrently on distinct outputs.
#pragma once

#include <cstdint>
#include <span>

#include "base/status.h"
#include "kernels/kv_codec.h"

namespace intarsia::engine {

struct ValueDeviationParams {
  kernels::KvPayloadType type = kernels::KvPayloadType::kBf16;
  std::span<const uint8_t> payload;  // of one layer, aligned to 4 bytes
  int64_t num_tokens = 0;            // of the payload
  int64_t width = 0;
  const uint16_t* values = nullptr;  // bf16 [num_tokens, width], rows `stride` elements apart
  int64_t stride = 0;
  float* deviation = nullptr;  // [num_tokens], written
};

// Errors: those of kernels::DecodeKv; kInvalidArgument for a payload of another size.
Status ValueDeviation(const ValueDeviationParams& params);

}  // namespace intarsia::engine
