// Bound: compute, num_bits products of bytes for each row and query on the tensor cores; the codes
// of 64 queries come from memory once, which takes a fraction of that.
// Design: a block keeps the queries of its launch in shared memory, in the order of the tensor
// cores' fragments; a warp multiplies a tile of rows by all of them, its bits made bytes in
// registers. A sum is compared with the least one that could matter by the tile's bounds, so scores
// are computed for few.
#include <algorithm>
#include <cstdint>
#include <string>

#include <cuda_runtime.h>

#include "base/result.h"
#include "kernels/batch_scan.cuh"
#include "kernels/binary_batch_scan_cuda.h"
#include "kernels/device_shape.h"
#include "kernels/kernel_launch.cuh"
#include "kernels/tensor_core.cuh"

namespace intarsia::kernels {
namespace {

constexpr int64_t kNarrowQueries = 16;

struct PermuteTraits {
  static constexpr int kThreads = 256;
};

// Grid: num_queries. Block: kThreads. Puts a query in the order of the products, and adds it up.
__global__ void __launch_bounds__(PermuteTraits::kThreads)
    PermuteKernel(const __grid_constant__ BatchArguments arguments) {
  auto* const sum = reinterpret_cast<int*>(DynamicShared());
  const BinaryBatchScanCudaParams& params = arguments.params;
  const int64_t query = blockIdx.x;
  const auto num_dims = static_cast<int>(params.rows.num_words) * 64;
  const int num_places = arguments.num_chunks * kChunkDims;
  if (threadIdx.x == 0) *sum = 0;
  __syncthreads();
  int own = 0;
  for (int place = static_cast<int>(threadIdx.x); place < num_places;
       place += PermuteTraits::kThreads) {
    const int i = DimensionAt(place);
    const int8_t value = i < num_dims ? params.queries[query * num_dims + i] : int8_t{0};
    arguments.permuted[query * num_places + place] = value;
    own += value;
  }
  atomicAdd(sum, own);
  __syncthreads();
  if (threadIdx.x == 0) {
    arguments.queries[query] = {
        {params.steps[query], params.bases[query], BinaryErrorBoundOf(params.error_bounds[query])},
        *sum * (params.rows.num_planes == 2 ? 3 : 1)};
  }
}

// Queries of a launch and rows of a warp's tile, in 16s.
template <int kQueries_, int kRowTiles_>
struct WarpBatchTraits {
  static constexpr int kQueries = kQueries_;
  static constexpr int kRowTiles = kRowTiles_;
  static constexpr int kRows = kRowTiles * 16;
  static_assert(kRows == kBatchTileRows, "a sample's parts do not depend on the kernel");
  static constexpr int kColumns = kQueries / 8;  // fragments of eight queries
  static constexpr int kThreads = 256;
  static constexpr int kWarps = kThreads / 32;
  static constexpr int kBlocks = kQueries * kRows > 16 * 64 ? 1 : 2;
  static constexpr int kWarpBytes =
      static_cast<int>(sizeof(BatchWarpShared<kQueries>)) + kSpanRows * 2;
  static_assert(kColumns % 2 == 0, "fragments are read by pairs");

