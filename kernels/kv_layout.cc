// Bound: memory. Both functions read and write every element once. Design: whole blocks go through
// vectors (K is transposed 4 x 4 in registers), the ragged ends of a run token by token.
#include "kernels/kv_layout.h"

#include <cstring>
#include <string>

#include "kernels/convert.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/kv_layout.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace intarsia::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// One kv head of one whole block; a token of `source` or `target` follows `stride` floats after the
// one before.
struct BlockShape {
  int64_t head_dim;
  int64_t stride;
};

// The scalar target has no vectors to transpose in and runs token by token.
#if HWY_TARGET != HWY_SCALAR

constexpr uint32_t kUpperHalf = 0xffff0000U;

// The bf16 of `value` in the upper half of each lane, rounded to nearest even; the rest is noise.
template <class D, class V>
HWY_INLINE hn::Vec<hn::RebindToUnsigned<D>> RoundToUpper(D, V value) {
  const hn::RebindToUnsigned<D> du;
  const auto bits = hn::BitCast(du, value);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1));
  const auto rounded = hn::Add(bits, hn::Add(odd, hn::Set(du, 0x7fff)));
  const auto quiet = hn::Or(bits, hn::Set(du, 0x400000));
  return hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(value)), quiet, rounded);
}

// bf16 pairs: `first` in the lower, `second` in the upper half of each lane.
template <class D, class V>
HWY_INLINE hn::Vec<hn::RebindToUnsigned<D>> PackPairs(D d, V first, V second) {
  const hn::RebindToUnsigned<D> du;
  return hn::Or(hn::ShiftRight<16>(RoundToUpper(d, first)),
                hn::And(RoundToUpper(d, second), hn::Set(du, kUpperHalf)));
}

using D4 = hn::FixedTag<float, 4>;
using DU4 = hn::FixedTag<uint32_t, 4>;
using V4 = hn::Vec<DU4>;

// Rows a, b, c, d become columns.
HWY_INLINE void Transpose(V4& a, V4& b, V4& c, V4& d) {
  const DU4 du;
  const hn::FixedTag<uint64_t, 2> du64;
  const auto ab_lower = hn::BitCast(du64, hn::InterleaveLower(du, a, b));
  const auto ab_upper = hn::BitCast(du64, hn::InterleaveUpper(du, a, b));
  const auto cd_lower = hn::BitCast(du64, hn::InterleaveLower(du, c, d));
  const auto cd_upper = hn::BitCast(du64, hn::InterleaveUpper(du, c, d));
  a = hn::BitCast(du, hn::InterleaveLower(du64, ab_lower, cd_lower));
  b = hn::BitCast(du, hn::InterleaveUpper(du64, ab_lower, cd_lower));
  c = hn::BitCast(du, hn::InterleaveLower(du64, ab_upper, cd_upper));
  d = hn::BitCast(du, hn::InterleaveUpper(du64, ab_upper, cd_upper));
}

// Four consecutive lanes of a K block from a token: four bf16 pairs, or four f32.
template <typename Element>
HWY_INLINE V4 LoadLanes(const float* source) {
  const D4 d;
  if constexpr (sizeof(Element) == sizeof(float)) {
    return hn::BitCast(DU4(), hn::LoadU(d, source));
  } else {
    const auto lower = hn::LoadU(d, source);
    const auto upper = hn::LoadU(d, source + 4);
    return PackPairs(d, hn::ConcatEven(d, upper, lower), hn::ConcatOdd(d, upper, lower));
  }
}

template <typename Element>
HWY_INLINE void StoreLanes(V4 lanes, float* target) {
  const D4 d;
  if constexpr (sizeof(Element) == sizeof(float)) {
    hn::StoreU(hn::BitCast(d, lanes), d, target);
  } else {
    const auto even = hn::ShiftLeft<16>(lanes);
    const auto odd = hn::And(lanes, hn::Set(DU4(), kUpperHalf));
    hn::StoreU(hn::BitCast(d, hn::InterleaveLower(DU4(), even, odd)), d, target);
    hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(DU4(), even, odd)), d, target + 4);
  }
}

// A K block is, in words of four bytes, [head_dim / kPerWord, 16 tokens].
template <typename Element>
void StoreKBlock(const BlockShape& shape, const float* source, uint32_t* block) {
  constexpr int64_t kPerWord = sizeof(uint32_t) / sizeof(Element);
  const DU4 du;
  for (int64_t word = 0; word < shape.head_dim / kPerWord; word += 4) {
    for (int64_t token = 0; token < kKvBlockTokens; token += 4) {
      const float* from = source + token * shape.stride + word * kPerWord;
      V4 a = LoadLanes<Element>(from);
      V4 b = LoadLanes<Element>(from + shape.stride);
      V4 c = LoadLanes<Element>(from + 2 * shape.stride);
      V4 d = LoadLanes<Element>(from + 3 * shape.stride);
      Transpose(a, b, c, d);
      uint32_t* to = block + word * kKvBlockTokens + token;
      hn::Store(a, du, to);
      hn::Store(b, du, to + kKvBlockTokens);
      hn::Store(c, du, to + 2 * kKvBlockTokens);
      hn::Store(d, du, to + 3 * kKvBlockTokens);
    }
  }
}

