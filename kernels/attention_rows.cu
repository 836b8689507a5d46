// Bound: compute, 4 * head_dim flops for each visible key of each query; for few queries memory,
// 4 * head_dim bytes for each key and kv head.
// Design: flash attention with mma.sync. Keys and values come through a ring of shared-memory
// stages, filled asynchronously; scores, probabilities and sums stay in registers. For prefill the
// warps of a block share the keys and have 16 queries each; for decode they share 16 queries and
// cut each tile of keys among them. Keys that nobody sees are not read, and only tiles that cross a
// limit are masked. With few tiles the keys are cut into parts (attention_rows_merge.cu).
#include <cmath>
#include <cstdint>
#include <string>

#include <cuda_runtime.h>

#include "base/result.h"
#include "base/status.h"
#include "kernels/attention_cuda_plan.h"
#include "kernels/attention_fragments.cuh"
#include "kernels/attention_rows_cuda.h"
#include "kernels/attention_rows_launch.h"
#include "kernels/attention_scores.cuh"
#include "kernels/attention_work.h"
#include "kernels/device_shape.h"
#include "kernels/kernel_launch.cuh"
#include "kernels/tensor_core.cuh"

namespace intarsia::kernels {
namespace {

template <int kHeadDim_, AttentionKernel kKernel, bool kHasSoftcap_>
struct RowsTraits {
  static constexpr int kHeadDim = kHeadDim_;
  static constexpr bool kHasSoftcap = kHasSoftcap_;
  static constexpr bool kIsDecode = kKernel == AttentionKernel::kDecode;
  static constexpr int kTileKeys = kIsDecode ? 8192 / kHeadDim : (kHeadDim > 128 ? 32 : 64);
  static constexpr int kWarpsOverQueries = kIsDecode ? 1 : 4;
  static constexpr int kWarpsOverKeys = kIsDecode ? (kHeadDim > 128 ? 2 : 4) : 1;
  static constexpr int kThreads = 32 * kWarpsOverQueries * kWarpsOverKeys;
  static constexpr int kTileQueries = 16 * kWarpsOverQueries;
  static constexpr int kWarpKeys = kTileKeys / kWarpsOverKeys;
  // Two stages already fill the 99 KiB of sm_86 and sm_89 where a stage is large.
  static constexpr int kStages = kHeadDim > 128 || (kHeadDim == 128 && !kIsDecode) ? 2 : 3;
  static constexpr int kRowBytes = kHeadDim * 2;
  static constexpr int kTileBytes = kTileKeys * kRowBytes;  // of one of K and V
  static constexpr int kStageBytes = 2 * kTileBytes;
  // Fragments of Q stay in registers while these suffice.
  static constexpr bool kQueriesInRegisters = kHeadDim <= 128;
  static constexpr int kQueryBytes = kQueriesInRegisters ? 0 : kTileQueries * kRowBytes;
  static constexpr int kSharedBytes = kStages * kStageBytes + kQueryBytes;
  static constexpr int kMergeBytes = kWarpsOverKeys * 16 * (kHeadDim + 2) * 4;

  static_assert(kWarpKeys % 16 == 0, "P V takes 16 keys at a time");
  static_assert(kSharedBytes <= 99 * 1024, "what a block of sm_86 and sm_89 may have");
  static_assert(kMergeBytes <= kStages * kStageBytes, "warps merge in the memory of the stages");
};

// One warp's 16 queries: lane g * 4 + t holds rows g and g + 8 of every fragment.
template <typename Traits>
struct WarpState {
  float output[Traits::kHeadDim / 8][4];
  float max[2];  // of what q . k gives, or of the capped scores
  float sum[2];  // this lane's part until Finish
};

template <typename Traits>
__device__ __forceinline__ void LoadKeyTile(const AttentionArguments& args,
                                            const AttentionWork& work, int key_tile,
                                            unsigned char* stage) {
  const int64_t offset = OffsetOfKeyTile<Traits::kTileKeys>(args, work, key_tile);
  const int num_keys = work.key_end - key_tile * Traits::kTileKeys;
  const uint32_t shared = SharedAddress(stage);
  StartCopy<Traits>(args.layer.k_pages + offset, num_keys, shared);
  StartCopy<Traits>(args.layer.v_pages + offset, num_keys, shared + Traits::kTileBytes);
}

// output [16 queries, kHeadDim] += P V, P being the scores by now.
template <typename Traits>
__device__ __forceinline__ void MultiplyValues(const float (&scores)[Traits::kWarpKeys / 8][4],
                                               uint32_t v_shared, WarpState<Traits>& state) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int i = 0; i < Traits::kWarpKeys / 16; ++i) {
    const uint32_t probabilities[4] = {PackBf16(scores[2 * i][0], scores[2 * i][1]),
                                       PackBf16(scores[2 * i][2], scores[2 * i][3]),
                                       PackBf16(scores[2 * i + 1][0], scores[2 * i + 1][1]),
                                       PackBf16(scores[2 * i + 1][2], scores[2 * i + 1][3])};
#pragma unroll
    for (int j = 0; j < Traits::kHeadDim / 16; ++j) {
      uint32_t values[4];
      LoadMatricesTransposed(values,
                             v_shared + PieceOffset<Traits>(i * 16 + lane % 16, j * 2 + lane / 16));
      MultiplyAdd(state.output[2 * j], probabilities, values[0], values[1]);
      MultiplyAdd(state.output[2 * j + 1], probabilities, values[2], values[3]);
    }
  }
}

