// Bound: compute, 2 * head_dim flops for each visible key of each query.
// Design: with the log-sum-exp of every query known, a block for each tile of keys and kv head goes
// over all queries, 16 a warp: scores by mma.sync, and probabilities summed up per key in
// registers, then over lanes and warps in a fixed order. A second kernel adds the kv heads up.
#include <cmath>
#include <cstdint>
#include <string>

#include <cuda_runtime.h>

#include "base/result.h"
#include "base/status.h"
#include "kernels/attention_cuda_plan.h"
#include "kernels/attention_fragments.cuh"
#include "kernels/attention_mass_launch.h"
#include "kernels/attention_rows_cuda.h"
#include "kernels/attention_scores.cuh"
#include "kernels/attention_work.h"
#include "kernels/device_shape.h"
#include "kernels/grid_dependency.cuh"
#include "kernels/kernel_launch.cuh"
#include "kernels/tensor_core.cuh"

namespace intarsia::kernels {
namespace {

template <int kHeadDim_, bool kHasSoftcap_>
struct MassTraits {
  static constexpr int kHeadDim = kHeadDim_;
  static constexpr bool kHasSoftcap = kHasSoftcap_;
  static constexpr bool kQueriesInRegisters = true;
  static constexpr int kRowBytes = kHeadDim * 2;
  static constexpr int kTileKeys = 64;
  static constexpr int kWarpKeys = kTileKeys;  // every warp works on all of them
  static constexpr int kWarps = 4;
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kTileBytes = kTileKeys * kRowBytes;
  static constexpr int kSharedBytes = kTileBytes + kWarps * kTileKeys * 4;
};

// What a lane needs of one of its two rows.
struct MassRow {
  int position;
  float weight;
  float lse;  // base 2
};

__device__ __forceinline__ MassRow LoadRow(const MassArguments& args, const AttentionWork& work,
                                           int query) {
  constexpr float kLog2E = 1.0f / kLn2;
  const int row = RowOfQuery(args.rows, work, query);
  const int64_t index = OffsetOfQuery(args.rows, work, query) / args.rows.layer.head_dim;
  const float weight = query < args.rows.queries_per_sequence ? args.weights[row] : 0.0f;
  return {args.rows.positions[row], weight / static_cast<float>(args.rows.num_heads),
          args.lse[index] * kLog2E};
}

// Adds what the 16 queries from `first_query` on give to each key: sums[i][j] to key
// 8 i + 2 (lane % 4) + j of the tile.
template <typename Traits>
__device__ __forceinline__ void AddQueries(const MassArguments& args, const AttentionWork& work,
                                           int first_query, int key, uint32_t k_shared,
                                           float (&sums)[Traits::kTileKeys / 8][2]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const MassRow rows[2] = {LoadRow(args, work, first_query + lane / 4),
                           LoadRow(args, work, first_query + lane / 4 + 8)};
  Queries<Traits> queries;
  queries.Load(args.rows, work, first_query, nullptr);
  float scores[Traits::kTileKeys / 8][4];
  MultiplyKeys<Traits>(queries, k_shared, scores);
  const int position[2] = {rows[0].position, rows[1].position};
  LimitScores<Traits>(args.rows, position, key, /*is_masked=*/true, scores);
  const float factor = Traits::kHasSoftcap ? 1.0f : args.rows.score_factor;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    if (rows[half].weight == 0.0f) continue;  // Its probabilities may be NaN.
#pragma unroll
    for (int i = 0; i < Traits::kTileKeys / 8; ++i) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const float probability = Exp2Fast(fmaf(scores[i][2 * half + j], factor, -rows[half].lse));
        sums[i][j] = fmaf(rows[half].weight, probability, sums[i][j]);
      }
    }
  }
}

