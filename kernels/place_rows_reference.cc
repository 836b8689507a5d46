#include <algorithm>
#include <string>
#include <vector>

#include "kernels/convert.h"
#include "kernels/device_pointer.h"
#include "kernels/place_rows.h"

namespace intarsia::kernels {
namespace {

constexpr int64_t kRowsMax = int64_t{1} << 31;
constexpr int32_t kHeadsMax = 1 << 14;

struct Rotation {
  double cosine;
  double sine;
};

Rotation RotationOf(const RopeDigits& rope, int64_t position, int64_t pair) {
  const float* const low = rope.low + position % kRopeDigitValues * rope.rotary_dim + 2 * pair;
  const float* const high = rope.high + position / kRopeDigitValues * rope.rotary_dim + 2 * pair;
  return {.cosine = double{low[0]} * high[0] - double{low[1]} * high[1],
          .sine = double{low[1]} * high[0] + double{low[0]} * high[1]};
}

void RotateHead(const RopeDigits& rope, int64_t position, const uint16_t* x, int32_t head_dim,
                uint16_t* y) {
  std::copy_n(x, head_dim, y);
  const int64_t num_pairs = rope.rotary_dim / 2;
  for (int64_t pair = 0; pair < num_pairs; ++pair) {
    const bool is_interleaved = rope.pairing == RopePairing::kInterleaved;
    const int64_t a = is_interleaved ? 2 * pair : pair;
    const int64_t b = is_interleaved ? 2 * pair + 1 : pair + num_pairs;
    const Rotation rotation = RotationOf(rope, position, pair);
    const double xa = Bf16ToF32(x[a]);
    const double xb = Bf16ToF32(x[b]);
    y[a] = F32ToBf16(static_cast<float>(xa * rotation.cosine - xb * rotation.sine));
    y[b] = F32ToBf16(static_cast<float>(xb * rotation.cosine + xa * rotation.sine));
  }
}

Status CheckSizes(const PlaceRowsParams& params) {
  const RopeDigits& rope = params.rope;
  if (params.num_rows < 0 || params.num_rows >= kRowsMax || params.num_heads < 1 ||
      params.num_heads > kHeadsMax || rope.num_high < 1 || rope.rotary_dim < 2 ||
      rope.rotary_dim > params.layer.head_dim || params.page_table_stride < 0) {
    return Status(StatusCode::kInvalidArgument,
                  "place rows: size out of range: num_rows=" + std::to_string(params.num_rows) +
                      " num_heads=" + std::to_string(params.num_heads) +
                      " rotary_dim=" + std::to_string(rope.rotary_dim) +
                      " head_dim=" + std::to_string(params.layer.head_dim));
  }
  if (rope.rotary_dim % 16 != 0) {
    return Status(StatusCode::kUnsupported,
                  "place rows: rotary_dim must be a multiple of 16: rotary_dim=" +
                      std::to_string(rope.rotary_dim));
  }
  return Status::Ok();
}

}  // namespace

Status CheckPlaceRows(const PlaceRowsParams& params) {
  INTARSIA_RETURN_IF_ERROR(CheckPagedKvLayer(params.layer));
  INTARSIA_RETURN_IF_ERROR(CheckSizes(params));
  if (params.num_rows == 0) return Status::Ok();
  if (!IsVectorAligned(params.qkv) || !IsVectorAligned(params.q) ||
      !IsVectorAligned(params.rope.low) || !IsVectorAligned(params.rope.high) ||
      params.positions == nullptr || params.layer.num_tokens == 0) {
    return Status(StatusCode::kInvalidArgument,
                  "place rows: null or misaligned pointer, or no pages");
  }
  return Status::Ok();
}

Status PlaceRowsReference(const PlaceRowsParams& params) {
  INTARSIA_RETURN_IF_ERROR(CheckPlaceRows(params));
  const PagedKvLayer& layer = params.layer;
  const int64_t width = (int64_t{params.num_heads} + 2 * layer.num_kv_heads) * layer.head_dim;
  for (int64_t row = 0; row < params.num_rows; ++row) {
    const int64_t position = params.positions[row];
    if (position < 0 || position >= layer.num_tokens ||
        position / kRopeDigitValues >= params.rope.num_high) {
      continue;
    }
    const uint16_t* x = params.qkv + row * width;
    for (int64_t head = 0; head < params.num_heads; ++head, x += layer.head_dim) {
      RotateHead(params.rope, position, x, layer.head_dim,
                 params.q + (row * params.num_heads + head) * layer.head_dim);
    }
    const int64_t table = row * params.page_table_stride;
    const int64_t page = layer.page_table[table + position / kPageTokens];
    for (int64_t head = 0; head < layer.num_kv_heads; ++head, x += layer.head_dim) {
      const int64_t offset = PagedKvOffset(layer, page, head, position % kPageTokens);
      RotateHead(params.rope, position, x, layer.head_dim, layer.k_pages + offset);
      std::copy_n(x + layer.num_kv_heads * layer.head_dim, layer.head_dim, layer.v_pages + offset);
    }
  }
  return Status::Ok();
}

}  // namespace intarsia::kernels