template <typename Element>
void LoadKBlock(const BlockShape& shape, const uint32_t* block, float* target) {
  constexpr int64_t kPerWord = sizeof(uint32_t) / sizeof(Element);
  const DU4 du;
  for (int64_t word = 0; word < shape.head_dim / kPerWord; word += 4) {
    for (int64_t token = 0; token < kKvBlockTokens; token += 4) {
      const uint32_t* from = block + word * kKvBlockTokens + token;
      V4 a = hn::Load(du, from);
      V4 b = hn::Load(du, from + kKvBlockTokens);
      V4 c = hn::Load(du, from + 2 * kKvBlockTokens);
      V4 d = hn::Load(du, from + 3 * kKvBlockTokens);
      Transpose(a, b, c, d);
      float* to = target + token * shape.stride + word * kPerWord;
      StoreLanes<Element>(a, to);
      StoreLanes<Element>(b, to + shape.stride);
      StoreLanes<Element>(c, to + 2 * shape.stride);
      StoreLanes<Element>(d, to + 3 * shape.stride);
    }
  }
}

void StoreVBlock(const BlockShape& shape, const float* source, uint32_t* block) {
  const hn::CappedTag<float, kKvBlockTokens> d;
  const hn::RebindToUnsigned<decltype(d)> du;
  const auto num_lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t token = 0; token < kKvBlockTokens; token += 2) {
    const float* from = source + token * shape.stride;
    for (int64_t i = 0; i < shape.head_dim; i += num_lanes) {
      const auto first = hn::LoadU(d, from + i);
      const auto second = hn::LoadU(d, from + shape.stride + i);
      hn::Store(PackPairs(d, first, second), du, block + token / 2 * shape.head_dim + i);
    }
  }
}

void LoadVBlock(const BlockShape& shape, const uint32_t* block, float* target) {
  const hn::CappedTag<float, kKvBlockTokens> d;
  const hn::RebindToUnsigned<decltype(d)> du;
  const auto num_lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t token = 0; token < kKvBlockTokens; token += 2) {
    float* to = target + token * shape.stride;
    for (int64_t i = 0; i < shape.head_dim; i += num_lanes) {
      const auto words = hn::Load(du, block + token / 2 * shape.head_dim + i);
      hn::StoreU(hn::BitCast(d, hn::ShiftLeft<16>(words)), d, to + i);
      hn::StoreU(hn::BitCast(d, hn::And(words, hn::Set(du, kUpperHalf))), d, to + shape.stride + i);
    }
  }
}

#endif  // HWY_TARGET != HWY_SCALAR

template <typename Element>
HWY_INLINE Element Narrow(float value) {
  if constexpr (sizeof(Element) == sizeof(float)) {
    return value;
  } else {
    return F32ToBf16(value);
  }
}

template <typename Element>
HWY_INLINE float Widen(Element value) {
  if constexpr (sizeof(Element) == sizeof(float)) {
    return value;
  } else {
    return Bf16ToF32(value);
  }
}

template <typename Element>
void StoreToken(const StoreKvParams& params, int64_t row) {
  const KvLayer& layer = params.layer;
  const int64_t token = params.positions[row];
  auto* const k = static_cast<Element*>(layer.k);
  auto* const v = static_cast<Element*>(layer.v);
  for (int64_t head = 0; head < layer.num_kv_heads; ++head) {
    const int64_t from = (row * layer.num_kv_heads + head) * layer.head_dim;
    for (int64_t i = 0; params.k != nullptr && i < layer.head_dim; ++i) {
      k[KOffset(layer, head, token, i)] = Narrow<Element>(params.k[from + i]);
    }
    for (int64_t i = 0; params.v != nullptr && i < layer.head_dim; ++i) {
      v[VOffset(layer, head, token, i)] = Narrow<Element>(params.v[from + i]);
    }
  }
}

