// Bound: the bytes written and read.
// Design: each form's walk is a file of its own, kernels/kv_steps.h and kernels/kv_rotation.h;
// plain numbers are copied or rounded.
#include <cstring>
#include <string>
#include <utility>

#include "kernels/convert.h"
#include "kernels/kv_codec.h"
#include "kernels/kv_rotation.h"
#include "kernels/kv_steps.h"

namespace intarsia::kernels {

Status EncodeKv(const EncodeKvParams& params) {
  INTARSIA_ASSIGN_OR_RETURN(const KvPayloadLayout layout, CheckEncodeKv(params));
  const int64_t num_elements = params.num_tokens * params.width;
  if (layout.num_key_groups == 0) {
    for (const auto& [source, offset] :
         {std::pair(params.k, layout.key_codes), std::pair(params.v, layout.value_codes)}) {
      uint8_t* const target = params.payload + offset;
      if (params.type == KvPayloadType::kBf16) {
        F32ToBf16(source, num_elements, reinterpret_cast<uint16_t*>(target));
      } else {
        std::memcpy(target, source, static_cast<size_t>(num_elements) * sizeof(float));
      }
    }
    return Status::Ok();
  }
  std::memset(params.payload, 0, static_cast<size_t>(layout.num_bytes));
  const bool is_encoded = params.type == KvPayloadType::kRot4 ? EncodeRotatedKv(params, layout)
                                                              : EncodeSteppedKv(params, layout);
  if (is_encoded) return Status::Ok();
  return {StatusCode::kUnsupported,
          "keys or values that are not finite or beyond 65504 cannot be quantised: tokens=" +
              std::to_string(params.num_tokens) + " width=" + std::to_string(params.width)};
}

Status DecodeKv(const DecodeKvParams& params) {
  INTARSIA_ASSIGN_OR_RETURN(const KvPayloadLayout layout, CheckDecodeKv(params));
  if (params.count == 0) return Status::Ok();
  if (params.type == KvPayloadType::kRot4) {
    DecodeRotatedKv(params, layout);
    return Status::Ok();
  }
  if (layout.num_key_groups != 0) {
    DecodeSteppedKv(params, layout);
    return Status::Ok();
  }
  const bool is_key = params.half == KvHalf::kKey;
  const uint8_t* const source = params.payload + (is_key ? layout.key_codes : layout.value_codes) +
                                params.begin * layout.row_bytes;
  const int64_t num_elements = params.count * params.width;
  if (params.type == KvPayloadType::kBf16) {
    Bf16ToF32(reinterpret_cast<const uint16_t*>(source), num_elements, params.target);
  } else {
    std::memcpy(params.target, source, static_cast<size_t>(num_elements) * sizeof(float));
  }
  return Status::Ok();
}

}  // namespace intarsia::kernels
