// PlaceKv: puts cached keys and values of one layer at their place in a prompt, on a device.
//
// One pass over the payloads decodes them, adds what propagation predicts, rotates K to its
// position and scatters both into pages:
//   k[t] = rotate(decode(K[t]) + sum over s of key_weights[t, s] * key_deltas[s])
//   v[t] =        decode(V[t]) + sum over s of value_weights[t, s] * value_deltas[s]
// Tokens that a forward pass computes itself are skipped, so it does not matter which of the two
// writes first. On the CPU, engine/fusion/layer_placer.cc does the same with Propagate, ApplyRope
// and StoreKv, into the layout of kernels/kv_layout.h.
//
// Thread safety: all functions may be called concurrently on distinct outputs.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "kernels/kv_codec.h"
#include "kernels/paged_kv.h"
#include "kernels/rope_digits.h"
#include "kernels/stream.h"

namespace intarsia::kernels {

// A run of cached tokens: one payload and its place in the prompt.
struct PlacedSegment {
  int32_t begin = 0;       // position of its first token
  int32_t num_tokens = 0;  // >= 1
  KvPayloadType type = KvPayloadType::kBf16;
  // Where the parts of its payload lie, in bytes from the payload's begin: KvPayloadLayout.
  int64_t key_parameters = 0;
  int64_t key_codes = 0;
  int64_t value_parameters = 0;
  int64_t value_codes = 0;
  int32_t key_group_tokens = 0;
  // The shift. 0 deltas: none.
  int32_t num_deltas = 0;      // m + 1
  int32_t first_delta = 0;     // its rows in the deltas
  int32_t weights_stride = 0;  // a multiple of 16, >= num_deltas; weights beyond num_deltas are 0
  int64_t first_weight = 0;    // element of its first token's weights, a multiple of 16
};

// A block's share: some consecutive tokens of one segment.
struct PlaceTile {
  int32_t segment = 0;
  int32_t first = 0;  // token within the segment
};

inline constexpr int32_t kPlaceTileTokens = 128;

// A segment of `num_tokens` tokens at `begin`, without a shift, as its payload lies.
// Errors: those of MakeKvPayloadLayout; kUnsupported for kRot4, which has no form on a device.
Result<PlacedSegment> MakePlacedSegment(KvPayloadType type, int32_t begin, int32_t num_tokens,
                                        int64_t kv_size);

// The tiles of all segments for which `wanted` is not 0; an empty `wanted` takes all.
std::vector<PlaceTile> MakePlaceTiles(std::span<const PlacedSegment> segments,
                                      std::span<const uint8_t> wanted);

// All pointers are device pointers for the CUDA form and host pointers for the reference, each
// 16-byte aligned. Shifts are bf16 bits.
struct PlaceKvParams {
  PagedKvLayer layer;
  KvPayloadType type = KvPayloadType::kBf16;  // of all segments that the tiles name
  const PlacedSegment* segments = nullptr;    // [num_segments]
  const PlaceTile* tiles = nullptr;           // [num_tiles]
  const uint8_t* const* payloads = nullptr;   // [num_segments], each 16-byte aligned
  const uint8_t* is_row = nullptr;            // [layer.num_tokens]: not 0 skips; may be null
  const uint16_t* key_weights = nullptr;      // null: no shift, whatever the segments say
  const uint16_t* value_weights = nullptr;    // as key_weights
  const uint16_t* key_deltas = nullptr;       // [deltas, kv_size]
  const uint16_t* value_deltas = nullptr;     // [deltas, kv_size]
  RopeDigits rope;
  int32_t num_segments = 0;
  int32_t num_tiles = 0;  // 0 does nothing
};

// Enqueues the work on `stream` and returns without waiting. Sums in f32, in a fixed order; bf16
// rounds to nearest even. A NaN in a delta reaches the tokens of its segment in its column, and
// with a rotation the other element of the pair. The entries of the arrays are the caller's
// promise: the host cannot see them.
// Errors: kInvalidArgument for a null or misaligned pointer or a size out of range; kUnsupported
// for an unknown type or a head_dim that is not a multiple of 16 or above 256; kInternal if the
// launch fails.
Status PlaceKvCuda(const PlaceKvParams& params, Stream stream);

// The definition: one thread, double accumulation, host pointers.
Status PlaceKvReference(const PlaceKvParams& params);

// The errors of both forms.
Status CheckPlaceKv(const PlaceKvParams& params);

}  // namespace intarsia::kernels
