// Bound: compute, num_bits products of bytes for each row and query on the tensor cores.
// Design: one block to a multiprocessor stays and keeps its queries in shared memory, swizzled as
// wgmma wants them. Each of its warpgroups takes 64 rows at a time; while the products with one
// word of the codes are under way, it makes the bits of the next one bytes in registers, of which
// wgmma reads them. What becomes of the sums is that of binary_batch_scan.cu.
#include <algorithm>
#include <cstdint>

#include <cuda_runtime.h>

#include "kernels/batch_scan.cuh"
#include "kernels/kernel_launch.cuh"
#include "kernels/tensor_core.cuh"
#include "kernels/warpgroup.cuh"

namespace intarsia::kernels {
namespace {

constexpr int kSharedMax = 227 * 1024;

// Queries of a launch.
template <int kQueries_>
struct GroupBatchTraits {
  static constexpr int kQueries = kQueries_;
  static constexpr int kGroups = kQueries > 64 ? 3 : 4;  // by the registers that their sums take
  static constexpr int kThreads = kGroups * 128;
  static constexpr int kWarps = kThreads / 32;
  static constexpr int kSlabBytes = kQueries * 128;  // of 128 places of all queries
  static constexpr int kWarpBytes =
      static_cast<int>(sizeof(BatchWarpShared<kQueries>)) + kSpanRows * 2;
  static_assert(kSlabBytes % 1024 == 0, "a swizzle starts anew every 1,024 bytes");