// Scores become probabilities, relative to a maximum that may rise; what was summed up follows it.
template <typename Traits>
__device__ __forceinline__ void UpdateSoftmax(float factor,
                                              float (&scores)[Traits::kWarpKeys / 8][4],
                                              WarpState<Traits>& state) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float max = state.max[half];
#pragma unroll
    for (int i = 0; i < Traits::kWarpKeys / 8; ++i) {
      max = fmaxf(max, fmaxf(scores[i][2 * half], scores[i][2 * half + 1]));
    }
    max = MaxOfRow(max);
    const float stabiliser = ScaledMax(StabiliserOf(max), factor);
    const float rescale = Exp2Fast(ScaledMax(state.max[half], factor) - stabiliser);
    state.max[half] = max;
    float sum = state.sum[half] * rescale;
#pragma unroll
    for (int i = 0; i < Traits::kWarpKeys / 8; ++i) {
#pragma unroll
      for (int j = 2 * half; j < 2 * half + 2; ++j) {
        scores[i][j] = Exp2Fast(fmaf(scores[i][j], factor, -stabiliser));
        sum += scores[i][j];
      }
    }
    state.sum[half] = sum;
#pragma unroll
    for (int i = 0; i < Traits::kHeadDim / 8; ++i) {
      state.output[i][2 * half] *= rescale;
      state.output[i][2 * half + 1] *= rescale;
    }
  }
}

// Joins the warps that share the queries. Leaves the result in `state` of every warp, of which each
// then writes its part of the elements.
template <typename Traits>
__device__ __forceinline__ void MergeWarps(float factor, unsigned char* memory,
                                           WarpState<Traits>& state) {
  constexpr int kStride = Traits::kHeadDim + 2;  // then come the maximum and the sum
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  auto* const rows = reinterpret_cast<float*>(memory);
  __syncthreads();  // The stages are not read any more.
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float* const row = rows + (warp * 16 + lane / 4 + half * 8) * kStride;
#pragma unroll
    for (int i = 0; i < Traits::kHeadDim / 8; ++i) {
      *reinterpret_cast<float2*>(row + i * 8 + lane % 4 * 2) =
          make_float2(state.output[i][2 * half], state.output[i][2 * half + 1]);
    }
    if (lane % 4 == 0) {
      row[Traits::kHeadDim] = state.max[half];
      row[Traits::kHeadDim + 1] = state.sum[half];
    }
  }
  __syncthreads();
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float* const row = rows + (lane / 4 + half * 8) * kStride;
    constexpr int kWarpStride = 16 * kStride;
    float max = -INFINITY;
#pragma unroll
    for (int w = 0; w < Traits::kWarpsOverKeys; ++w) {
      max = fmaxf(max, row[w * kWarpStride + Traits::kHeadDim]);
    }
    float weights[Traits::kWarpsOverKeys];
    float sum = 0.0f;
#pragma unroll
    for (int w = 0; w < Traits::kWarpsOverKeys; ++w) {
      weights[w] = Exp2Fast(ScaledMax(row[w * kWarpStride + Traits::kHeadDim], factor) -
                            ScaledMax(StabiliserOf(max), factor));
      sum += weights[w] * row[w * kWarpStride + Traits::kHeadDim + 1];
    }
    state.max[half] = max;
    state.sum[half] = sum;
#pragma unroll
    for (int i = 0; i < Traits::kHeadDim / 8; ++i) {
      if (i % Traits::kWarpsOverKeys != warp) continue;
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        float element = 0.0f;
#pragma unroll
        for (int w = 0; w < Traits::kWarpsOverKeys; ++w) {
          element += weights[w] * row[w * kWarpStride + i * 8 + lane % 4 * 2 + j];
        }
        state.output[i][2 * half + j] = element;
      }
    }
  }
}