// Grid: tiles of keys x kv heads, the kv heads of a tile following each other. Block: kThreads.
template <typename Traits>
__global__ void __launch_bounds__(Traits::kThreads)
    AttentionMassKernel(const __grid_constant__ MassArguments args) {
  LetLaterKernelsStart();
  WaitForEarlierKernels();
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int num_kv_heads = args.rows.layer.num_kv_heads;
  AttentionWork work = {};
  work.kv_head = static_cast<int>(blockIdx.x) % num_kv_heads;
  work.page_table = args.rows.layer.page_table;
  const int key_tile = static_cast<int>(blockIdx.x) / num_kv_heads;
  const int key = key_tile * Traits::kTileKeys;
  unsigned char* const shared = DynamicShared();
  const uint32_t k_shared = SharedAddress(shared);
  StartCopy<Traits>(
      args.rows.layer.k_pages + OffsetOfKeyTile<Traits::kTileKeys>(args.rows, work, key_tile),
      args.num_keys - key, k_shared);
  CommitCopies();
  WaitForCopies<0>();
  __syncthreads();

  float sums[Traits::kTileKeys / 8][2] = {};
  for (int query = warp * 16; query < args.rows.queries_per_sequence;
       query += Traits::kWarps * 16) {
    // Rows are sorted: the last of them sees the tile first.
    if (args.rows.positions[RowOfQuery(args.rows, work, query + 15)] < key) continue;
    AddQueries<Traits>(args, work, query, key, k_shared, sums);
  }
  auto* const warp_sums = reinterpret_cast<float*>(shared + Traits::kTileBytes);
#pragma unroll
  for (int i = 0; i < Traits::kTileKeys / 8; ++i) {
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      float sum = sums[i][j];
      sum += __shfl_xor_sync(0xffffffffu, sum, 4);
      sum += __shfl_xor_sync(0xffffffffu, sum, 8);
      sum += __shfl_xor_sync(0xffffffffu, sum, 16);
      if (lane < 4) warp_sums[warp * Traits::kTileKeys + i * 8 + lane * 2 + j] = sum;
    }
  }
  __syncthreads();
  const int local = static_cast<int>(threadIdx.x);
  if (local >= Traits::kTileKeys || key + local >= args.num_keys) return;
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < Traits::kWarps; ++i) sum += warp_sums[i * Traits::kTileKeys + local];
  args.partial[int64_t{work.kv_head} * args.num_keys + key + local] = sum;
}

constexpr int kAddThreads = 256;

// Adds the kv heads up. Grid: ceil(num_keys / kAddThreads).
__global__ void __launch_bounds__(kAddThreads)
    AttentionMassAddKernel(const __grid_constant__ MassArguments args) {
  LetLaterKernelsStart();
  WaitForEarlierKernels();
  const int64_t key = int64_t{blockIdx.x} * kAddThreads + threadIdx.x;
  if (key >= args.num_keys) return;
  float sum = 0.0f;
  for (int head = 0; head < args.rows.layer.num_kv_heads; ++head) {
    sum += args.partial[int64_t{head} * args.num_keys + key];
  }
  args.mass[key] += sum;
}

template <int kHeadDim, bool kHasSoftcap>
Status LaunchMass(const MassArguments& args, Stream stream) {
  using Traits = MassTraits<kHeadDim, kHasSoftcap>;
  INTARSIA_ASSIGN_OR_RETURN(const unsigned num_blocks, NumMassBlocks(args, Traits::kTileKeys));
  return LaunchBehind("attention_mass", AttentionMassKernel<Traits>,
                      {.num_blocks = num_blocks,
                       .num_threads = Traits::kThreads,
                       .shared_bytes = Traits::kSharedBytes,
                       .stream = stream},
                      args);
}

Status LaunchMassOfHead(const MassArguments& args, Stream stream) {
  const bool has_softcap = args.rows.cap_log2 > 0.0f;
  switch (args.rows.layer.head_dim) {
    case 64:
      return has_softcap ? LaunchMass<64, true>(args, stream) : LaunchMass<64, false>(args, stream);
    case 128:
      return has_softcap ? LaunchMass<128, true>(args, stream)
                         : LaunchMass<128, false>(args, stream);
    case 256:
      return has_softcap ? LaunchMass<256, true>(args, stream)
                         : LaunchMass<256, false>(args, stream);
    default:
      return Status(StatusCode::kUnsupported, "attention_mass: head_dim not compiled in");
  }
}

Status LaunchAdd(const MassArguments& args, Stream stream) {
  const int64_t num_blocks = (int64_t{args.num_keys} + kAddThreads - 1) / kAddThreads;
  return LaunchBehind("attention_mass add", AttentionMassAddKernel,
                      {.num_blocks = static_cast<unsigned>(num_blocks),
                       .num_threads = kAddThreads,
                       .stream = stream},
                      args);
}