  static int SharedBytes(int num_chunks) {
    return kQueries * num_chunks * kChunkDims + kWarps * kWarpBytes;
  }
};

// Fills shared memory with slabs of 128 places of all queries, 16 bytes at a time.
template <typename Traits>
__device__ void LoadSlabs(const BatchArguments& arguments, unsigned char* slabs) {
  const int num_places = arguments.num_chunks * kChunkDims;
  const int row_pieces = num_places / 16;
  for (int i = static_cast<int>(threadIdx.x); i < Traits::kQueries * row_pieces;
       i += Traits::kThreads) {
    const int query = i / row_pieces;
    const int piece = i % row_pieces;
    uint4 value = make_uint4(0, 0, 0, 0);
    if (query < arguments.num_queries) {
      value = *reinterpret_cast<const uint4*>(
          arguments.permuted + int64_t{arguments.first_query + query} * num_places + piece * 16);
    }
    *reinterpret_cast<uint4*>(slabs + piece / 8 * Traits::kSlabBytes + query * 128 +
                              (piece % 8 ^ query % 8) * 16) = value;
  }
}

// The registers of A of the four products that word `kWord` of two rows takes part in.
template <int kWord>
__device__ __forceinline__ void ExpandWord(const uint4& low, const uint4& high,
                                           uint32_t (&a)[4][4]) {
  const uint32_t first = kWord == 0 ? low.x : kWord == 1 ? low.y : kWord == 2 ? low.z : low.w;
  const uint32_t second = kWord == 0 ? high.x : kWord == 1 ? high.y : kWord == 2 ? high.z : high.w;
  a[0][0] = BytesOf<0>(first);
  a[0][1] = BytesOf<0>(second);
  a[0][2] = BytesOf<1>(first);
  a[0][3] = BytesOf<1>(second);
  a[1][0] = BytesOf<2>(first);
  a[1][1] = BytesOf<2>(second);
  a[1][2] = BytesOf<3>(first);
  a[1][3] = BytesOf<3>(second);
  a[2][0] = BytesOf<4>(first);
  a[2][1] = BytesOf<4>(second);
  a[2][2] = BytesOf<5>(first);
  a[2][3] = BytesOf<5>(second);
  a[3][0] = BytesOf<6>(first);
  a[3][1] = BytesOf<6>(second);
  a[3][2] = BytesOf<7>(first);
  a[3][3] = BytesOf<7>(second);
}

// Starts the four products of a word, whose places are those of `slab`.
template <typename Traits>
__device__ __forceinline__ void StartWord(int (&sums)[Traits::kQueries / 2], uint32_t (&a)[4][4],
                                          uint32_t slab, int is_added) {
#pragma unroll
  for (int m = 0; m < 4; ++m) HoldRegisters(a[m]);  // written before the fence
  FenceProducts();
#pragma unroll
  for (int m = 0; m < 4; ++m) {
    MultiplyBytes(sums, a[m], MatrixDescriptor(slab + static_cast<uint32_t>(m) * 32, 1024, 0),
                  m == 0 ? is_added : 1);
  }
  CommitProducts();
}

// The sums of the warpgroup's 64 rows with all queries; `own` are the warp's 16.
template <typename Traits>
__device__ __forceinline__ void MultiplyGroupRows(const BatchArguments& arguments,
                                                  const BatchRows& own, uint32_t slabs,
                                                  int (&sums)[Traits::kQueries / 2]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const uint4* const codes = reinterpret_cast<const uint4*>(arguments.params.rows.codes) +
                             own.begin * arguments.row_pieces;
  const uint4* const first = codes + own.OffsetOf(lane / 4) * arguments.row_pieces + lane % 4;
  const uint4* const second = codes + own.OffsetOf(lane / 4 + 8) * arguments.row_pieces + lane % 4;
  const auto num_planes = static_cast<int>(arguments.params.rows.num_planes);
  // Piece lane % 4 of a chunk; chunks of the higher plane come first.
  const auto load = [&](const uint4* row, int chunk) {
    const int plane = num_planes - 1 - chunk / arguments.num_chunks;
    const int piece = chunk % arguments.num_chunks * kChunkPieces;
    return piece + lane % 4 < arguments.plane_pieces
               ? LoadOnce16(row + plane * arguments.plane_pieces + piece)
               : make_uint4(0, 0, 0, 0);
  };
  const int num_chunks = num_planes * arguments.num_chunks;
  uint4 low = load(first, 0);
  uint4 high = load(second, 0);
  for (int chunk = 0; chunk < num_chunks; ++chunk) {
    const bool is_last = chunk + 1 == num_chunks;
    const uint4 next_low = is_last ? low : load(first, chunk + 1);
    const uint4 next_high = is_last ? high : load(second, chunk + 1);
    const uint32_t slab = slabs + static_cast<uint32_t>(chunk % arguments.num_chunks *
                                                        (kChunkDims / 128) * Traits::kSlabBytes);
    uint32_t even[4][4];
    uint32_t odd[4][4];
    HoldRegisters(sums);
    ExpandWord<0>(low, high, even);
    StartWord<Traits>(sums, even, slab, chunk == 0 ? 0 : 1);
    ExpandWord<1>(low, high, odd);
    StartWord<Traits>(sums, odd, slab + Traits::kSlabBytes, 1);
    WaitForProducts<1>();
    ExpandWord<2>(low, high, even);
    StartWord<Traits>(sums, even, slab + 2 * Traits::kSlabBytes, 1);
    WaitForProducts<1>();
    ExpandWord<3>(low, high, odd);
    StartWord<Traits>(sums, odd, slab + 3 * Traits::kSlabBytes, 1);
    WaitForProducts<0>();
    HoldRegisters(sums);
    if (!is_last && (chunk + 1) % arguments.num_chunks == 0) {
#pragma unroll
      for (int i = 0; i < Traits::kQueries / 2; ++i) sums[i] *= 2;
    }
    low = next_low;
    high = next_high;
  }
}

// Multiplies, and looks at the sums of the warp's 16 rows that may matter.
template <typename Traits>
__device__ __forceinline__ void ScanGroupRows(const BatchArguments& arguments, const BatchRows& own,
                                              uint32_t slabs,
                                              BatchWarpShared<Traits::kQueries>* shared) {
  int sums[Traits::kQueries / 2];
  SetLeastSums(arguments, BoundsOfRows<16>(arguments.params.rows, own), shared);
  MultiplyGroupRows<Traits>(arguments, own, slabs, sums);
  VisitFragments(arguments, own, 0, sums, shared);
}

// The warp's 16 of 64 rows, of `num_rows` from `begin` on or of a list.
__device__ __forceinline__ BatchRows WarpRowsOf(int64_t begin, int num_rows, const uint16_t* list) {
  const int skipped = static_cast<int>(threadIdx.x) / 32 % 4 * 16;
  const int rest = num_rows - skipped;
  BatchRows own;
  own.num_rows = rest < 16 ? rest : 16;  // none or less: rows before them are read in their place
  own.begin = list == nullptr ? begin + skipped : begin;
  own.list = list == nullptr ? nullptr : list + skipped;
  return own;
}

// Grid: at most a block to a multiprocessor. Block: kThreads. A warpgroup takes every so many-th
// tile of 64 rows, or, with a filter, span of rows that it leaves.
template <typename Traits>
__global__ void __launch_bounds__(Traits::kThreads, 1)
    GroupBatchScanKernel(const __grid_constant__ BatchArguments arguments) {
  if (AreComplete(arguments)) return;
  // Exchanged, so that the compiler knows it to be the same in all lanes.
  const int warp = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 32, 0);
  const auto num_groups = static_cast<int>(gridDim.x) * Traits::kGroups;
  const int first = static_cast<int>(blockIdx.x) * Traits::kGroups + warp / 4;
  unsigned char* const slabs = DynamicShared();
  unsigned char* const own_shared =
      slabs + Traits::kQueries * arguments.num_chunks * kChunkDims + warp * Traits::kWarpBytes;
  auto* const shared = reinterpret_cast<BatchWarpShared<Traits::kQueries>*>(own_shared);
  LoadSlabs<Traits>(arguments, slabs);
  FenceSharedForAsync();
  __syncthreads();
  const uint32_t slabs_address = SharedAddress(slabs);
  const BinaryRows& rows = arguments.params.rows;
  if (arguments.params.filter == nullptr) {
    for (int part = first; part < arguments.num_parts; part += num_groups) {
      const int64_t begin = int64_t{part} * kBatchTileRows;
      const int64_t rest = rows.num_rows - begin;
      const int num_rows = rest < kBatchTileRows ? static_cast<int>(rest) : kBatchTileRows;
      ScanGroupRows<Traits>(arguments, WarpRowsOf(begin, num_rows, nullptr), slabs_address, shared);
    }
    return;
  }
  auto* const list = reinterpret_cast<uint16_t*>(shared + 1);
  const auto num_spans = static_cast<int>((rows.num_rows + kSpanRows - 1) / kSpanRows);
  for (int span = first; span < num_spans; span += num_groups) {
    const int num_listed = ListSpan(rows, arguments.params.filter, span, list);
    for (int i = 0; i < num_listed; i += kBatchTileRows) {
      ScanGroupRows<Traits>(arguments,
                            WarpRowsOf(int64_t{span} * kSpanRows, num_listed - i, list + i),
                            slabs_address, shared);
    }
  }
}

template <typename Traits>
bool Fits(const BatchArguments& arguments) {
  return Traits::SharedBytes(arguments.num_chunks) <= kSharedMax;
}

template <typename Traits>
Status LaunchGroups(BatchArguments arguments, int num_multiprocessors, Stream stream) {
  const int64_t num_rows = arguments.params.rows.num_rows;
  arguments.num_queries = std::min(arguments.num_queries, Traits::kQueries);
  const int64_t num_items = arguments.params.filter != nullptr
                                ? (num_rows + kSpanRows - 1) / kSpanRows
                                : arguments.num_parts;
  const int64_t num_blocks =
      std::min<int64_t>((num_items + Traits::kGroups - 1) / Traits::kGroups, num_multiprocessors);
  return LaunchKernel("binary batch scan by warpgroups launch", GroupBatchScanKernel<Traits>,
                      {.num_blocks = static_cast<unsigned>(num_blocks),
                       .num_threads = Traits::kThreads,
                       .shared_bytes = Traits::SharedBytes(arguments.num_chunks),
                       .stream = stream},
                      arguments);
}

}  // namespace

bool CanScanSm90(const BatchArguments& arguments) { return Fits<GroupBatchTraits<32>>(arguments); }

Status LaunchBatchScanSm90(BatchArguments arguments, int num_multiprocessors, Stream stream) {
  const auto num_queries = static_cast<int>(arguments.params.lists.num_queries);
  for (int first = 0; first < num_queries;) {
    arguments.first_query = first;
    arguments.num_queries = num_queries - first;
    if (arguments.num_queries > 64 && Fits<GroupBatchTraits<128>>(arguments)) {
      INTARSIA_RETURN_IF_ERROR(
          LaunchGroups<GroupBatchTraits<128>>(arguments, num_multiprocessors, stream));
      first += 128;
    } else if (arguments.num_queries > 32 && Fits<GroupBatchTraits<64>>(arguments)) {
      INTARSIA_RETURN_IF_ERROR(
          LaunchGroups<GroupBatchTraits<64>>(arguments, num_multiprocessors, stream));
      first += 64;
    } else {
      INTARSIA_RETURN_IF_ERROR(
          LaunchGroups<GroupBatchTraits<32>>(arguments, num_multiprocessors, stream));
      first += 32;
    }
  }
  return Status::Ok();
}

}  // namespace intarsia::kernels