// Writes the rows of a warp: the output, or this split's part of it.
template <typename Traits>
__device__ __forceinline__ void WriteRows(const AttentionArguments& args, const AttentionWork& work,
                                          int first_query, float factor,
                                          const WarpState<Traits>& state) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int part = Traits::kIsDecode ? static_cast<int>(threadIdx.x) / 32 : 0;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int query = first_query + lane / 4 + half * 8;
    if (query >= args.queries_per_sequence) continue;
    const int64_t offset = OffsetOfQuery(args, work, query);
    const int64_t index = offset / Traits::kHeadDim;
    const float sum = state.sum[half];
    const float inverse = sum == 0.0f ? 0.0f : 1.0f / sum;
    const bool is_split = args.num_splits > 1;
    const int64_t num_queries = int64_t{args.num_rows} * args.num_heads;
    float* const partial = args.partial_output + work.split * num_queries * Traits::kHeadDim;
#pragma unroll
    for (int i = 0; i < Traits::kHeadDim / 8; ++i) {
      if (i % Traits::kWarpsOverKeys != part) continue;
      const int column = i * 8 + lane % 4 * 2;
      const float x = state.output[i][2 * half] * inverse;
      const float y = state.output[i][2 * half + 1] * inverse;
      if (is_split) {
        *reinterpret_cast<float2*>(partial + offset + column) = make_float2(x, y);
      } else {
        *reinterpret_cast<uint32_t*>(args.output + offset + column) = PackBf16(x, y);
      }
    }
    if (lane % 4 != 0 || part != 0) continue;
    const float lse = ScaledMax(state.max[half], factor) + log2f(sum);
    if (is_split) {
      args.partial_lse[work.split * num_queries + index] = lse;
    } else if (args.lse != nullptr) {
      args.lse[index] = lse * kLn2;
    }
  }
}

// Grid: num_items. Block: kThreads; each warp has 16 queries of the tile and kWarpKeys of each tile
// of keys.
template <typename Traits>
__global__ void __launch_bounds__(Traits::kThreads)
    AttentionRowsKernel(const __grid_constant__ AttentionArguments args) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int warp_over_keys = warp % Traits::kWarpsOverKeys;
  const auto work =
      WorkOfItem<Traits::kTileQueries, Traits::kTileKeys>(args, static_cast<int32_t>(blockIdx.x));
  const int first_query = work.first_query + warp / Traits::kWarpsOverKeys * 16;
  unsigned char* const stages = DynamicShared();

#pragma unroll
  for (int i = 0; i < Traits::kStages - 1; ++i) {
    const int key_tile = work.key_tile_begin + i;
    if (key_tile < work.key_tile_end) {
      LoadKeyTile<Traits>(args, work, key_tile, stages + i * Traits::kStageBytes);
    }
    CommitCopies();
  }
  Queries<Traits> queries;
  queries.Load(args, work, first_query, stages + Traits::kStages * Traits::kStageBytes);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int position[2] = {args.positions[RowOfQuery(args, work, first_query + lane / 4)],
                           args.positions[RowOfQuery(args, work, first_query + lane / 4 + 8)]};
  // A capped score is in base 2 already.
  const float factor = Traits::kHasSoftcap ? 1.0f : args.score_factor;
  WarpState<Traits> state = {};
  state.max[0] = state.max[1] = -INFINITY;

  int stage = 0;
  for (int key_tile = work.key_tile_begin; key_tile < work.key_tile_end; ++key_tile) {
    WaitForCopies<Traits::kStages - 2>();
    __syncthreads();  // The tile is here for all, and nobody reads the one before any more.
    const int next_tile = key_tile + Traits::kStages - 1;
    const int next_stage = (stage + Traits::kStages - 1) % Traits::kStages;
    if (next_tile < work.key_tile_end) {
      LoadKeyTile<Traits>(args, work, next_tile, stages + next_stage * Traits::kStageBytes);
    }
    CommitCopies();

    const uint32_t k_shared =
        SharedAddress(stages + stage * Traits::kStageBytes) +
        static_cast<uint32_t>(warp_over_keys * Traits::kWarpKeys * Traits::kRowBytes);
    const int key = key_tile * Traits::kTileKeys + warp_over_keys * Traits::kWarpKeys;
    float scores[Traits::kWarpKeys / 8][4];
    MultiplyKeys<Traits>(queries, k_shared, scores);
    LimitScores<Traits>(
        args, position, key,
        IsCutByMask(args, work.position_min, work.key_end - 1, key, Traits::kWarpKeys), scores);
    UpdateSoftmax<Traits>(factor, scores, state);
    MultiplyValues<Traits>(scores, k_shared + Traits::kTileBytes, state);
    stage = (stage + 1) % Traits::kStages;
  }
  WaitForCopies<0>();
  state.sum[0] = SumOfRow(state.sum[0]);
  state.sum[1] = SumOfRow(state.sum[1]);
  if constexpr (Traits::kWarpsOverKeys > 1) MergeWarps<Traits>(factor, stages, state);
  WriteRows<Traits>(args, work, first_query, factor, state);
}

