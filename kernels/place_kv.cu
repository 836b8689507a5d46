// Bound: memory. Reads a payload and writes two bf16 arrays: for bf16 payloads 8 bytes a number of
// K, V being alike. With a shift 2 * num_deltas flops a number, a sixtieth of that in time.
// Design: a block takes 128 tokens and 64 columns of one head. Its warps load their part of
// the payload into registers, multiply weights by deltas on tensor cores meanwhile, both of which
// come by way of shared memory, and rotate and store from registers: columns are dealt to the
// product so that each lane ends up with eight neighbours, which makes every access to memory 16
// bytes wide.
#include <cstdint>

#include <cuda_runtime.h>

#include "kernels/grid_dependency.cuh"
#include "kernels/kv_decode.cuh"
#include "kernels/place_kv.h"
#include "kernels/tensor_core.cuh"

namespace intarsia::kernels {
namespace {

template <KvPayloadType kType_>
struct PlaceKvTraits {
  static constexpr int kColumns = 64;
  static constexpr KvPayloadType kType = kType_;
  static constexpr int kThreads = 256;
  static constexpr int kBlocks = 3;  // of a multiprocessor
  static constexpr int kTokens = kPlaceTileTokens;
  static constexpr int kGroups = kColumns / 32;
  static constexpr int kDeltaRows = 80;  // at a time in shared memory
  static constexpr int kDeltaStride = kColumns + 8;
  static constexpr int kWeightStride = kDeltaRows + 8;
  static_assert(kThreads / 32 * 16 == kTokens, "a warp takes the 16 rows of a matrix product");
  static_assert(kColumns % 64 == 0, "a rotated pair must lie in two groups of one lane");
  static_assert(kDeltaRows % 16 == 0, "the inner size of a matrix product");
};

// What a block works on, all of it uniform.
struct Share {
  PlacedSegment segment;
  const uint8_t* payload;
  int first;  // token of the segment
  int head;
  int slice;  // of the head's columns
  bool is_key;
};

__device__ inline Share ShareOf(const PlaceKvParams& params, int num_slices) {
  const PlaceTile tile = params.tiles[blockIdx.x];
  const int unit = static_cast<int>(blockIdx.y);
  return {.segment = params.segments[tile.segment],
          .payload = params.payloads[tile.segment],
          .first = tile.first,
          .head = unit / num_slices,
          .slice = unit % num_slices,
          .is_key = blockIdx.z == 0};
}

// The first column, within a head, of a lane's eight numbers in `group`. The halves of a head that
// are rotated together give half of a slice's groups each.
template <typename Traits>
__device__ inline int ColumnOf(const Share& share, int head_dim, int group, int quad_lane) {
  const int half = Traits::kGroups / 2;
  const int within = share.slice * (Traits::kColumns / 2) + 8 * quad_lane;
  return group < half ? within + 32 * group : head_dim / 2 + within + 32 * (group - half);
}

// Deltas, and the weights of the block's tokens, at a time. Rows are padded so that those of a
// matrix lie in different banks.
template <typename Traits>
struct alignas(16) StagedShift {
  uint16_t deltas[Traits::kDeltaRows * Traits::kDeltaStride];
  uint16_t weights[Traits::kTokens * Traits::kWeightStride];
};

// Starts to copy the block's weights of deltas [begin, begin + kDeltaRows) to shared memory, zeros
// beyond the last one. Tokens beyond the last one have its weights.
template <typename Traits>
__device__ void StageWeights(const PlaceKvParams& params, const Share& share, int begin,
                             uint16_t* staged) {
  constexpr int kPieces = Traits::kDeltaRows / 8;
  const uint16_t* const weights =
      (share.is_key ? params.key_weights : params.value_weights) + share.segment.first_weight;
  const int64_t stride = share.segment.weights_stride;
  const int last = share.segment.num_tokens - 1;
#pragma unroll
  for (int i = static_cast<int>(threadIdx.x); i < Traits::kTokens * kPieces;
       i += Traits::kThreads) {
    const int row = i / kPieces;
    const int column = begin + i % kPieces * 8;
    const bool is_there = column < stride;
    CopyAsync16(SharedAddress(staged + row * Traits::kWeightStride + i % kPieces * 8),
                weights + min(share.first + row, last) * stride + (is_there ? column : 0),
                is_there ? 16 : 0);
  }
  CommitCopies();
}

// Copies deltas [begin, begin + kDeltaRows) of the block's columns to shared memory; rows beyond
// `end` become 0. In every group of 32 the numbers are dealt so that the product hands lane c of a
// quad the columns [8 c, 8 c + 8).
template <typename Traits>
__device__ void StageDeltas(const PlaceKvParams& params, const Share& share, int begin,
                            uint16_t* staged) {
  const int width = params.layer.num_kv_heads * params.layer.head_dim;
  const uint16_t* const deltas = share.is_key ? params.key_deltas : params.value_deltas;
  constexpr int kVectors = Traits::kColumns / 8;
  for (int i = static_cast<int>(threadIdx.x); i < Traits::kDeltaRows * kVectors;
       i += Traits::kThreads) {
    const int row = i / kVectors;
    const int group = i % kVectors / 4;
    const int quad_lane = i % 4;
    uint4 words = make_uint4(0, 0, 0, 0);
    if (begin + row < share.segment.num_deltas) {
      const int column = share.head * params.layer.head_dim +
                         ColumnOf<Traits>(share, params.layer.head_dim, group, quad_lane);
      const int64_t delta = int64_t{share.segment.first_delta} + begin + row;
      words = __ldg(reinterpret_cast<const uint4*>(deltas + delta * width + column));
    }
    uint16_t* const target = staged + row * Traits::kDeltaStride + 32 * group + 2 * quad_lane;
    *reinterpret_cast<uint32_t*>(target) = words.x;
    *reinterpret_cast<uint32_t*>(target + 8) = words.y;
    *reinterpret_cast<uint32_t*>(target + 16) = words.z;
    *reinterpret_cast<uint32_t*>(target + 24) = words.w;
  }
}

// sum = weights x deltas for the warp's 16 tokens: number e of `group` in row half h is
// sum[group][e / 2][2 h + e % 2].
template <typename Traits>
__device__ void Shift(const PlaceKvParams& params, const Share& share, StagedShift<Traits>* staged,
                      float (&sum)[Traits::kGroups][4][4]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp_token = static_cast<int>(threadIdx.x) / 32 * 16;
  // Of the four matrices that are loaded at once, a lane names a row of one.
  const int row = lane / 8 % 2 * 8 + lane % 8;
  const uint32_t weights =
      SharedAddress(staged->weights + (warp_token + row) * Traits::kWeightStride + lane / 16 * 8);
  const uint32_t deltas =
      SharedAddress(staged->deltas + row * Traits::kDeltaStride + lane / 16 * 8);
  for (int begin = 0; begin < share.segment.num_deltas; begin += Traits::kDeltaRows) {
    if (begin > 0) __syncthreads();  // everybody is done with what is overwritten
    StageWeights<Traits>(params, share, begin, staged->weights);
    StageDeltas<Traits>(params, share, begin, staged->deltas);
    WaitForCopies<0>();
    __syncthreads();
    const int rows = min(Traits::kDeltaRows, share.segment.num_deltas - begin);
    for (int k = 0; k < rows; k += 16) {
      uint32_t a[4];
      LoadMatrices(a, weights + 2 * k);
#pragma unroll
      for (int group = 0; group < Traits::kGroups; ++group) {
#pragma unroll
        for (int pair = 0; pair < 2; ++pair) {
          uint32_t b[4];
          LoadMatricesTransposed(b,
                                 deltas + 2 * (k * Traits::kDeltaStride + 32 * group + 16 * pair));
          MultiplyAdd(sum[group][2 * pair], a, b[0], b[1]);
          MultiplyAdd(sum[group][2 * pair + 1], a, b[2], b[3]);
        }
      }
    }
  }
}

// Eight neighbouring pairs' cosines and sines at `position`, or four with `kPairs` = 4.
template <int kPairs>
__device__ inline void LoadRotation(const RopeDigits& rope, int64_t position, int pair,
                                    float (&cosine)[kPairs], float (&sine)[kPairs]) {
  const auto* const low = reinterpret_cast<const float4*>(
      rope.low + position % kRopeDigitValues * rope.rotary_dim + 2 * pair);
  const auto* const high = reinterpret_cast<const float4*>(
      rope.high + position / kRopeDigitValues * rope.rotary_dim + 2 * pair);
#pragma unroll
  for (int i = 0; i < kPairs / 2; ++i) {
    const float4 l = __ldg(low + i);
    const float4 h = __ldg(high + i);
    cosine[2 * i] = l.x * h.x - l.y * h.y;
    sine[2 * i] = l.y * h.x + l.x * h.y;
    cosine[2 * i + 1] = l.z * h.z - l.w * h.w;
    sine[2 * i + 1] = l.w * h.z + l.z * h.w;
  }
}

__device__ inline void Store(uint16_t* target, const float (&values)[kRawNumbers]) {
  const uint4 words = make_uint4(PackBf16(values[0], values[1]), PackBf16(values[2], values[3]),
                                 PackBf16(values[4], values[5]), PackBf16(values[6], values[7]));
  *reinterpret_cast<uint4*>(target) = words;
}

// Rotates and stores one token's numbers of the block's columns.
template <typename Traits>
__device__ void Finish(const PlaceKvParams& params, const Share& share, int64_t position,
                       float (&values)[Traits::kGroups][kRawNumbers]) {
  const PagedKvLayer& layer = params.layer;
  const int quad_lane = static_cast<int>(threadIdx.x) % 4;
  const int64_t page = layer.page_table[position / kPageTokens];
  uint16_t* const target = (share.is_key ? layer.k_pages : layer.v_pages) +
                           PagedKvOffset(layer, page, share.head, position % kPageTokens);
  if (share.is_key && params.rope.pairing == RopePairing::kHalfSplit) {
    constexpr int kHalf = Traits::kGroups / 2;
#pragma unroll
    for (int group = 0; group < kHalf; ++group) {
      float cosine[kRawNumbers];
      float sine[kRawNumbers];
      LoadRotation(params.rope, position, ColumnOf<Traits>(share, layer.head_dim, group, quad_lane),
                   cosine, sine);
#pragma unroll
      for (int e = 0; e < kRawNumbers; ++e) {
        const float a = values[group][e];
        const float b = values[group + kHalf][e];
        values[group][e] = a * cosine[e] - b * sine[e];
        values[group + kHalf][e] = b * cosine[e] + a * sine[e];
      }
    }
  } else if (share.is_key) {
#pragma unroll
    for (int group = 0; group < Traits::kGroups; ++group) {
      float cosine[kRawNumbers / 2];
      float sine[kRawNumbers / 2];
      LoadRotation(params.rope, position,
                   ColumnOf<Traits>(share, layer.head_dim, group, quad_lane) / 2, cosine, sine);
#pragma unroll
      for (int e = 0; e < kRawNumbers / 2; ++e) {
        const float a = values[group][2 * e];
        const float b = values[group][2 * e + 1];
        values[group][2 * e] = a * cosine[e] - b * sine[e];
        values[group][2 * e + 1] = b * cosine[e] + a * sine[e];
      }
    }
  }
#pragma unroll
  for (int group = 0; group < Traits::kGroups; ++group) {
    Store(target + ColumnOf<Traits>(share, layer.head_dim, group, quad_lane), values[group]);
  }
}

// Grid: (num_tiles, heads * slices, K and V). Block: kThreads; a warp takes 16 tokens, a lane two
// of them and a quarter of their columns.
template <typename Traits>
__global__ void __launch_bounds__(Traits::kThreads, Traits::kBlocks)
    PlaceKvKernel(const __grid_constant__ PlaceKvParams params) {
  __shared__ StagedShift<Traits> staged;
  LetLaterKernelsStart();
  const PagedKvLayer& layer = params.layer;
  const Share share = ShareOf(params, layer.head_dim / Traits::kColumns);
  const int width = layer.num_kv_heads * layer.head_dim;
  const KvHalfView half = ViewHalf(share.segment, share.payload, width, share.is_key);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int first = share.first + static_cast<int>(threadIdx.x) / 32 * 16 + lane / 4;

  RawNumbers<Traits::kType> raw[2][Traits::kGroups];
  bool is_wanted[2];
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int token = first + 8 * h;
    is_wanted[h] = token < share.segment.num_tokens &&
                   (params.is_row == nullptr || params.is_row[share.segment.begin + token] == 0);
    if (!is_wanted[h]) continue;
#pragma unroll
    for (int group = 0; group < Traits::kGroups; ++group) {
      const int column =
          share.head * layer.head_dim + ColumnOf<Traits>(share, layer.head_dim, group, lane % 4);
      raw[h][group] = LoadRaw<Traits::kType>(half.codes, token, width, column);
    }
  }