template <typename Element>
void LoadToken(const LoadKvParams& params, int64_t row) {
  const KvLayer& layer = params.layer;
  const int64_t token = params.begin + row;
  const auto* const k = static_cast<const Element*>(layer.k);
  const auto* const v = static_cast<const Element*>(layer.v);
  for (int64_t head = 0; head < layer.num_kv_heads; ++head) {
    const int64_t to = (row * layer.num_kv_heads + head) * layer.head_dim;
    for (int64_t i = 0; params.k != nullptr && i < layer.head_dim; ++i) {
      params.k[to + i] = Widen<Element>(k[KOffset(layer, head, token, i)]);
    }
    for (int64_t i = 0; params.v != nullptr && i < layer.head_dim; ++i) {
      params.v[to + i] = Widen<Element>(v[VOffset(layer, head, token, i)]);
    }
  }
}

// Rows [row, row + 16) are the tokens of one whole block.
template <typename Element>
void StoreBlock(const StoreKvParams& params, int64_t row) {
#if HWY_TARGET == HWY_SCALAR
  for (int64_t i = 0; i < kKvBlockTokens; ++i) StoreToken<Element>(params, row + i);
#else
  const KvLayer& layer = params.layer;
  const BlockShape shape{layer.head_dim, int64_t{layer.num_kv_heads} * layer.head_dim};
  for (int64_t head = 0; head < layer.num_kv_heads; ++head) {
    const int64_t from = row * shape.stride + head * layer.head_dim;
    const int64_t block = KOffset(layer, head, params.positions[row], 0);
    if (params.k != nullptr) {
      auto* const k = static_cast<Element*>(layer.k) + block;
      StoreKBlock<Element>(shape, params.k + from, reinterpret_cast<uint32_t*>(k));
    }
    if (params.v == nullptr) continue;
    auto* const v = static_cast<Element*>(layer.v) + block;
    if constexpr (sizeof(Element) == sizeof(float)) {
      for (int64_t i = 0; i < kKvBlockTokens; ++i) {
        std::memcpy(v + i * layer.head_dim, params.v + from + i * shape.stride,
                    static_cast<size_t>(layer.head_dim) * sizeof(float));
      }
    } else {
      StoreVBlock(shape, params.v + from, reinterpret_cast<uint32_t*>(v));
    }
  }
#endif
}

template <typename Element>
void LoadBlock(const LoadKvParams& params, int64_t row) {
#if HWY_TARGET == HWY_SCALAR
  for (int64_t i = 0; i < kKvBlockTokens; ++i) LoadToken<Element>(params, row + i);
#else
  const KvLayer& layer = params.layer;
  const BlockShape shape{layer.head_dim, int64_t{layer.num_kv_heads} * layer.head_dim};
  for (int64_t head = 0; head < layer.num_kv_heads; ++head) {
    const int64_t to = row * shape.stride + head * layer.head_dim;
    const int64_t block = KOffset(layer, head, params.begin + row, 0);
    if (params.k != nullptr) {
      const auto* const k = static_cast<const Element*>(layer.k) + block;
      LoadKBlock<Element>(shape, reinterpret_cast<const uint32_t*>(k), params.k + to);
    }
    if (params.v == nullptr) continue;
    const auto* const v = static_cast<const Element*>(layer.v) + block;
    if constexpr (sizeof(Element) == sizeof(float)) {
      for (int64_t i = 0; i < kKvBlockTokens; ++i) {
        std::memcpy(params.v + to + i * shape.stride, v + i * layer.head_dim,
                    static_cast<size_t>(layer.head_dim) * sizeof(float));
      }
    } else {
      LoadVBlock(shape, reinterpret_cast<const uint32_t*>(v), params.v + to);
    }
  }
#endif
}

// Whether rows [row, row + 16) are the tokens of one whole block.
HWY_INLINE bool IsWholeBlock(const StoreKvParams& params, int64_t row) {
  const int32_t first = params.positions[row];
  if (first % kKvBlockTokens != 0 || row + kKvBlockTokens > params.num_tokens) return false;
  for (int32_t i = 1; i < kKvBlockTokens; ++i) {
    if (params.positions[row + i] != first + i) return false;
  }
  return true;
}

template <typename Element>
void StoreTokens(const StoreKvParams& params) {
  for (int64_t row = 0; row < params.num_tokens;) {
    const bool is_whole = IsWholeBlock(params, row);
    is_whole ? StoreBlock<Element>(params, row) : StoreToken<Element>(params, row);
    row += is_whole ? kKvBlockTokens : 1;
  }
}

template <typename Element>
void LoadTokens(const LoadKvParams& params) {
  for (int64_t row = 0; row < params.num_tokens;) {
    const bool is_whole =
        (params.begin + row) % kKvBlockTokens == 0 && row + kKvBlockTokens <= params.num_tokens;
    is_whole ? LoadBlock<Element>(params, row) : LoadToken<Element>(params, row);
    row += is_whole ? kKvBlockTokens : 1;
  }
}

