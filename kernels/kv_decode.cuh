// KvDecode: eight neighbouring numbers of a KV payload at a time, on the device. For kernels/ only.
//
// Loading and decoding are apart, so that a kernel can have its loads in flight while it does
// something else: RawNumbers is what a load brings, and KvParameters what decoding needs beside it.
//
// Format: docs/formats/kv_payload.md
#pragma once

#include <cstdint>

#include <cuda_fp16.h>

#include "kernels/kv_codec.h"
#include "kernels/place_kv.h"

namespace intarsia::kernels {

inline constexpr int kRawNumbers = 8;  // numbers that are loaded and decoded together

// Two words of a bf16 pair are the upper halves of two f32.
__device__ inline float2 WidenBf16Pair(uint32_t pair) {
  return make_float2(__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u));
}

template <KvPayloadType kType>
struct RawNumbers;
template <>
struct RawNumbers<KvPayloadType::kBf16> {
  uint4 words;
};
template <>
struct RawNumbers<KvPayloadType::kF32> {
  float4 words[2];
};
template <>
struct RawNumbers<KvPayloadType::kInt8> {
  uint2 words;
};
template <>
struct RawNumbers<KvPayloadType::kInt4> {
  uint2 words;
};

// Loads numbers [column, column + 8) of a token, each used once in this kernel. `codes` is where
// the codes of its half begin, `column` a multiple of 8.
template <KvPayloadType kType>
__device__ inline RawNumbers<kType> LoadRaw(const uint8_t* codes, int64_t token, int width,
                                            int column) {
  RawNumbers<kType> raw;
  if constexpr (kType == KvPayloadType::kBf16) {
    raw.words = __ldcs(reinterpret_cast<const uint4*>(codes + (token * width + column) * 2));
  } else if constexpr (kType == KvPayloadType::kF32) {
    const auto* const source =
        reinterpret_cast<const float4*>(codes + (token * width + column) * 4);
    raw.words[0] = __ldcs(source);
    raw.words[1] = __ldcs(source + 1);
  } else if constexpr (kType == KvPayloadType::kInt8) {
    raw.words = __ldcs(reinterpret_cast<const uint2*>(codes + token * width + column));
  } else {
    // Byte j of 16 holds channels j and j + 16 of its 32, so two loads share the bytes.
    constexpr int kHalf = kKvNibbleChannels / 2;
    const int64_t byte = token * ((width + kKvNibbleChannels - 1) / kKvNibbleChannels) * kHalf +
                         column / kKvNibbleChannels * kHalf + column % kHalf;
    raw.words = __ldg(reinterpret_cast<const uint2*>(codes + byte));
  }
  return raw;
}

// Where a half's parameters lie.
struct KvParameters {
  const __half* parameters = nullptr;
  int64_t num_tokens = 0;    // of the payload
  int32_t group_tokens = 1;  // of a key group
  int32_t width = 0;
  bool is_key = true;
};

// Minimum and step of eight numbers. The step of a value is shared by them.
template <KvPayloadType kType>
__device__ inline void Decode(const RawNumbers<kType>& raw, const KvParameters& parameters,
                              int64_t token, int column, float (&values)[kRawNumbers]) {
  if constexpr (kType == KvPayloadType::kBf16) {
    const uint32_t words[4] = {raw.words.x, raw.words.y, raw.words.z, raw.words.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 pair = WidenBf16Pair(words[i]);
      values[2 * i] = pair.x;
      values[2 * i + 1] = pair.y;
    }
  } else if constexpr (kType == KvPayloadType::kF32) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      values[4 * i] = raw.words[i].x;
      values[4 * i + 1] = raw.words[i].y;
      values[4 * i + 2] = raw.words[i].z;
      values[4 * i + 3] = raw.words[i].w;
    }
  } else {
    constexpr bool kIsInt4 = kType == KvPayloadType::kInt4;
    const uint64_t bits = raw.words.x | uint64_t{raw.words.y} << 32;
    const int shift = kIsInt4 && column % kKvNibbleChannels >= kKvNibbleChannels / 2 ? 4 : 0;
    const bool is_signed = !kIsInt4 && !parameters.is_key;
    float minimum[kRawNumbers] = {};
    float step[kRawNumbers];
    if (parameters.is_key) {
      const int64_t group = token / parameters.group_tokens;
      const __half* const first = parameters.parameters + 2 * group * parameters.width + column;
      const uint4 minima = __ldg(reinterpret_cast<const uint4*>(first));
      const uint4 steps = __ldg(reinterpret_cast<const uint4*>(first + parameters.width));
      __half halves[2 * kRawNumbers];
      memcpy(halves, &minima, sizeof(minima));
      memcpy(halves + kRawNumbers, &steps, sizeof(steps));
#pragma unroll
      for (int i = 0; i < kRawNumbers; ++i) {
        minimum[i] = __half2float(halves[i]);
        step[i] = __half2float(halves[kRawNumbers + i]);
      }
    } else {
      const int64_t group = column / kKvGroupSize;
      const int64_t num_parameters = kIsInt4 ? 2 : 1;
      const __half* const first =
          parameters.parameters + group * num_parameters * parameters.num_tokens + token;
      const float shared_minimum = kIsInt4 ? __half2float(first[0]) : 0.0f;
      const float shared_step = __half2float(first[kIsInt4 ? parameters.num_tokens : 0]);
#pragma unroll
      for (int i = 0; i < kRawNumbers; ++i) {
        minimum[i] = shared_minimum;
        step[i] = shared_step;
      }
    }
#pragma unroll
    for (int i = 0; i < kRawNumbers; ++i) {
      const auto byte = static_cast<uint32_t>(bits >> 8 * i) & 0xffu;
      const int code = kIsInt4     ? static_cast<int>(byte >> shift & 0xfu)
                       : is_signed ? static_cast<int>(static_cast<int8_t>(byte))
                                   : static_cast<int>(byte);
      values[i] = fmaf(step[i], static_cast<float>(code), minimum[i]);
    }
  }
}

// Calls visit.operator()<type>(), for what is compiled for each form of payload.
template <typename Visitor>
__device__ inline void VisitPayloadType(KvPayloadType type, const Visitor& visit) {
  switch (type) {
    case KvPayloadType::kBf16:
      visit.template operator()<KvPayloadType::kBf16>();
      break;
    case KvPayloadType::kF32:
      visit.template operator()<KvPayloadType::kF32>();
      break;
    case KvPayloadType::kInt8:
      visit.template operator()<KvPayloadType::kInt8>();
      break;
    case KvPayloadType::kInt4:
      visit.template operator()<KvPayloadType::kInt4>();
      break;
    case KvPayloadType::kRot4:
      break;  // MakePlacedSegment refuses it
  }
}

// The parts of a segment's payload that one half needs.
struct KvHalfView {
  const uint8_t* codes;
  KvParameters parameters;
};
__device__ inline KvHalfView ViewHalf(const PlacedSegment& segment, const uint8_t* payload,
                                      int width, bool is_key) {
  return {
      .codes = payload + (is_key ? segment.key_codes : segment.value_codes),
      .parameters = {.parameters = reinterpret_cast<const __half*>(
                         payload + (is_key ? segment.key_parameters : segment.value_parameters)),
                     .num_tokens = segment.num_tokens,
                     .group_tokens = segment.key_group_tokens,
                     .width = width,
                     .is_key = is_key}};
}

}  // namespace intarsia::kernels
