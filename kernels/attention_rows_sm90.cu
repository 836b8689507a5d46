// Bound: compute, 4 * head_dim flops for each visible key of each query.
// Design: a block for each multiprocessor stays and works off items, the longest first. One thread
// copies tiles of keys and values by pages into a ring of stages; two warpgroups have 64 queries
// each and multiply by wgmma, P from registers. While one of them multiplies, the other computes
// its softmax; and within a warpgroup Q K^T of the next tile runs ahead of P V of this one. Tiles
// of keys go from the last to the first, so that those cut by the mask come first. The queries of
// the next item are fetched during this one. Where tiles are few, each block works out how their
// keys are cut before it starts (kernels/attention_shares.h).
#include <algorithm>
#include <cmath>
#include <cstdint>

#include <cuda.h>
#include <cuda_runtime.h>

#include "base/result.h"
#include "base/status.h"
#include "kernels/attention_consumer_sm90.cuh"
#include "kernels/attention_cuda_plan.h"
#include "kernels/attention_pipeline_sm90.cuh"
#include "kernels/attention_rows_launch.h"
#include "kernels/attention_work.h"
#include "kernels/grid_dependency.cuh"
#include "kernels/tensor_core.cuh"
#include "kernels/tensor_map.h"
#include "kernels/warpgroup.cuh"

namespace intarsia::kernels {
namespace {

// The copying thread: for each tile of keys of each item, K and V by slabs.
template <typename Traits>
__device__ __forceinline__ void CopyTiles(const HopperArguments& hopper, unsigned char* shared) {
  const AttentionArguments& args = hopper.rows;
  Ring<Traits> k(shared, 0);
  Ring<Traits> v(shared, 1);
  constexpr uint32_t kSlabBytes = Traits::kTileKeys * 128;
  const HopperItems<Traits> items(args, shared);
  for (int32_t turn = 0; items.Has(turn); ++turn) {
    const AttentionWork work = items.At(turn);
    for (int tile = work.key_tile_end - 1; tile >= work.key_tile_begin; --tile) {
      const auto row = static_cast<int32_t>(OffsetOfKeyTile<Traits::kTileKeys>(args, work, tile) /
                                            Traits::kHeadDim);
      k.WaitUntilEmpty();
      ArriveAndExpectBytes(k.Full(), Traits::kTileBytes);
#pragma unroll
      for (int i = 0; i < Traits::kSlabs; ++i) {
        CopyBox(k.Stage() + i * kSlabBytes, &hopper.k, k.Full(), i * 64, row);
      }
      k.Advance();
      v.WaitUntilEmpty();
      ArriveAndExpectBytes(v.Full(), Traits::kTileBytes);
#pragma unroll
      for (int i = 0; i < Traits::kSlabs; ++i) {
        CopyBox(v.Stage() + i * kSlabBytes, &hopper.v, v.Full(), i * 64, row);
      }
      v.Advance();
    }
  }
}

// Grid: at most one block for each multiprocessor. Block: a warpgroup of which one thread copies,
// then kConsumers warpgroups of 64 queries each.
template <typename Traits>
__global__ void __launch_bounds__(Traits::kThreads, 1)
    AttentionRowsSm90Kernel(const __grid_constant__ HopperArguments hopper) {
  WaitForEarlierKernels();
  unsigned char* const shared = DynamicShared();
  if (threadIdx.x == 0) {
    const uint32_t barriers = SharedAddress(shared) + Traits::kBarrierOffset;
    for (int ring = 0; ring < 2; ++ring) {
      for (int i = 0; i < Traits::kStages; ++i) {
        const uint32_t full = barriers + (ring * 2 * Traits::kStages + i) * 8;
        InitBarrier(full, 1);
        InitBarrier(full + Traits::kStages * 8, 4 * Traits::kConsumers);
      }
    }
    FenceBarrierInit();
  }
  if (hopper.rows.tile_parts != nullptr) PrepareShares<Traits>(hopper.rows, shared);
  __syncthreads();
  LetLaterKernelsStart();
  if (threadIdx.x < 128) {
    ReleaseRegisters<Traits::kProducerRegisters>();
    if (threadIdx.x == 0) CopyTiles<Traits>(hopper, shared);
  } else {
    ClaimRegisters<Traits::kConsumerRegisters>();
    ConsumeItems<Traits>(hopper.rows, shared);
  }
}

template <int kHeadDim, bool kHasSoftcap>
Status LaunchHopper(const AttentionArguments& args, int32_t num_multiprocessors, Stream stream) {
  using Traits = HopperTraits<kHeadDim, kHasSoftcap>;
  TensorMapShape shape{.data = args.layer.k_pages,
                       .num_rows = args.layer.num_pages * args.layer.num_kv_heads * kPageTokens,
                       .num_columns = kHeadDim,
                       .box_rows = Traits::kTileKeys};
  HopperArguments hopper;
  hopper.rows = args;
  INTARSIA_ASSIGN_OR_RETURN(hopper.k, MakeTensorMap(shape));
  shape.data = args.layer.v_pages;
  INTARSIA_ASSIGN_OR_RETURN(hopper.v, MakeTensorMap(shape));
  const auto num_blocks = static_cast<unsigned>(std::min(args.num_items, num_multiprocessors));
  return LaunchBehind("attention_rows_sm90", AttentionRowsSm90Kernel<Traits>,
                      {.num_blocks = num_blocks,
                       .num_threads = Traits::kThreads,
                       .shared_bytes = Traits::kSharedBytes,
                       .stream = stream},
                      hopper);
}

}  // namespace

Status LaunchAttentionRowsSm90(const AttentionArguments& args, int32_t num_multiprocessors,
                               Stream stream) {
  const bool has_softcap = args.cap_log2 > 0.0f;
  switch (args.layer.head_dim) {
    case 64:
      return has_softcap ? LaunchHopper<64, true>(args, num_multiprocessors, stream)
                         : LaunchHopper<64, false>(args, num_multiprocessors, stream);
    case 128:
      return has_softcap ? LaunchHopper<128, true>(args, num_multiprocessors, stream)
                         : LaunchHopper<128, false>(args, num_multiprocessors, stream);
    case 256:
      return has_softcap ? LaunchHopper<256, true>(args, num_multiprocessors, stream)
                         : LaunchHopper<256, false>(args, num_multiprocessors, stream);
    default:
      return Status(StatusCode::kUnsupported, "attention_rows: head_dim not compiled in");
  }
}

}  // namespace intarsia::kernels
