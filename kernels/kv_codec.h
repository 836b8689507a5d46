// KvPayload: the keys and values of one layer of a run of tokens, as they are kept at rest.
//
// A payload is K [num_tokens, width] before RoPE and V [num_tokens, width], plain or quantised.
// Before RoPE a channel of K keeps its level along a chunk, whatever bias the model gives it, so K
// is quantised along the tokens, channel by channel, and V along the channels, token by token:
//   kInt8   K 8 bits with a minimum and a step for each channel; V 8 bits with a step for each
//           token and group of 64 channels
//   kInt4   K 4 bits with a minimum and a step for each channel and group of 64 tokens; V the same
//           for each token and group of 64 channels: 4.5 bits a number
//   kRot4   K and V 4 bits: the mean of each channel is taken off, a group of 64 channels of a
//   token
//           is rotated by a Hadamard transform, which makes its numbers alike, and each is kept as
//           the nearest of 16 centroids of a normal distribution, times a scale for each token and
//           group: 4.3 bits a number (kernels/kv_rotation.h)
// Parameters are fp16. The minimum is rounded down and the step up, so that both ends stay within
// the codes and the error of a number is at most half a step; a step is at least 2^-14, fp16's
// smallest normal number, so that a constant group does not divide by zero.
//
// Thread safety: all functions may be called concurrently on distinct outputs; one thread each.
// Format: docs/formats/kv_payload.md
#pragma once

#include <cstdint>
#include <optional>

#include "base/result.h"

namespace intarsia::kernels {

// The value is part of a cache's identity and of its record.
enum class KvPayloadType : uint8_t { kBf16 = 1, kF32 = 2, kInt8 = 3, kInt4 = 4, kRot4 = 5 };

// The type with that number, or nothing.
std::optional<KvPayloadType> KvPayloadTypeOf(uint32_t number);

// Tokens that share parameters of K in kInt4, and channels that share those of V.
inline constexpr int64_t kKvGroupSize = 64;
// Channels of a row whose codes lie together in kInt4: byte j of 16 holds channel j in its lower
// half and channel j + 16 in its upper half.
inline constexpr int64_t kKvNibbleChannels = 32;

// Where the parts of a payload lie, in bytes from its begin. In quantised payloads every part
// begins at a multiple of 64; plain ones have codes alone and no gaps.
//   key parameters    fp16 [key_groups, 2, width]: minimum, step
//   key codes         [num_tokens, row_bytes]
//   value parameters  fp16 [value_groups, value_parameters, num_tokens]: step; kInt4: minimum, step
//   value codes       [num_tokens, row_bytes]
// In kRot4 the parameters of either half are
//   centres           fp16 [width]
//   scales            fp16 [value_groups, num_tokens], scale_offset behind the centres' begin
struct KvPayloadLayout {
  int64_t key_parameters = 0;
  int64_t key_codes = 0;
  int64_t value_parameters = 0;
  int64_t value_codes = 0;
  int64_t num_bytes = 0;  // of the payload
  int64_t row_bytes = 0;
  int64_t key_group_tokens = 0;  // tokens of a key group; the last may have fewer
  int64_t num_key_groups = 0;
  int64_t num_value_groups = 0;
  int64_t num_value_parameters = 0;  // 1 or 2
  int64_t scale_offset = 0;          // kRot4 alone
};

// Errors: kInvalidArgument for an unknown type, num_tokens or width below 1 or above 2^24, or a
// payload above 2^40 bytes.
Result<KvPayloadLayout> MakeKvPayloadLayout(KvPayloadType type, int64_t num_tokens, int64_t width);

// Bytes of a payload; -1 where MakeKvPayloadLayout has an error.
int64_t KvPayloadBytes(KvPayloadType type, int64_t num_tokens, int64_t width);

struct EncodeKvParams {
  KvPayloadType type = KvPayloadType::kInt8;
  const float* k = nullptr;  // [num_tokens, width]
  const float* v = nullptr;  // [num_tokens, width]
  int64_t num_tokens = 0;
  int64_t width = 0;
  uint8_t* payload = nullptr;  // aligned to 4 bytes; gaps are zeroed
  int64_t payload_bytes = 0;   // KvPayloadBytes(type, num_tokens, width)
};

// Encodes a payload. Equal numbers give equal bytes on every instruction set.
// Errors: those of MakeKvPayloadLayout; kInvalidArgument for a null pointer or a payload of another
// size; for quantised types kUnsupported if a number is not finite or beyond 65,504, which fp16
// cannot hold. `payload` holds garbage after an error.
Status EncodeKv(const EncodeKvParams& params);
Status EncodeKvReference(const EncodeKvParams& params);

enum class KvHalf : uint8_t { kKey, kValue };

struct DecodeKvParams {
  KvPayloadType type = KvPayloadType::kInt8;
  const uint8_t* payload = nullptr;  // aligned to 4 bytes
  int64_t payload_bytes = 0;
  int64_t num_tokens = 0;  // of the payload
  int64_t width = 0;
  KvHalf half = KvHalf::kKey;
  int64_t begin = 0;        // first token to decode
  int64_t count = 0;        // 0 does nothing
  float* target = nullptr;  // [count, width], any alignment
};

// Decodes some tokens of one half: minimum + step * code, with one rounding on instruction sets
// that have a fused multiply-add and two on others. Bytes of any content decode to something: a
// parameter that is not finite gives numbers that are not.
// Errors: those of MakeKvPayloadLayout; kInvalidArgument for a null pointer, a payload of another
// size or tokens outside of it.
Status DecodeKv(const DecodeKvParams& params);
Status DecodeKvReference(const DecodeKvParams& params);

// Whether a payload that was read may be decoded and used: its size fits, and in quantised types
// every minimum is finite and every step finite and above 0. Reads the parameters alone.
// Errors: those of MakeKvPayloadLayout; kInvalidArgument for another size; kCorruption.
Status CheckKvPayload(KvPayloadType type, const uint8_t* payload, int64_t payload_bytes,
                      int64_t num_tokens, int64_t width);

// The layout, and the errors of all forms that do not depend on the numbers.
Result<KvPayloadLayout> CheckEncodeKv(const EncodeKvParams& params);
Result<KvPayloadLayout> CheckDecodeKv(const DecodeKvParams& params);

}  // namespace intarsia::kernels