template <int kHeadDim, AttentionKernel kKernel, bool kHasSoftcap>
Status LaunchRows(const AttentionArguments& args, Stream stream) {
  using Traits = RowsTraits<kHeadDim, kKernel, kHasSoftcap>;
  return LaunchKernel("attention_rows", AttentionRowsKernel<Traits>,
                      {.num_blocks = static_cast<unsigned>(args.num_items),
                       .num_threads = Traits::kThreads,
                       .shared_bytes = Traits::kSharedBytes,
                       .stream = stream},
                      args);
}

template <int kHeadDim>
Status LaunchHeadDim(const AttentionArguments& args, AttentionKernel kernel, Stream stream) {
  const bool has_softcap = args.cap_log2 > 0.0f;
  switch (kernel) {
    case AttentionKernel::kDecode:
      return has_softcap ? LaunchRows<kHeadDim, AttentionKernel::kDecode, true>(args, stream)
                         : LaunchRows<kHeadDim, AttentionKernel::kDecode, false>(args, stream);
    case AttentionKernel::kPrefill:
      return has_softcap ? LaunchRows<kHeadDim, AttentionKernel::kPrefill, true>(args, stream)
                         : LaunchRows<kHeadDim, AttentionKernel::kPrefill, false>(args, stream);
    case AttentionKernel::kHopper:
      break;  // attention_rows_sm90.cu
  }
  return Status(StatusCode::kInternal, "attention_rows: unknown kernel");
}

Status Launch(const AttentionArguments& args, AttentionKernel kernel, Stream stream) {
  switch (args.layer.head_dim) {
    case 64:
      return LaunchHeadDim<64>(args, kernel, stream);
    case 128:
      return LaunchHeadDim<128>(args, kernel, stream);
    case 256:
      return LaunchHeadDim<256>(args, kernel, stream);
    default:
      return Status(StatusCode::kUnsupported, "attention_rows: head_dim not compiled in");
  }
}

// The problem on the current device. Errors: kUnsupported below compute capability 8.0.
Result<AttentionProblem> DescribeOnDevice(const AttentionRowsCudaParams& params) {
  INTARSIA_ASSIGN_OR_RETURN(const DeviceShape device, CurrentDeviceShape("attention_rows device"));
  if (device.capability < 80) {
    return Status(StatusCode::kUnsupported,
                  "attention_rows needs compute capability 8.0: capability=" +
                      std::to_string(device.capability / 10) + "." +
                      std::to_string(device.capability % 10));
  }
  return DescribeAttention(params, device.capability, device.num_multiprocessors);
}

}  // namespace

Result<int64_t> AttentionRowsWorkspaceBytes(const AttentionRowsCudaParams& params) {
  INTARSIA_RETURN_IF_ERROR(CheckAttentionRowsCuda(params));
  if (params.num_rows == 0) return int64_t{0};
  INTARSIA_ASSIGN_OR_RETURN(const AttentionProblem problem, DescribeOnDevice(params));
  return PlanAttentionLaunch(problem, ChooseAttentionConfig(problem)).workspace_bytes;
}

Status AttentionRowsCuda(const AttentionRowsCudaParams& params, Stream stream) {
  INTARSIA_RETURN_IF_ERROR(CheckAttentionRowsCuda(params));
  if (params.num_rows == 0) return Status::Ok();
  INTARSIA_ASSIGN_OR_RETURN(const AttentionProblem problem, DescribeOnDevice(params));
  const AttentionConfig config = ChooseAttentionConfig(problem);
  const AttentionLaunch launch = PlanAttentionLaunch(problem, config);
  INTARSIA_RETURN_IF_ERROR(CheckAttentionOutput(params));
  INTARSIA_RETURN_IF_ERROR(CheckAttentionWorkspace(params, launch.workspace_bytes));
  const AttentionArguments args = MakeAttentionArguments(params, problem, launch);
  INTARSIA_RETURN_IF_ERROR(config.kernel == AttentionKernel::kHopper
                               ? LaunchAttentionRowsSm90(args, problem.num_multiprocessors, stream)
                               : Launch(args, config.kernel, stream));
  return launch.num_splits > 1 ? LaunchAttentionRowsMerge(args, stream) : Status::Ok();
}

}  // namespace intarsia::kernels