void StoreAll(const StoreKvParams& params) {
  params.layer.type == KvType::kF32 ? StoreTokens<float>(params) : StoreTokens<uint16_t>(params);
}

void LoadAll(const LoadKvParams& params) {
  params.layer.type == KvType::kF32 ? LoadTokens<float>(params) : LoadTokens<uint16_t>(params);
}

}  // namespace HWY_NAMESPACE
}  // namespace intarsia::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace intarsia::kernels {

HWY_EXPORT(StoreAll);
HWY_EXPORT(LoadAll);

namespace {

constexpr int32_t kHeadDimMax = 256;
// Far above any machine, and low enough that no product below can overflow.
constexpr int64_t kCapacityMax = int64_t{1} << 31;
constexpr int32_t kKvHeadsMax = 1 << 16;

bool IsAligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 64 == 0; }

bool IsShapeInRange(int32_t num_kv_heads, int32_t head_dim, int64_t capacity) {
  return num_kv_heads >= 1 && num_kv_heads <= kKvHeadsMax && head_dim >= 1 && capacity >= 0 &&
         capacity <= kCapacityMax && capacity % kKvBlockTokens == 0;
}

}  // namespace

int64_t KvLayerBytes(KvType type, int32_t num_kv_heads, int32_t head_dim, int64_t capacity) {
  if (!IsShapeInRange(num_kv_heads, head_dim, capacity) || head_dim > kHeadDimMax) return -1;
  const int64_t element_bytes = type == KvType::kF32 ? 4 : 2;
  return element_bytes * num_kv_heads * head_dim * capacity;
}

Status CheckKvLayer(const KvLayer& layer) {
  if (layer.k == nullptr || layer.v == nullptr) {
    return Status(StatusCode::kInvalidArgument, "kv layer has no memory: k or v is null");
  }
  if (!IsAligned(layer.k) || !IsAligned(layer.v)) {
    return Status(StatusCode::kInvalidArgument, "kv layer is not aligned to 64 bytes");
  }
  if (layer.type != KvType::kF32 && layer.type != KvType::kBf16) {
    return Status(StatusCode::kInvalidArgument, "kv layer has an unknown type: type=" +
                                                    std::to_string(static_cast<int>(layer.type)));
  }
  if (!IsShapeInRange(layer.num_kv_heads, layer.head_dim, layer.capacity)) {
    return Status(StatusCode::kInvalidArgument, "kv layer has a size out of range: num_kv_heads=" +
                                                    std::to_string(layer.num_kv_heads) +
                                                    " head_dim=" + std::to_string(layer.head_dim) +
                                                    " capacity=" + std::to_string(layer.capacity));
  }
  if (layer.head_dim % 16 != 0 || layer.head_dim > kHeadDimMax) {
    return Status(StatusCode::kUnsupported,
                  "head_dim must be a multiple of 16, at most 256: head_dim=" +
                      std::to_string(layer.head_dim));
  }
  return Status::Ok();
}

Status StoreKv(const StoreKvParams& params) {
  INTARSIA_RETURN_IF_ERROR(CheckKvLayer(params.layer));
  if (params.num_tokens == 0) return Status::Ok();
  if (params.num_tokens < 0 || params.positions == nullptr) {
    return Status(StatusCode::kInvalidArgument, "tokens to store have no positions: num_tokens=" +
                                                    std::to_string(params.num_tokens));
  }
  for (int64_t i = 0; i < params.num_tokens; ++i) {
    if (params.positions[i] < 0 || params.positions[i] >= params.layer.capacity) {
      return Status(StatusCode::kInvalidArgument,
                    "position to store is outside of the kv layer: index=" + std::to_string(i) +
                        " position=" + std::to_string(params.positions[i]) +
                        " capacity=" + std::to_string(params.layer.capacity));
    }
  }
  HWY_DYNAMIC_DISPATCH(StoreAll)(params);
  return Status::Ok();
}

Status LoadKv(const LoadKvParams& params) {
  INTARSIA_RETURN_IF_ERROR(CheckKvLayer(params.layer));
  if (params.num_tokens < 0 || params.begin < 0 || params.begin > params.layer.capacity ||
      params.num_tokens > params.layer.capacity - params.begin) {
    return Status(
        StatusCode::kInvalidArgument,
        "tokens to load are outside of the kv layer: begin=" + std::to_string(params.begin) +
            " num_tokens=" + std::to_string(params.num_tokens) +
            " capacity=" + std::to_string(params.layer.capacity));
  }
  HWY_DYNAMIC_DISPATCH(LoadAll)(params);
  return Status::Ok();
}

}  // namespace intarsia::kernels
#endif  // HWY_ONCE
