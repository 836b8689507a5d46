// KvRotation: the form kRot4 of KV payloads, rotated numbers at the centroids of Lloyd and Max.
//
// For K and for V alike, of a payload [num_tokens, width]:
//   centre[c]    the mean of channel c over the tokens, rounded down to fp16
//   y            (number - centre) * sign for a group of 64 channels of a token, filled up with 0
//   z            H y / 8, with H the Walsh-Hadamard matrix: as long as y, and its coordinates are
//                close to those of a normal distribution, whatever stands out in y
//   code         the nearest of the 16 centroids to z / scale
// and back: number = centre + sign * (H (centroid * scale) / 8). The scale is the one with the
// least squared error for the codes that the root of the mean square of z gives. Centring is what
// makes it work for keys: without it the channels that a model's bias makes large are spread over
// all others (TurboQuant, arXiv 2504.19874, for centroids; the centring is this project's).
//
// Thread safety: all functions may be called concurrently on distinct outputs; one thread each.
// Format: docs/formats/kv_payload.md
#pragma once

#include <array>
#include <cstdint>

#include "kernels/kv_codec.h"

namespace intarsia::kernels {

// The 16 levels that quantise a normal distribution of deviation 1 with the least squared error.
inline constexpr std::array<float, 16> kRotationCentroids = {
    -2.7326F, -2.0690F, -1.6180F, -1.2562F, -0.9423F, -0.6568F, -0.3880F, -0.1284F,
    0.1284F,  0.3880F,  0.6568F,  0.9423F,  1.2562F,  1.6180F,  2.0690F,  2.7326F};

// Channel c of a group changes its sign if bit c is set, so that a group of equal numbers, which
// lies along a row of H, is spread as others are.
inline constexpr uint64_t kRotationSigns = 0x9E3779B97F4A7C15;

// The largest code whose lower boundary, the middle of two centroids, is below `value`.
// The same for all forms, so that equal numbers give equal bytes.
inline constexpr std::array<float, 15> kRotationBoundaries = [] {
  std::array<float, 15> boundaries = {};
  for (size_t i = 0; i < boundaries.size(); ++i) {
    boundaries[i] = (kRotationCentroids[i] + kRotationCentroids[i + 1]) / 2;
  }
  return boundaries;
}();

// The root of the mean square of 64 numbers and the scale for codes of them, as it is stored, each
// at least 2^-24, fp16's smallest number: both summed in one order on every instruction set. A
// scale that fp16 cannot hold is returned as an infinity.
float RotationSpread(const float* z);
uint16_t RotationScale(const float* z, const uint8_t* codes);

// `layout` is that of `params`, of type kRot4. Returns whether fp16 can hold all parameters; if
// not, the payload holds garbage. The payload was zeroed.
bool EncodeRotatedKv(const EncodeKvParams& params, const KvPayloadLayout& layout);
bool EncodeRotatedKvReference(const EncodeKvParams& params, const KvPayloadLayout& layout);

// As DecodeKv, for checked params of type kRot4.
void DecodeRotatedKv(const DecodeKvParams& params, const KvPayloadLayout& layout);
void DecodeRotatedKvReference(const DecodeKvParams& params, const KvPayloadLayout& layout);

}  // namespace intarsia::kernels