  // What is behind is written by the kernels in front, which measure the shift meanwhile.
  WaitForEarlierKernels();
  float sum[Traits::kGroups][4][4] = {};
  if (params.key_weights != nullptr && share.segment.num_deltas > 0) {
    Shift<Traits>(params, share, &staged, sum);
  }

#pragma unroll
  for (int h = 0; h < 2; ++h) {
    if (!is_wanted[h]) continue;
    const int token = first + 8 * h;
    float values[Traits::kGroups][kRawNumbers];
#pragma unroll
    for (int group = 0; group < Traits::kGroups; ++group) {
      const int column =
          share.head * layer.head_dim + ColumnOf<Traits>(share, layer.head_dim, group, lane % 4);
      Decode<Traits::kType>(raw[h][group], half.parameters, token, column, values[group]);
#pragma unroll
      for (int e = 0; e < kRawNumbers; ++e) values[group][e] += sum[group][e / 2][2 * h + e % 2];
    }
    Finish<Traits>(params, share, int64_t{share.segment.begin} + token, values);
  }
}

// One number of a token with its shift, for shapes that the other kernel does not take.
template <KvPayloadType kType>
__device__ float ReadOne(const PlaceKvParams& params, const Share& share, const KvHalfView& half,
                         int token, int column) {
  const int width = half.parameters.width;
  float values[kRawNumbers];
  const int first = column / kRawNumbers * kRawNumbers;
  Decode<kType>(LoadRaw<kType>(half.codes, token, width, first), half.parameters, token, first,
                values);
  float value = 0.0f;
#pragma unroll
  for (int i = 0; i < kRawNumbers; ++i) value = i == column - first ? values[i] : value;
  if (params.key_weights == nullptr) return value;
  const uint16_t* const weights = (share.is_key ? params.key_weights : params.value_weights) +
                                  share.segment.first_weight +
                                  int64_t{token} * share.segment.weights_stride;
  const uint16_t* const deltas = (share.is_key ? params.key_deltas : params.value_deltas) +
                                 int64_t{share.segment.first_delta} * width + column;
  float sum = 0.0f;
  for (int s = 0; s < share.segment.num_deltas; ++s) {
    sum = fmaf(__uint_as_float(uint32_t{weights[s]} << 16),
               __uint_as_float(uint32_t{deltas[int64_t{s} * width]} << 16), sum);
  }
  return value + sum;
}

// Grid: (num_tiles, heads, K and V). Block: 256; a thread takes one number, or the two of a rotated
// pair.
template <KvPayloadType kType>
__global__ void __launch_bounds__(256)
    PlaceAnyKvKernel(const __grid_constant__ PlaceKvParams params) {
  LetLaterKernelsStart();
  WaitForEarlierKernels();
  const PagedKvLayer& layer = params.layer;
  const Share share = ShareOf(params, 1);
  const int width = layer.num_kv_heads * layer.head_dim;
  const KvHalfView half = ViewHalf(share.segment, share.payload, width, share.is_key);
  const int num_pairs = share.is_key ? params.rope.rotary_dim / 2 : 0;
  const int num_items = layer.head_dim - num_pairs;
  const int num_tokens = min(kPlaceTileTokens, share.segment.num_tokens - share.first);
  for (int i = static_cast<int>(threadIdx.x); i < num_tokens * num_items; i += 256) {
    const int token = share.first + i / num_items;
    const int item = i % num_items;
    const int64_t position = int64_t{share.segment.begin} + token;
    if (params.is_row != nullptr && params.is_row[position] != 0) continue;
    const int64_t page = layer.page_table[position / kPageTokens];
    uint16_t* const target = (share.is_key ? layer.k_pages : layer.v_pages) +
                             PagedKvOffset(layer, page, share.head, position % kPageTokens);
    const bool is_pair = item < num_pairs;
    const bool is_interleaved = params.rope.pairing == RopePairing::kInterleaved;
    const int first = !is_pair ? item + num_pairs : is_interleaved ? 2 * item : item;
    const int second = is_interleaved ? first + 1 : first + num_pairs;
    const int column = share.head * layer.head_dim;
    float a = ReadOne<kType>(params, share, half, token, column + first);
    if (is_pair) {
      const float b = ReadOne<kType>(params, share, half, token, column + second);
      const float* const low =
          params.rope.low + position % kRopeDigitValues * params.rope.rotary_dim + 2 * item;
      const float* const high =
          params.rope.high + position / kRopeDigitValues * params.rope.rotary_dim + 2 * item;
      const float cosine = low[0] * high[0] - low[1] * high[1];
      const float sine = low[1] * high[0] + low[0] * high[1];
      target[second] = static_cast<uint16_t>(PackBf16(b * cosine + a * sine, 0.0f));
      a = a * cosine - b * sine;
    }
    target[first] = static_cast<uint16_t>(PackBf16(a, 0.0f));
  }
}

template <KvPayloadType kType>
Status LaunchFast(const PlaceKvParams& params, Stream stream) {
  using Traits = PlaceKvTraits<kType>;
  return LaunchBehind("place_kv", PlaceKvKernel<Traits>,
                      {.num_blocks = static_cast<unsigned>(params.num_tiles),
                       .num_blocks_y = static_cast<unsigned>(
                           params.layer.num_kv_heads * (params.layer.head_dim / Traits::kColumns)),
                       .num_blocks_z = 2,
                       .num_threads = Traits::kThreads,
                       .stream = stream},
                      params);
}

template <KvPayloadType kType>
Status LaunchType(const PlaceKvParams& params, Stream stream) {
  if (params.rope.rotary_dim == params.layer.head_dim &&
      params.layer.head_dim % PlaceKvTraits<kType>::kColumns == 0) {
    return LaunchFast<kType>(params, stream);
  }
  return LaunchBehind("place_kv", PlaceAnyKvKernel<kType>,
                      {.num_blocks = static_cast<unsigned>(params.num_tiles),
                       .num_blocks_y = static_cast<unsigned>(params.layer.num_kv_heads),
                       .num_blocks_z = 2,
                       .num_threads = 256,
                       .stream = stream},
                      params);
}

}  // namespace

Status PlaceKvCuda(const PlaceKvParams& params, Stream stream) {
  INTARSIA_RETURN_IF_ERROR(CheckPlaceKv(params));
  if (params.num_tiles == 0) return Status::Ok();
  switch (params.type) {
    case KvPayloadType::kBf16:
      return LaunchType<KvPayloadType::kBf16>(params, stream);
    case KvPayloadType::kF32:
      return LaunchType<KvPayloadType::kF32>(params, stream);
    case KvPayloadType::kInt8:
      return LaunchType<KvPayloadType::kInt8>(params, stream);
    case KvPayloadType::kInt4:
      return LaunchType<KvPayloadType::kInt4>(params, stream);
    case KvPayloadType::kRot4:
      break;  // CheckPlaceKv has refused it
  }
  return {StatusCode::kUnsupported, "place_kv: unknown payload type"};
}

}  // namespace intarsia::kernels