  static int SharedBytes(int num_chunks) {
    return kQueries * num_chunks * kChunkDims + kWarps * kWarpBytes;
  }
};

// Fills shared memory with fragments: [product, pair of columns, lane] of two columns' registers.
template <typename Traits>
__device__ void LoadQueries(const BatchArguments& arguments, uint4* fragments) {
  constexpr int kPairs = Traits::kColumns / 2;
  const int num_places = arguments.num_chunks * kChunkDims;
  const int num_fragments = num_places / 32 * kPairs * 32;
  for (int i = static_cast<int>(threadIdx.x); i < num_fragments; i += Traits::kThreads) {
    const int lane = i % 32;
    const int pair = i / 32 % kPairs;
    const int product = i / 32 / kPairs;
    uint32_t words[4];
#pragma unroll
    for (int w = 0; w < 4; ++w) {
      const int query = (pair * 2 + w / 2) * 8 + lane / 4;
      const int64_t number = arguments.first_query + query;
      const int place = product * 32 + w % 2 * 16 + lane % 4 * 4;
      words[w] =
          query < arguments.num_queries
              ? *reinterpret_cast<const uint32_t*>(arguments.permuted + number * num_places + place)
              : 0u;
    }
    fragments[i] = make_uint4(words[0], words[1], words[2], words[3]);
  }
}

// C of the products with eight queries, of those with all.
template <int kSize>
__device__ __forceinline__ int (&FragmentOf(int (&sums)[kSize], int column))[4] {
  return *reinterpret_cast<int(*)[4]>(sums + column * 4);
}

// sums += codes * queries over one chunk, whose fragments begin at `fragments`.
template <typename Traits, int kWord, int kStep>
__device__ __forceinline__ void MultiplyStep(const uint4 (&codes)[Traits::kRowTiles * 2],
                                             const uint4* fragments,
                                             int (&sums)[Traits::kRowTiles][Traits::kColumns * 4]) {
  uint32_t a[Traits::kRowTiles][4];
#pragma unroll
  for (int r = 0; r < Traits::kRowTiles; ++r) {
    const uint4& low = codes[2 * r];
    const uint4& high = codes[2 * r + 1];
    const uint32_t first = kWord == 0 ? low.x : kWord == 1 ? low.y : kWord == 2 ? low.z : low.w;
    const uint32_t second = kWord == 0   ? high.x
                            : kWord == 1 ? high.y
                            : kWord == 2 ? high.z
                                         : high.w;
    a[r][0] = BytesOf<2 * kStep>(first);
    a[r][1] = BytesOf<2 * kStep>(second);
    a[r][2] = BytesOf<2 * kStep + 1>(first);
    a[r][3] = BytesOf<2 * kStep + 1>(second);
  }
  constexpr int kPairs = Traits::kColumns / 2;
#pragma unroll
  for (int pair = 0; pair < kPairs; ++pair) {
    const uint4 b = fragments[((kWord * 4 + kStep) * kPairs + pair) * 32];
#pragma unroll
    for (int r = 0; r < Traits::kRowTiles; ++r) {
      MultiplyAddBytes(FragmentOf(sums[r], 2 * pair), a[r], b.x, b.y);
      MultiplyAddBytes(FragmentOf(sums[r], 2 * pair + 1), a[r], b.z, b.w);
    }
  }
}

template <typename Traits, int kWord>
__device__ __forceinline__ void MultiplyWord(const uint4 (&codes)[Traits::kRowTiles * 2],
                                             const uint4* fragments,
                                             int (&sums)[Traits::kRowTiles][Traits::kColumns * 4]) {
  MultiplyStep<Traits, kWord, 0>(codes, fragments, sums);
  MultiplyStep<Traits, kWord, 1>(codes, fragments, sums);
  MultiplyStep<Traits, kWord, 2>(codes, fragments, sums);
  MultiplyStep<Traits, kWord, 3>(codes, fragments, sums);
}

// The sums of a warp's rows with all queries, as C of the products lies over a warp.
template <typename Traits>
__device__ __forceinline__ void MultiplyRows(const BatchArguments& arguments, const BatchRows& own,
                                             const uint4* fragments,
                                             int (&sums)[Traits::kRowTiles][Traits::kColumns * 4]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const uint4* const codes = reinterpret_cast<const uint4*>(arguments.params.rows.codes) +
                             own.begin * arguments.row_pieces;
  int offsets[Traits::kRowTiles * 2];  // of the lane's rows
#pragma unroll
  for (int i = 0; i < Traits::kRowTiles * 2; ++i) {
    offsets[i] = own.OffsetOf(i * 8 + lane / 4) * arguments.row_pieces;
  }
#pragma unroll
  for (int r = 0; r < Traits::kRowTiles; ++r) {
#pragma unroll
    for (int i = 0; i < Traits::kColumns * 4; ++i) sums[r][i] = 0;
  }
  for (int plane = static_cast<int>(arguments.params.rows.num_planes) - 1; plane >= 0; --plane) {
    for (int chunk = 0; chunk < arguments.num_chunks; ++chunk) {
      const int piece = chunk * kChunkPieces + lane % 4;
      uint4 words[Traits::kRowTiles * 2];
#pragma unroll
      for (int i = 0; i < Traits::kRowTiles * 2; ++i) {
        words[i] = piece < arguments.plane_pieces
                       ? LoadOnce16(codes + offsets[i] + plane * arguments.plane_pieces + piece)
                       : make_uint4(0, 0, 0, 0);
      }
      const uint4* const at =
          fragments + chunk * kChunkProducts * (Traits::kColumns / 2) * 32 + lane;
      MultiplyWord<Traits, 0>(words, at, sums);
      MultiplyWord<Traits, 1>(words, at, sums);
      MultiplyWord<Traits, 2>(words, at, sums);
      MultiplyWord<Traits, 3>(words, at, sums);
    }
    if (plane == 0) break;
#pragma unroll
    for (int r = 0; r < Traits::kRowTiles; ++r) {
#pragma unroll
      for (int i = 0; i < Traits::kColumns * 4; ++i) sums[r][i] *= 2;
    }
  }
}

// Multiplies, and looks at the sums that may matter.
template <typename Traits>
__device__ __forceinline__ void ScanRows(const BatchArguments& arguments, const BatchRows& own,
                                         const uint4* fragments,
                                         BatchWarpShared<Traits::kQueries>* shared) {
  int sums[Traits::kRowTiles][Traits::kColumns * 4];
  MultiplyRows<Traits>(arguments, own, fragments, sums);
  SetLeastSums(arguments, BoundsOfRows<Traits::kRows>(arguments.params.rows, own), shared);
#pragma unroll
  for (int r = 0; r < Traits::kRowTiles; ++r) {
    VisitFragments(arguments, own, r * 16, sums[r], shared);
  }
}

// Tile `part` of all rows.
template <typename Traits>
__device__ __forceinline__ BatchRows PartOf(const BinaryRows& rows, int64_t part) {
  const int64_t begin = part * Traits::kRows;
  const int64_t rest = rows.num_rows - begin;
  return {begin, rest < Traits::kRows ? static_cast<int>(rest) : Traits::kRows, nullptr};
}

// Grid: as many blocks as stay. Block: kThreads. A warp takes every so many-th tile of kRows rows,
// or, with a filter, span of rows that it leaves.
template <typename Traits>
__global__ void __launch_bounds__(Traits::kThreads, Traits::kBlocks)
    BatchScanKernel(const __grid_constant__ BatchArguments arguments) {
  if (AreComplete(arguments)) return;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const auto num_warps = static_cast<int>(gridDim.x) * Traits::kWarps;
  const int first = static_cast<int>(blockIdx.x) * Traits::kWarps + warp;
  auto* const fragments = reinterpret_cast<uint4*>(DynamicShared());
  unsigned char* const own_shared = DynamicShared() +
                                    Traits::kQueries * arguments.num_chunks * kChunkDims +
                                    warp * Traits::kWarpBytes;
  auto* const shared = reinterpret_cast<BatchWarpShared<Traits::kQueries>*>(own_shared);
  LoadQueries<Traits>(arguments, fragments);
  __syncthreads();
  const BinaryRows& rows = arguments.params.rows;
  if (arguments.part == BatchPart::kSample) {
    const int num_seeds = arguments.workspace.num_seeds;
    for (int seed = first; seed < num_seeds; seed += num_warps) {
      const int64_t part = int64_t{seed} * arguments.num_parts / num_seeds;
      ScanRows<Traits>(arguments, PartOf<Traits>(rows, part), fragments, shared);
      WriteSeeds(arguments, seed, *shared);
    }
  } else if (arguments.params.filter == nullptr) {
    for (int part = first; part < arguments.num_parts; part += num_warps) {
      ScanRows<Traits>(arguments, PartOf<Traits>(rows, part), fragments, shared);
    }
  } else {
    auto* const list = reinterpret_cast<uint16_t*>(shared + 1);
    const auto num_spans = static_cast<int>((rows.num_rows + kSpanRows - 1) / kSpanRows);
    for (int span = first; span < num_spans; span += num_warps) {
      const int num_listed = ListSpan(rows, arguments.params.filter, span, list);
      for (int i = 0; i < num_listed; i += Traits::kRows) {
        ScanRows<Traits>(arguments, {int64_t{span} * kSpanRows, num_listed - i, list + i},
                         fragments, shared);
      }
    }
  }
}

template <typename Traits>
Status LaunchWarps(BatchArguments arguments, int num_multiprocessors, Stream stream) {
  const int64_t num_rows = arguments.params.rows.num_rows;
  arguments.num_queries = std::min(arguments.num_queries, Traits::kQueries);
  const bool is_sample = arguments.part == BatchPart::kSample;
  const int64_t num_items = is_sample ? arguments.workspace.num_seeds
                            : arguments.params.filter != nullptr
                                ? (num_rows + kSpanRows - 1) / kSpanRows
                                : arguments.num_parts;
  const int64_t num_blocks = std::min<int64_t>((num_items + Traits::kWarps - 1) / Traits::kWarps,
                                               int64_t{num_multiprocessors} * Traits::kBlocks);
  return LaunchKernel("binary batch scan launch", BatchScanKernel<Traits>,
                      {.num_blocks = static_cast<unsigned>(num_blocks),
                       .num_threads = Traits::kThreads,
                       .shared_bytes = Traits::SharedBytes(arguments.num_chunks),
                       .stream = stream},
                      arguments);
}

// One launch takes as many queries as fit its shared memory.
Status LaunchWarpScans(BatchArguments arguments, int num_multiprocessors, Stream stream) {
  constexpr int kSharedMax = 160 * 1024;  // of queries
  const auto num_queries = static_cast<int>(arguments.params.lists.num_queries);
  const int dims = arguments.num_chunks * kChunkDims;
  for (int first = 0; first < num_queries;) {
    arguments.first_query = first;
    arguments.num_queries = num_queries - first;
    if (arguments.num_queries > 32 && 64 * dims <= kSharedMax) {
      INTARSIA_RETURN_IF_ERROR(
          (LaunchWarps<WarpBatchTraits<64, 4>>(arguments, num_multiprocessors, stream)));
      first += 64;
    } else if (arguments.num_queries > 16 && 32 * dims <= kSharedMax) {
      INTARSIA_RETURN_IF_ERROR(
          (LaunchWarps<WarpBatchTraits<32, 4>>(arguments, num_multiprocessors, stream)));
      first += 32;
    } else {
      INTARSIA_RETURN_IF_ERROR(
          (LaunchWarps<WarpBatchTraits<16, 4>>(arguments, num_multiprocessors, stream)));
      first += 16;
    }
  }
  return Status::Ok();
}

int64_t QueryBytes(const BinaryBatchScanCudaParams& params) {
  const int64_t chunks = (params.rows.plane_pieces() + kChunkPieces - 1) / kChunkPieces;
  return params.lists.num_queries *
         (chunks * kChunkDims + static_cast<int64_t>(sizeof(BatchQuery)));
}

BatchArguments MakeArguments(const BinaryBatchScanCudaParams& params) {
  BatchArguments arguments;
  arguments.params = params;
  const int64_t num_rows = params.rows.num_rows;
  arguments.num_parts = static_cast<int32_t>((num_rows + kBatchTileRows - 1) / kBatchTileRows);
  arguments.workspace =
      MakeProspectWorkspace(params.lists, num_rows, arguments.num_parts, params.workspace);
  arguments.plane_pieces = static_cast<int32_t>(params.rows.plane_pieces());
  arguments.row_pieces = arguments.plane_pieces * static_cast<int32_t>(params.rows.num_planes);
  arguments.num_chunks = (arguments.plane_pieces + kChunkPieces - 1) / kChunkPieces;
  auto* const memory =
      static_cast<unsigned char*>(params.workspace) + ProspectWorkspaceBytes(params.lists);
  arguments.permuted = reinterpret_cast<int8_t*>(memory);
  arguments.queries = reinterpret_cast<BatchQuery*>(memory + params.lists.num_queries *
                                                                 arguments.num_chunks * kChunkDims);
  return arguments;
}

}  // namespace

int64_t BinaryBatchScanWorkspaceBytes(const BinaryBatchScanCudaParams& params) {
  return ProspectWorkspaceBytes(params.lists) + (QueryBytes(params) + 255) / 256 * 256;
}

Status BinaryBatchScanCuda(const BinaryBatchScanCudaParams& params, ProspectPass pass,
                           Stream stream) {
  INTARSIA_RETURN_IF_ERROR(CheckBinaryBatchScanCuda(params));
  if (params.lists.num_queries == 0) return Status::Ok();
  if (params.workspace == nullptr) {
    return Status(StatusCode::kInvalidArgument, "binary batch scan: no workspace");
  }
  if (params.rows.num_words > kBinaryBatchWordsMax) {
    return Status(StatusCode::kUnsupported,
                  "binary batch scan: a code is too long for a device: num_words=" +
                      std::to_string(params.rows.num_words) +
                      " max=" + std::to_string(kBinaryBatchWordsMax) + ", scan on the CPU");
  }
  INTARSIA_ASSIGN_OR_RETURN(const DeviceShape device,
                            CurrentDeviceShape("binary batch scan device"));
  BatchArguments arguments = MakeArguments(params);
  const bool can_use_groups = device.capability == 90 && CanScanSm90(arguments);
  if (params.method == BinaryBatchMethod::kWarpgroup && !can_use_groups) {
    return Status(StatusCode::kUnsupported, "binary batch scan: no products by warpgroups here");
  }
  if (pass == ProspectPass::kFirst) {
    INTARSIA_RETURN_IF_ERROR(
        LaunchKernel("binary batch scan queries", PermuteKernel,
                     {.num_blocks = static_cast<unsigned>(params.lists.num_queries),
                      .num_threads = PermuteTraits::kThreads,
                      .shared_bytes = static_cast<int>(sizeof(int)),
                      .stream = stream},
                     arguments));
    arguments.part = BatchPart::kSample;
    if (arguments.workspace.num_seeds > 0) {
      INTARSIA_RETURN_IF_ERROR(LaunchWarpScans(arguments, device.num_multiprocessors, stream));
    }
    INTARSIA_RETURN_IF_ERROR(StartProspects(arguments.workspace, stream));
  }
  arguments.part = BatchPart::kAll;
  if (params.rows.num_rows > 0) {
    // Up to 16 queries, wider products have nothing to multiply.
    const bool uses_groups = can_use_groups && (params.method == BinaryBatchMethod::kWarpgroup ||
                                                (params.method == BinaryBatchMethod::kDefault &&
                                                 params.lists.num_queries > kNarrowQueries));
    INTARSIA_RETURN_IF_ERROR(
        uses_groups ? LaunchBatchScanSm90(arguments, device.num_multiprocessors, stream)
                    : LaunchWarpScans(arguments, device.num_multiprocessors, stream));
  }
  return FinishProspects(arguments.workspace, stream);
}

}  // namespace intarsia::kernels