// The parts of the workspace, in bytes, each 256-byte aligned.
struct MassWorkspace {
  int64_t partial = 0;
  int64_t lse = 0;  // these three only if lse is to be computed
  int64_t output = 0;
  int64_t attention = 0;  // AttentionRowsCuda's own
  int64_t Total() const { return partial + lse + output + attention; }
};

int64_t AlignUp(int64_t num_bytes) { return (num_bytes + 255) / 256 * 256; }

Result<MassWorkspace> PlanWorkspace(const AttentionMassCudaParams& params) {
  const AttentionRowsCudaParams& rows = params.rows;
  MassWorkspace workspace;
  workspace.partial =
      AlignUp((rows.max_position + 1) * rows.layer.num_kv_heads * int64_t{sizeof(float)});
  if (params.lse != nullptr) return workspace;
  const int64_t num_queries = rows.num_rows * rows.num_heads;
  workspace.lse = AlignUp(num_queries * int64_t{sizeof(float)});
  workspace.output = AlignUp(num_queries * rows.layer.head_dim * int64_t{sizeof(uint16_t)});
  INTARSIA_ASSIGN_OR_RETURN(workspace.attention, AttentionRowsWorkspaceBytes(rows));
  return workspace;
}

}  // namespace

Result<unsigned> NumMassBlocks(const MassArguments& args, int64_t tile_keys) {
  const int64_t num_tiles = (int64_t{args.num_keys} + tile_keys - 1) / tile_keys;
  const int64_t num_blocks = num_tiles * args.rows.layer.num_kv_heads;
  if (num_blocks >= int64_t{1} << 31) {
    return Status(
        StatusCode::kUnsupported,
        "attention_mass: too many keys for one grid: num_keys=" + std::to_string(args.num_keys));
  }
  return static_cast<unsigned>(num_blocks);
}

Result<int64_t> AttentionMassWorkspaceBytes(const AttentionMassCudaParams& params) {
  INTARSIA_RETURN_IF_ERROR(CheckAttentionMassCuda(params));
  if (params.rows.num_rows == 0) return int64_t{0};
  INTARSIA_ASSIGN_OR_RETURN(const MassWorkspace workspace, PlanWorkspace(params));
  return workspace.Total();
}

Status AttentionMassCuda(const AttentionMassCudaParams& params, Stream stream) {
  INTARSIA_RETURN_IF_ERROR(CheckAttentionMassCuda(params));
  if (params.rows.num_rows == 0) return Status::Ok();
  INTARSIA_ASSIGN_OR_RETURN(const MassWorkspace workspace, PlanWorkspace(params));
  INTARSIA_RETURN_IF_ERROR(CheckAttentionWorkspace(params.rows, workspace.Total()));
  auto* memory = static_cast<unsigned char*>(params.rows.workspace);
  MassArguments args{.rows = {},
                     .weights = params.weights,
                     .lse = params.lse,
                     .partial = reinterpret_cast<float*>(memory),
                     .mass = params.mass,
                     .num_keys = static_cast<int32_t>(params.rows.max_position + 1)};
  if (params.lse == nullptr) {
    AttentionRowsCudaParams attention = params.rows;
    attention.lse = reinterpret_cast<float*>(memory + workspace.partial);
    attention.output = reinterpret_cast<uint16_t*>(memory + workspace.partial + workspace.lse);
    attention.workspace = memory + workspace.partial + workspace.lse + workspace.output;
    attention.workspace_bytes = workspace.attention;
    INTARSIA_RETURN_IF_ERROR(AttentionRowsCuda(attention, stream));
    args.lse = attention.lse;
  }
  INTARSIA_ASSIGN_OR_RETURN(const DeviceShape device, CurrentDeviceShape("attention_mass device"));
  const AttentionProblem problem =
      DescribeAttention(params.rows, device.capability, device.num_multiprocessors);
  args.rows =
      MakeAttentionArguments(params.rows, problem, {.tiles_per_sequence = 1, .num_splits = 1});
  const bool is_hopper = ChooseAttentionConfig(problem).kernel == AttentionKernel::kHopper;
  INTARSIA_RETURN_IF_ERROR(is_hopper ? LaunchAttentionMassSm90(args, stream)
                                     : LaunchMassOfHead(args, stream));
  return LaunchAdd(args, stream);
}

}  // namespace intarsia::kernels
