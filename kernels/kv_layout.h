// KvLayer: the placed keys and values of one transformer layer, in the order that attention reads.
//
// Keys lie rotated, values as they are. Both are laid out for the matrix units of a CPU: attention
// takes 16 keys at a time, one to a lane, and a bf16 dot product takes its inputs in pairs. So a
// block of 16 tokens holds, per kv head,
//   K bf16  [head_dim / 2, 16 tokens, 2]     K f32  [head_dim, 16 tokens]
//   V bf16  [16 / 2, head_dim, 2 tokens]     V f32  [16 tokens, head_dim]
// and the blocks of a head follow each other: token t of head h is in block t / 16 of the
// `capacity / 16` blocks that start at head h.
//
// Thread safety: a KvLayer is a plain view; distinct blocks may be written concurrently.
// Lifetime: the memory belongs to model::KvCache.
#pragma once

#include <cstdint>

#include "base/status.h"

namespace intarsia::kernels {

inline constexpr int64_t kKvBlockTokens = 16;

enum class KvType : uint8_t { kF32 = 0, kBf16 = 1 };

struct KvLayer {
  void* k = nullptr;  // 64-byte aligned, capacity * num_kv_heads * head_dim elements
  void* v = nullptr;  // the same
  KvType type = KvType::kBf16;
  int32_t num_kv_heads = 0;
  int32_t head_dim = 0;  // a multiple of 16, at most 256
  int64_t capacity = 0;  // tokens, a multiple of kKvBlockTokens
};

// Bytes of one of k and v; -1 if a size is out of range.
int64_t KvLayerBytes(KvType type, int32_t num_kv_heads, int32_t head_dim, int64_t capacity);

// Errors: kInvalidArgument for a null or misaligned pointer, an unknown type or a size out of
// range; kUnsupported for a head_dim that is not a multiple of 16 or above 256.
Status CheckKvLayer(const KvLayer& layer);

// Where element `d` of a token lies, counted in elements from `k` and from `v`.
inline int64_t KOffset(const KvLayer& layer, int64_t kv_head, int64_t token, int64_t d) {
  const int64_t head = kv_head * layer.capacity * layer.head_dim;
  const int64_t block = head + token / kKvBlockTokens * kKvBlockTokens * layer.head_dim;
  const int64_t lane = token % kKvBlockTokens;
  if (layer.type == KvType::kF32) return block + d * kKvBlockTokens + lane;
  return block + (d / 2 * kKvBlockTokens + lane) * 2 + d % 2;
}
inline int64_t VOffset(const KvLayer& layer, int64_t kv_head, int64_t token, int64_t d) {
  const int64_t head = kv_head * layer.capacity * layer.head_dim;
  if (layer.type == KvType::kF32) return head + token * layer.head_dim + d;
  return head + (token / 2 * layer.head_dim + d) * 2 + token % 2;
}

struct StoreKvParams {
  KvLayer layer;
  const int32_t* positions = nullptr;  // [num_tokens], each in [0, capacity)
  const float* k = nullptr;            // [num_tokens, num_kv_heads, head_dim], rotated; may be null
  const float* v = nullptr;            // the same shape; may be null
  int64_t num_tokens = 0;
};

// Writes tokens into the layer on the calling thread; bf16 rounds to nearest even. A null `k` or
// `v` leaves that half alone.
// Runs of consecutive positions are the fast case: their whole blocks are written with vectors.
// Errors: those of CheckKvLayer; kInvalidArgument for a null `positions`, a count or a position out
// of range. Nothing is written then.
Status StoreKv(const StoreKvParams& params);

struct LoadKvParams {
  KvLayer layer;
  int64_t begin = 0;       // first token
  int64_t num_tokens = 0;  // begin + num_tokens <= capacity
  float* k = nullptr;      // [num_tokens, num_kv_heads, head_dim]; may be null
  float* v = nullptr;      // the same; may be null
};

// Reads tokens back as f32, which is exact. Errors: as StoreKv.
Status LoadKv(const LoadKvParams& params);

}  // namespace intarsia::kernels
