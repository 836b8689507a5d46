#include <cmath>
#include <string>
#include <vector>

#include "kernels/convert.h"
#include "kernels/place_kv.h"

namespace intarsia::kernels {
namespace {

bool IsAligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

// One token's K or V with its shift, [kv_size].
struct Half {
  KvHalf half;
  const uint16_t* weights;
  const uint16_t* deltas;
};

Status ReadShifted(const PlaceKvParams& params, const PlacedSegment& segment,
                   const uint8_t* payload, int32_t token, const Half& half,
                   std::vector<double>* values) {
  const int64_t width = int64_t{params.layer.num_kv_heads} * params.layer.head_dim;
  std::vector<float> decoded(static_cast<size_t>(width));
  INTARSIA_RETURN_IF_ERROR(
      DecodeKvReference({.type = params.type,
                         .payload = payload,
                         .payload_bytes = KvPayloadBytes(params.type, segment.num_tokens, width),
                         .num_tokens = segment.num_tokens,
                         .width = width,
                         .half = half.half,
                         .begin = token,
                         .count = 1,
                         .target = decoded.data()}));
  values->assign(decoded.begin(), decoded.end());
  if (half.weights == nullptr) return Status::Ok();
  const uint16_t* const weights =
      half.weights + segment.first_weight + int64_t{token} * segment.weights_stride;
  for (int64_t s = 0; s < segment.num_deltas; ++s) {
    const double weight = Bf16ToF32(weights[s]);
    const uint16_t* const delta = half.deltas + (segment.first_delta + s) * width;
    for (int64_t i = 0; i < width; ++i) {
      (*values)[static_cast<size_t>(i)] += weight * Bf16ToF32(delta[i]);
    }
  }
  return Status::Ok();
}

void Rotate(const RopeDigits& rope, int64_t position, double* head) {
  const int64_t num_pairs = rope.rotary_dim / 2;
  const float* const low = rope.low + position % kRopeDigitValues * rope.rotary_dim;
  const float* const high = rope.high + position / kRopeDigitValues * rope.rotary_dim;
  for (int64_t i = 0; i < num_pairs; ++i) {
    const double low_cosine = low[2 * i];
    const double low_sine = low[2 * i + 1];
    const double high_cosine = high[2 * i];
    const double high_sine = high[2 * i + 1];
    const double cosine = low_cosine * high_cosine - low_sine * high_sine;
    const double sine = low_sine * high_cosine + low_cosine * high_sine;
    const bool is_interleaved = rope.pairing == RopePairing::kInterleaved;
    double& a = head[is_interleaved ? 2 * i : i];
    double& b = head[is_interleaved ? 2 * i + 1 : i + num_pairs];
    const double rotated = a * cosine - b * sine;
    b = b * cosine + a * sine;
    a = rotated;
  }
}

}  // namespace

Result<PlacedSegment> MakePlacedSegment(KvPayloadType type, int32_t begin, int32_t num_tokens,
                                        int64_t kv_size) {
  INTARSIA_ASSIGN_OR_RETURN(const KvPayloadLayout layout,
                            MakeKvPayloadLayout(type, num_tokens, kv_size));
  if (type == KvPayloadType::kRot4) {
    return Status(StatusCode::kUnsupported, "place_kv: rot4 payloads are placed on the CPU alone");
  }
  return PlacedSegment{.begin = begin,
                       .num_tokens = num_tokens,
                       .type = type,
                       .key_parameters = layout.key_parameters,
                       .key_codes = layout.key_codes,
                       .value_parameters = layout.value_parameters,
                       .value_codes = layout.value_codes,
                       .key_group_tokens = static_cast<int32_t>(layout.key_group_tokens)};
}

std::vector<PlaceTile> MakePlaceTiles(std::span<const PlacedSegment> segments,
                                      std::span<const uint8_t> wanted) {
  std::vector<PlaceTile> tiles;
  for (size_t index = 0; index < segments.size(); ++index) {
    if (!wanted.empty() && wanted[index] == 0) continue;
    for (int32_t first = 0; first < segments[index].num_tokens; first += kPlaceTileTokens) {
      tiles.push_back({.segment = static_cast<int32_t>(index), .first = first});
    }
  }
  return tiles;
}

Status CheckPlaceKv(const PlaceKvParams& params) {
  INTARSIA_RETURN_IF_ERROR(CheckPagedKvLayer(params.layer));
  const bool is_shifting = params.key_weights != nullptr;
  const RopeDigits& rope = params.rope;
  std::string wrong;
  if (!KvPayloadTypeOf(static_cast<uint32_t>(params.type)).has_value()) {
    return {StatusCode::kUnsupported, "place_kv: unknown payload type: type=" +
                                          std::to_string(static_cast<int>(params.type))};
  }
  if (params.num_tiles < 0 || params.num_segments < 0) {
    wrong = "a size is negative";
  } else if (params.num_tiles > 0 && (params.segments == nullptr || params.tiles == nullptr ||
                                      params.payloads == nullptr)) {
    wrong = "segments, tiles or payloads is null";
  } else if (is_shifting && (params.value_weights == nullptr || params.key_deltas == nullptr ||
                             params.value_deltas == nullptr)) {
    wrong = "a shift needs weights and deltas of both halves";
  } else if (rope.low == nullptr || rope.high == nullptr || rope.rotary_dim < 2 ||
             rope.rotary_dim % 2 != 0 || rope.rotary_dim > params.layer.head_dim ||
             rope.num_high * kRopeDigitValues < params.layer.num_tokens) {
    wrong = "the rotation does not fit";
  } else if (rope.pairing != RopePairing::kHalfSplit && rope.pairing != RopePairing::kInterleaved) {
    wrong = "unknown pairing";
  } else if (params.type == KvPayloadType::kRot4) {
    return {StatusCode::kUnsupported, "place_kv: rot4 payloads are placed on the CPU alone"};
  } else if (params.type == KvPayloadType::kInt4 && params.layer.head_dim % 32 != 0) {
    return {StatusCode::kUnsupported, "place_kv: int4 needs heads of a multiple of 32"};
  } else {
    for (const void* pointer :
         {static_cast<const void*>(params.key_weights),
          static_cast<const void*>(params.value_weights),
          static_cast<const void*>(params.key_deltas),
          static_cast<const void*>(params.value_deltas), static_cast<const void*>(rope.low),
          static_cast<const void*>(rope.high)}) {
      if (!IsAligned(pointer)) wrong = "a pointer is not 16-byte aligned";
    }
  }
  if (wrong.empty()) return Status::Ok();
  return {StatusCode::kInvalidArgument, "place_kv: " + wrong +
                                            ": tiles=" + std::to_string(params.num_tiles) +
                                            " segments=" + std::to_string(params.num_segments) +
                                            " head_dim=" + std::to_string(params.layer.head_dim) +
                                            " rotary_dim=" + std::to_string(rope.rotary_dim)};
}

Status PlaceKvReference(const PlaceKvParams& params) {
  INTARSIA_RETURN_IF_ERROR(CheckPlaceKv(params));
  const PagedKvLayer& layer = params.layer;
  const bool is_shifting = params.key_weights != nullptr;
  std::vector<double> values;
  for (int32_t index = 0; index < params.num_tiles; ++index) {
    const PlaceTile tile = params.tiles[index];
    const PlacedSegment& segment = params.segments[tile.segment];
    const int32_t end = std::min(segment.num_tokens, tile.first + kPlaceTileTokens);
    for (int32_t token = tile.first; token < end; ++token) {
      const int64_t position = segment.begin + token;
      if (params.is_row != nullptr && params.is_row[position] != 0) continue;
      for (const Half& half : {Half{KvHalf::kKey, params.key_weights, params.key_deltas},
                               Half{KvHalf::kValue, params.value_weights, params.value_deltas}}) {
        Half shifted = half;
        if (!is_shifting || segment.num_deltas == 0) shifted.weights = nullptr;
        INTARSIA_RETURN_IF_ERROR(
            ReadShifted(params, segment, params.payloads[tile.segment], token, shifted, &values));
        const bool is_key = half.half == KvHalf::kKey;
        uint16_t* const pages = is_key ? layer.k_pages : layer.v_pages;
        const int64_t page = layer.page_table[position / kPageTokens];
        for (int64_t head = 0; head < layer.num_kv_heads; ++head) {
          double* const x = values.data() + head * layer.head_dim;
          if (is_key) Rotate(params.rope, position, x);
          uint16_t* const target = pages + PagedKvOffset(layer, page, head, position % kPageTokens);
          for (int64_t i = 0; i < layer.head_dim; ++i) {
            target[i] = F32ToBf16(static_cast<float>(x[i]));
          }
        }
      }
    }
  }
  return Status::Ok();
}

}  // namespace intarsia::kernels
