// KvSteps: the forms kInt8 and kInt4 of KV payloads, numbers as steps above a minimum.
//
// kernels/kv_codec.h says what shares a minimum and a step. Encoding and decoding walk the payload
// in different orders and share little but its layout, so each is a file.
//
// Thread safety: all functions may be called concurrently on distinct outputs; one thread each.
// Format: docs/formats/kv_payload.md
#pragma once

#include "kernels/kv_codec.h"

namespace intarsia::kernels {

// `layout` is that of `params`, of type kInt8 or kInt4. Returns whether fp16 can hold all numbers;
// if not, the payload holds garbage. The payload was zeroed.
bool EncodeSteppedKv(const EncodeKvParams& params, const KvPayloadLayout& layout);

// As DecodeKv, for checked params of type kInt8 or kInt4.
void DecodeSteppedKv(const DecodeKvParams& params, const KvPayloadLayout& layout);

}  // namespace intarsia::kernels
