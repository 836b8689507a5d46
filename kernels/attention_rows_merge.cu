// Bound: memory. Reads the parts of every query once: 4 * head_dim + 4 bytes for each.
// Design: where few queries have many parts, a block for each query; groups of threads take every
// so many parts, 16 bytes of a row a thread, and are summed up in shared memory. Where many queries
// have few parts, a thread for each 16 bytes of a query.
#include <cmath>
#include <cstdint>

#include <cuda_runtime.h>

#include "kernels/attention_rows_launch.h"
#include "kernels/attention_scores.cuh"
#include "kernels/grid_dependency.cuh"
#include "kernels/tensor_core.cuh"

namespace intarsia::kernels {
namespace {

template <int kHeadDim_>
struct MergeTraits {
  static constexpr int kHeadDim = kHeadDim_;
  static constexpr int kThreads = 128;
  static constexpr int kVectors = kHeadDim / 4;  // float4
  static constexpr int kGroups = kThreads / kVectors;
  static_assert(kThreads % kVectors == 0, "a thread keeps its columns");
};

// Joins the parts of one query of one head. Grid: num_rows * num_heads. Block: kGroups groups of
// kVectors threads, each over every kGroups-th part.
template <typename Traits>
__global__ void __launch_bounds__(Traits::kThreads)
    AttentionRowsMergeKernel(const __grid_constant__ AttentionArguments args) {
  LetLaterKernelsStart();  // They may fetch the weights of the product that follows.
  WaitForEarlierKernels();
  const int64_t num_queries = int64_t{args.num_rows} * args.num_heads;
  const int64_t query = blockIdx.x;
  const int thread = static_cast<int>(threadIdx.x);
  auto* const weights = reinterpret_cast<float*>(DynamicShared());  // [num_splits]
  auto* const sums = reinterpret_cast<float4*>(weights + (args.num_splits + 3) / 4 * 4);
  for (int split = thread; split < args.num_splits; split += Traits::kThreads) {
    weights[split] = args.partial_lse[split * num_queries + query];
  }
  __syncthreads();
  float max = -INFINITY;
  for (int split = 0; split < args.num_splits; ++split) max = fmaxf(max, weights[split]);
  const float stabiliser = StabiliserOf(max);

  const int vector = thread % Traits::kVectors;
  const auto* const partial =
      reinterpret_cast<const float4*>(args.partial_output) + query * Traits::kVectors + vector;
  float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  float weight_sum = 0.0f;
#pragma unroll 4
  for (int split = thread / Traits::kVectors; split < args.num_splits; split += Traits::kGroups) {
    const float weight = Exp2Fast(weights[split] - stabiliser);
    const float4 part = partial[split * num_queries * Traits::kVectors];
    sum.x += weight * part.x;
    sum.y += weight * part.y;
    sum.z += weight * part.z;
    sum.w += weight * part.w;
    weight_sum += weight;
  }
  auto* const weight_sums = reinterpret_cast<float*>(sums + Traits::kThreads);
  sums[thread] = sum;
  weight_sums[thread] = weight_sum;
  __syncthreads();
  if (thread >= Traits::kVectors) return;
  for (int group = 1; group < Traits::kGroups; ++group) {
    const float4 other = sums[group * Traits::kVectors + thread];
    sum.x += other.x;
    sum.y += other.y;
    sum.z += other.z;
    sum.w += other.w;
    weight_sum += weight_sums[group * Traits::kVectors + thread];
  }
  const float inverse = 1.0f / weight_sum;
  reinterpret_cast<uint2*>(args.output)[query * Traits::kVectors + vector] = make_uint2(
      PackBf16(sum.x * inverse, sum.y * inverse), PackBf16(sum.z * inverse, sum.w * inverse));
  if (thread == 0 && args.lse != nullptr) args.lse[query] = (stabiliser + log2f(weight_sum)) * kLn2;
}

template <int kHeadDim_>
struct MergeSharesTraits {
  static constexpr int kThreads = 256;
  static constexpr int kVectors = kHeadDim_ / 4;  // float4
};

// The same for tiles that the device has cut. Grid: num_rows * num_heads * kVectors / kThreads,
// rounded up.
template <typename Traits>
__global__ void __launch_bounds__(Traits::kThreads)
    AttentionSharesMergeKernel(const __grid_constant__ AttentionArguments args) {
  LetLaterKernelsStart();
  WaitForEarlierKernels();
  const int64_t index = int64_t{blockIdx.x} * Traits::kThreads + threadIdx.x;
  const int64_t query = index / Traits::kVectors;
  const auto vector = static_cast<int>(index % Traits::kVectors);
  if (query >= int64_t{args.num_rows} * args.num_heads) return;
  const auto row = static_cast<int32_t>(query / args.num_heads);
  const auto head = static_cast<int32_t>(query % args.num_heads);
  const int32_t packed = row * args.group_size + head % args.group_size;
  const AttentionTileParts parts = args.tile_parts[packed / kHopperTileQueries];
  if (parts.num_parts == 1) return;  // It is at its place.
  const int64_t first = int64_t{parts.first_item + head / args.group_size} * kHopperTileQueries +
                        packed % kHopperTileQueries;
  const int64_t step = int64_t{args.layer.num_kv_heads} * kHopperTileQueries;
  float max = -INFINITY;
  for (int part = 0; part < parts.num_parts; ++part) {
    max = fmaxf(max, args.partial_lse[first + part * step]);
  }
  const float stabiliser = StabiliserOf(max);
  const auto* const partial =
      reinterpret_cast<const float4*>(args.partial_output) + first * Traits::kVectors + vector;
  float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  float weight_sum = 0.0f;
#pragma unroll 4
  for (int part = 0; part < parts.num_parts; ++part) {
    const float weight = Exp2Fast(args.partial_lse[first + part * step] - stabiliser);
    const float4 values = partial[part * step * Traits::kVectors];
    sum.x += weight * values.x;
    sum.y += weight * values.y;
    sum.z += weight * values.z;
    sum.w += weight * values.w;
    weight_sum += weight;
  }
  const float inverse = 1.0f / weight_sum;
  reinterpret_cast<uint2*>(args.output)[index] = make_uint2(
      PackBf16(sum.x * inverse, sum.y * inverse), PackBf16(sum.z * inverse, sum.w * inverse));
  if (vector == 0 && args.lse != nullptr) args.lse[query] = (stabiliser + log2f(weight_sum)) * kLn2;
}

template <int kHeadDim>
Status LaunchSharesMerge(const AttentionArguments& args, Stream stream) {
  using Traits = MergeSharesTraits<kHeadDim>;
  const int64_t num_threads = int64_t{args.num_rows} * args.num_heads * Traits::kVectors;
  return LaunchBehind(
      "attention_rows merge", AttentionSharesMergeKernel<Traits>,
      {.num_blocks = static_cast<unsigned>((num_threads + Traits::kThreads - 1) / Traits::kThreads),
       .num_threads = Traits::kThreads,
       .stream = stream},
      args);
}

template <int kHeadDim>
Status LaunchMerge(const AttentionArguments& args, Stream stream) {
  if (args.tile_parts != nullptr) return LaunchSharesMerge<kHeadDim>(args, stream);
  using Traits = MergeTraits<kHeadDim>;
  const auto num_blocks =
      static_cast<unsigned>(args.num_rows) * static_cast<unsigned>(args.num_heads);
  const int num_bytes = (args.num_splits + 3) / 4 * 16 + Traits::kThreads * 20;
  return LaunchBehind("attention_rows merge", AttentionRowsMergeKernel<Traits>,
                      {.num_blocks = num_blocks,
                       .num_threads = Traits::kThreads,
                       .shared_bytes = num_bytes,
                       .stream = stream},
                      args);
}

}  // namespace

Status LaunchAttentionRowsMerge(const AttentionArguments& args, Stream stream) {
  switch (args.layer.head_dim) {
    case 64:
      return LaunchMerge<64>(args, stream);
    case 128:
      return LaunchMerge<128>(args, stream);
    case 256:
      return LaunchMerge<256>(args, stream);
    default:
      return Status(StatusCode::kUnsupported, "attention_rows: head_dim not compiled in");
  }
}

}  // namespace intarsia::kernels
