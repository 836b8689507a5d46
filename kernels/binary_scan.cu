// Bound: memory, row_words * 4 bytes a row and 0.5 of bounds; with four planes of a query,
// popcounts are close behind: at 16 per multiprocessor and clock they alone would take as long as
// the memory, so that they are spared (bit_counts.cuh) or left to the tensor cores. Design: lanes
// share a row, 16 bytes each side by side, and keep their part of the query in registers; a warp
// sums its 32 rows up by exchanging halves, a row a lane. Only a row that may matter by its tile's
// bounds is scored by its own factors.
#include <algorithm>
#include <cstdint>

#include <cuda_runtime.h>

#include "base/result.h"
#include "kernels/binary_estimate.h"
#include "kernels/binary_scan_cuda.h"
#include "kernels/bit_counts.cuh"
#include "kernels/device_shape.h"
#include "kernels/kernel_launch.cuh"
#include "kernels/prospect_workspace.cuh"
#include "kernels/row_lists.cuh"
#include "kernels/tensor_core.cuh"

namespace intarsia::kernels {
namespace {

// What a pass does: `kSample` takes a tile in so many and keeps the highest lower end of each.
enum class ScanPart : uint8_t { kSample, kAll };

struct ScanArguments {
  BinaryScanCudaParams params;
  ProspectWorkspace workspace;
  int32_t num_tiles;
  int32_t row_pieces;
  int32_t plane_pieces;
  ScanPart part;
};

// Lanes of a row, pieces of 16 bytes a lane, and how bits are counted.
template <int kLanes_, int kPieces_, BinaryScanMethod kMethod_>
struct ScanTraits {
  static constexpr int kLanes = kLanes_;
  static constexpr int kPieces = kPieces_;
  static constexpr BinaryScanMethod kMethod = kMethod_;
  static constexpr int kThreads = 256;
  static constexpr int kWarps = kThreads / 32;
  static constexpr int kRoundRows = 32 / kLanes;  // rows that a warp reads at once
  // Rounds whose reads are under way together, of kLanes.
  static constexpr int kBatch =
      kPieces == 1 ? (kLanes < 8 ? kLanes : 8) : (kLanes < 2 ? kLanes : 2);
  // As many as the registers for these reads and the query allow.
  static constexpr int kBlocks =
      kPieces <= (kMethod == BinaryScanMethod::kTensor ? 2 : 1) && kLanes <= 8 ? 3 : 2;
  static_assert(kLanes % kBatch == 0, "all rounds are read in whole batches");
};

// A query as a lane holds it: the words that its pieces meet.
template <typename Traits>
struct LaneQuery {
  uint32_t words[Traits::kPieces][4][4];  // [piece, plane of the query, word]
  int weights[Traits::kPieces];           // of the piece's plane of the code
  int largest;                            // the product when no bit differs

  __device__ void Load(const ScanArguments& arguments) {
    const BinaryScanCudaParams& params = arguments.params;
    const auto* const source = reinterpret_cast<const uint32_t*>(params.query_planes);
    const int lane = static_cast<int>(threadIdx.x) % Traits::kLanes;
    const auto plane_words = static_cast<int>(params.rows.num_words) * 2;
#pragma unroll
    for (int j = 0; j < Traits::kPieces; ++j) {
      const int piece = j * Traits::kLanes + lane;
      const int first = piece % arguments.plane_pieces * 4;
      weights[j] = piece < arguments.row_pieces ? 1 << (piece / arguments.plane_pieces) : 0;
#pragma unroll
      for (int p = 0; p < 4; ++p) {
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          words[j][p][c] =
              weights[j] != 0 && first + c < plane_words ? source[p * plane_words + first + c] : 0u;
        }
      }
    }
    largest = 15 * 32 * plane_words * (params.rows.num_planes == 2 ? 3 : 1);
  }
};

// Where a warp's 32 rows lie: side by side, or numbered by a list.
struct DenseRows {
  const uint4* codes;  // of the first
  int row_pieces;
  __device__ const uint4* At(int index) const { return codes + index * row_pieces; }
};
struct ListedRows {
  const uint4* codes;  // of the span that the list numbers
  const uint16_t* list;
  int row_pieces;
  int num_rows;  // of the list
  __device__ const uint4* At(int index) const {
    return codes + int{list[index < num_rows ? index : num_rows - 1]} * row_pieces;
  }
};

// The row of the warp's 32 whose product a lane gets.
template <typename Traits>
__device__ __forceinline__ int OwnRow() {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (Traits::kMethod == BinaryScanMethod::kTensor) {
    return lane % 4 * 8 + lane / 4;
  }
  return lane % Traits::kLanes * Traits::kRoundRows + lane / Traits::kLanes;
}

// The products of 32 rows, one a lane.
template <typename Traits, typename Rows>
__device__ __forceinline__ int ProductOfRows(const LaneQuery<Traits>& query, const Rows& rows) {
  constexpr int kLanes = Traits::kLanes;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  int sums[kLanes];
#pragma unroll
  for (int begin = 0; begin < kLanes; begin += Traits::kBatch) {
    uint4 codes[Traits::kBatch][Traits::kPieces];
#pragma unroll
    for (int i = 0; i < Traits::kBatch; ++i) {
      const uint4* const row = rows.At((begin + i) * Traits::kRoundRows + lane / kLanes);
#pragma unroll
      for (int j = 0; j < Traits::kPieces; ++j) {
        const int piece = j * kLanes + lane % kLanes;
        codes[i][j] = query.weights[j] != 0 ? LoadOnce16(row + piece) : make_uint4(0, 0, 0, 0);
      }
    }
#pragma unroll
    for (int i = 0; i < Traits::kBatch; ++i) {
      int sum = 0;
#pragma unroll
      for (int j = 0; j < Traits::kPieces; ++j) {
        sum += WeightedDistance(codes[i][j], query.words[j]) * query.weights[j];
      }
      sums[begin + i] = sum;
    }
  }
  // Each step halves the rounds that a lane has sums of, and doubles the lanes in each sum.
#pragma unroll
  for (int step = kLanes / 2; step >= 1; step /= 2) {
    const bool is_upper = (lane & step) != 0;
#pragma unroll
    for (int i = 0; i < step; ++i) {
      const int kept = is_upper ? sums[i + step] : sums[i];
      const int sent = is_upper ? sums[i] : sums[i + step];
      sums[i] = kept + __shfl_xor_sync(0xffffffffu, sent, step);
    }
  }
  return query.largest - 2 * sums[0];
}

// A query as the tensor cores want it. With bits b of a plane of the code and levels v of the query
//   sum (2b - 1)(2v - 15) = 4 sum b v - 30 sum b - 2 sum v + 15 num_bits,
// twice that for the upper plane. So plane p of the query is column p of the products for pieces of
// the lower plane and column p + 1, which weighs twice as much, for pieces of the upper one;
// columns 5 and 6 are of ones for either.
template <int kPieces>
struct LaneQuery<ScanTraits<4, kPieces, BinaryScanMethod::kTensor>> {
  static constexpr int kOnes = 5;
  uint32_t words[kPieces][4];  // of column lane / 4, as the lane's words of a code
  bool is_piece[kPieces];
  int weights[2];  // of the two columns whose sums the lane gets
  int constant;

  __device__ void Load(const ScanArguments& arguments) {
    const BinaryScanCudaParams& params = arguments.params;
    const auto* const source = reinterpret_cast<const uint32_t*>(params.query_planes);
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int column = lane / 4;
    const auto plane_words = static_cast<int>(params.rows.num_words) * 2;
    int level_sum = 0;
#pragma unroll
    for (int j = 0; j < kPieces; ++j) {
      const int piece = j * 4 + lane % 4;
      const int plane = piece / arguments.plane_pieces;
      const int first = piece % arguments.plane_pieces * 4;
      is_piece[j] = piece < arguments.row_pieces;
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const bool is_word = is_piece[j] && first + c < plane_words;
        const int p = column - plane;  // of the query
        const bool is_level = is_word && p >= 0 && p < 4 && column < kOnes;
        uint32_t word = is_word && column == kOnes + plane ? 0xffffffffu : 0u;
        if (is_level) word = source[p * plane_words + first + c];
        if (is_level) level_sum += __popc(word) << column;
        words[j][c] = word;
      }
    }
#pragma unroll
    for (int step = 16; step >= 1; step /= 2) {
      level_sum += __shfl_xor_sync(0xffffffffu, level_sum, step);
    }
    constant = 15 * 32 * plane_words * (params.rows.num_planes == 2 ? 3 : 1) - 2 * level_sum;
    weights[0] = WeightOf(lane % 4 * 2);
    weights[1] = WeightOf(lane % 4 * 2 + 1);
  }

  __device__ static int WeightOf(int column) {
    return column < kOnes ? 4 << column : column == kOnes ? -30 : column == kOnes + 1 ? -60 : 0;
  }
};

template <int kPieces, typename Rows>
__device__ __forceinline__ int ProductOfRows(
    const LaneQuery<ScanTraits<4, kPieces, BinaryScanMethod::kTensor>>& query, const Rows& rows) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  uint4 codes[4][kPieces];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const uint4* const row = rows.At(i * 8 + lane / 4);
#pragma unroll
    for (int j = 0; j < kPieces; ++j) {
      codes[i][j] = query.is_piece[j] ? LoadOnce16(row + j * 4 + lane % 4) : make_uint4(0, 0, 0, 0);
    }
  }
  int products[4];  // of rows lane / 4, and 8, 16 and 24 more
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    int sums[4] = {0, 0, 0, 0};
#pragma unroll
    for (int j = 0; j < kPieces; ++j) {
      const uint4& low = codes[2 * half][j];
      const uint4& high = codes[2 * half + 1][j];
      const uint32_t first[4] = {low.x, high.x, low.y, high.y};
      const uint32_t second[4] = {low.z, high.z, low.w, high.w};
      MultiplyAddBits(sums, first, query.words[j][0], query.words[j][1]);
      MultiplyAddBits(sums, second, query.words[j][2], query.words[j][3]);
    }
    products[2 * half] = sums[0] * query.weights[0] + sums[1] * query.weights[1];
    products[2 * half + 1] = sums[2] * query.weights[0] + sums[3] * query.weights[1];
  }
#pragma unroll
  for (int step = 2; step >= 1; step /= 2) {
    const bool is_upper = (lane & step) != 0;
#pragma unroll
    for (int i = 0; i < step; ++i) {
      const int kept = is_upper ? products[i + step] : products[i];
      const int sent = is_upper ? products[i] : products[i + step];
      products[i] = kept + __shfl_xor_sync(0xffffffffu, sent, step);
    }
  }
  return query.constant + products[0];
}

__device__ __forceinline__ BinaryQueryFactors QueryFactorsOf(const BinaryScanCudaParams& params) {
  return {params.half_step, params.base, params.error_bound};
}

// Whether a row of this tile could have a limit of at least `threshold`. Scores are linear in the
// scale, so one of its bounds gives the highest. What is not a number may.
__device__ __forceinline__ bool MayReach(const float4& bounds, const BinaryQueryFactors& query,
                                         float product, float threshold) {
  const float score = fmaxf(BinaryScoreOf({bounds.x, bounds.z, bounds.w}, query, product),
                            BinaryScoreOf({bounds.y, bounds.z, bounds.w}, query, product));
  return !(BinaryLimitOf({bounds.y, bounds.z, bounds.w}, query, score) < threshold);
}

__device__ __forceinline__ void AddRow(const ScanArguments& arguments, uint64_t threshold,
                                       int64_t row, int product) {
  const BinaryQueryFactors query = QueryFactorsOf(arguments.params);
  const BinaryFactors factors = FactorsOf(arguments.params.rows, row);
  const float score = BinaryScoreOf(factors, query, static_cast<float>(product));
  AddProspect(arguments.workspace, 0, threshold, static_cast<int32_t>(row),
              BinaryLowerOf(factors, query, score), BinaryLimitOf(factors, query, score));
}

__device__ __forceinline__ const uint4* CodesOf(const BinaryRows& rows, int64_t row,
                                                int row_pieces) {
  return reinterpret_cast<const uint4*>(rows.codes) + row * row_pieces;
}

// Of a tile in so many the highest lower end of its rows.
template <typename Traits>
__device__ void SampleTiles(const ScanArguments& arguments, const LaneQuery<Traits>& query,
                            int first, int num_warps) {
  const BinaryRows& rows = arguments.params.rows;
  const BinaryQueryFactors factors = QueryFactorsOf(arguments.params);
  const int num_seeds = arguments.workspace.num_seeds;
  for (int seed = first; seed < num_seeds; seed += num_warps) {
    const int64_t tile = int64_t{seed} * arguments.num_tiles / num_seeds;
    const int64_t begin = tile * kBinaryTileRows;
    const int product = ProductOfRows(
        query, DenseRows{CodesOf(rows, begin, arguments.row_pieces), arguments.row_pieces});
    const int own = OwnRow<Traits>();
    const uint32_t filter =
        arguments.params.filter == nullptr ? 0xffffffffu : arguments.params.filter[tile];
    uint32_t key = 0;
    if (begin + own < rows.num_rows && (filter >> own & 1u) != 0) {
      const BinaryFactors row = FactorsOf(rows, begin + own);
      const float score = BinaryScoreOf(row, factors, static_cast<float>(product));
      const float lower = BinaryLowerOf(row, factors, score);
      if (lower <= BinaryLimitOf(row, factors, score)) key = KeyOf(lower);
    }
#pragma unroll
    for (int step = 16; step >= 1; step /= 2) {
      const uint32_t other = __shfl_xor_sync(0xffffffffu, key, step);
      key = other > key ? other : key;
    }
    if (threadIdx.x % 32 == 0) arguments.workspace.seeds[seed] = key;
  }
}

// Grid: as many blocks as stay. Block: kThreads. A warp takes every so many-th tile.
template <typename Traits>
__global__ void __launch_bounds__(Traits::kThreads, Traits::kBlocks)
    ScanKernel(const __grid_constant__ ScanArguments arguments) {
  const BinaryRows& rows = arguments.params.rows;
  const auto num_warps = static_cast<int>(gridDim.x) * Traits::kWarps;
  const int first =
      static_cast<int>(blockIdx.x) * Traits::kWarps + static_cast<int>(threadIdx.x) / 32;
  LaneQuery<Traits> query;
  query.Load(arguments);
  if (arguments.part == ScanPart::kSample) {
    SampleTiles<Traits>(arguments, query, first, num_warps);
    return;
  }
  const ProspectState& state = arguments.workspace.states[0];
  if (state.is_complete != 0) return;
  const uint64_t threshold = state.threshold;
  const float least = ThresholdOf(threshold);
  const BinaryQueryFactors factors = QueryFactorsOf(arguments.params);
  const int own = OwnRow<Traits>();
  for (int tile = first; tile < arguments.num_tiles; tile += num_warps) {
    const int64_t begin = int64_t{tile} * kBinaryTileRows;
    const float4 bounds = BoundsOf(rows, tile);
    const int product = ProductOfRows(
        query, DenseRows{CodesOf(rows, begin, arguments.row_pieces), arguments.row_pieces});
    if (MayReach(bounds, factors, static_cast<float>(product), least) &&
        begin + own < rows.num_rows) {
      AddRow(arguments, threshold, begin + own, product);
    }
  }
}

// Grid and block as above, with kWarps lists of spans in shared memory. A warp takes every so
// many-th span.
template <typename Traits>
__global__ void __launch_bounds__(Traits::kThreads, Traits::kBlocks)
    FilteredScanKernel(const __grid_constant__ ScanArguments arguments) {
  const BinaryRows& rows = arguments.params.rows;
  const auto num_warps = static_cast<int>(gridDim.x) * Traits::kWarps;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  auto* const list = reinterpret_cast<uint16_t*>(DynamicShared()) + warp * kSpanRows;
  LaneQuery<Traits> query;
  query.Load(arguments);
  const ProspectState& state = arguments.workspace.states[0];
  if (state.is_complete != 0) return;
  const uint64_t threshold = state.threshold;
  const float least = ThresholdOf(threshold);
  const BinaryQueryFactors factors = QueryFactorsOf(arguments.params);
  const int own = OwnRow<Traits>();
  const int num_spans = (arguments.num_tiles + kSpanTiles - 1) / kSpanTiles;
  for (int span = static_cast<int>(blockIdx.x) * Traits::kWarps + warp; span < num_spans;
       span += num_warps) {
    const int64_t begin = int64_t{span} * kSpanRows;
    const int num_listed = ListSpan(rows, arguments.params.filter, span, list);
    for (int i = 0; i < num_listed; i += 32) {
      const int product =
          ProductOfRows(query, ListedRows{CodesOf(rows, begin, arguments.row_pieces), list + i,
                                          arguments.row_pieces, num_listed - i});
      if (i + own >= num_listed) continue;
      const int64_t row = begin + list[i + own];
      if (MayReach(BoundsOf(rows, row / kBinaryTileRows), factors, static_cast<float>(product),
                   least)) {
        AddRow(arguments, threshold, row, product);
      }
    }
  }
}

template <typename Traits>
Status LaunchScan(const ScanArguments& arguments, Stream stream) {
  INTARSIA_ASSIGN_OR_RETURN(const DeviceShape device, CurrentDeviceShape("binary scan device"));
  const bool is_listed = arguments.part == ScanPart::kAll && arguments.params.filter != nullptr;
  const int num_items = arguments.part == ScanPart::kSample ? arguments.workspace.num_seeds
                        : is_listed ? (arguments.num_tiles + kSpanTiles - 1) / kSpanTiles
                                    : arguments.num_tiles;
  const int num_blocks = std::min((num_items + Traits::kWarps - 1) / Traits::kWarps,
                                  device.num_multiprocessors * Traits::kBlocks);
  return LaunchKernel(
      "binary scan launch", is_listed ? FilteredScanKernel<Traits> : ScanKernel<Traits>,
      {.num_blocks = static_cast<unsigned>(num_blocks),
       .num_threads = Traits::kThreads,
       .shared_bytes =
           is_listed ? Traits::kWarps * kSpanRows * static_cast<int>(sizeof(uint16_t)) : 0,
       .stream = stream},
      arguments);
}

template <int kLanes, int kPieces>
Status LaunchAdding(const ScanArguments& arguments, Stream stream) {
  return LaunchScan<ScanTraits<kLanes, kPieces, BinaryScanMethod::kAdd>>(arguments, stream);
}

// By the smallest number of pieces that holds a row's: a power of two, or three times one.
Status LaunchByRow(const ScanArguments& arguments, Stream stream) {
  const int n = arguments.row_pieces;
  if (n <= 1) return LaunchAdding<1, 1>(arguments, stream);
  if (n <= 2) return LaunchAdding<2, 1>(arguments, stream);
  if (n <= 3) return LaunchAdding<1, 3>(arguments, stream);
  if (n <= 4) return LaunchAdding<4, 1>(arguments, stream);
  if (n <= 6) return LaunchAdding<2, 3>(arguments, stream);
  if (n <= 8) return LaunchAdding<8, 1>(arguments, stream);
  if (n <= 12) return LaunchAdding<4, 3>(arguments, stream);
  if (n <= 16) return LaunchAdding<16, 1>(arguments, stream);
  if (n <= 24) return LaunchAdding<8, 3>(arguments, stream);
  if (n <= 32) return LaunchAdding<32, 1>(arguments, stream);
  if (n <= 48) return LaunchAdding<16, 3>(arguments, stream);
  return LaunchAdding<32, 3>(arguments, stream);
}

Status LaunchTensor(const ScanArguments& arguments, Stream stream) {
  constexpr auto kTensor = BinaryScanMethod::kTensor;
  const int n = arguments.row_pieces;
  if (n <= 4) return LaunchScan<ScanTraits<4, 1, kTensor>>(arguments, stream);
  if (n <= 8) return LaunchScan<ScanTraits<4, 2, kTensor>>(arguments, stream);
  if (n <= 12) return LaunchScan<ScanTraits<4, 3, kTensor>>(arguments, stream);
  if (n <= 16) return LaunchScan<ScanTraits<4, 4, kTensor>>(arguments, stream);
  return LaunchByRow(arguments, stream);
}

Status LaunchByMethod(const ScanArguments& arguments, Stream stream) {
  switch (arguments.params.method) {
    case BinaryScanMethod::kTensor:
      return LaunchTensor(arguments, stream);
    case BinaryScanMethod::kDefault:
    case BinaryScanMethod::kAdd:
      break;
  }
  return LaunchByRow(arguments, stream);
}

// Products of bits are fastest where the tensor cores have them: newer devices emulate them.
Result<BinaryScanMethod> ChooseMethod(BinaryScanMethod asked) {
  if (asked != BinaryScanMethod::kDefault) return asked;
  INTARSIA_ASSIGN_OR_RETURN(const DeviceShape device, CurrentDeviceShape("binary scan device"));
  return device.capability < 100 ? BinaryScanMethod::kTensor : BinaryScanMethod::kAdd;
}

}  // namespace

Status BinaryScanCuda(const BinaryScanCudaParams& params, ProspectPass pass, Stream stream) {
  INTARSIA_RETURN_IF_ERROR(CheckBinaryScanCuda(params));
  if (params.workspace == nullptr) {
    return Status(StatusCode::kInvalidArgument, "binary scan: no workspace");
  }
  if (params.rows.row_words() * 4 > kBinaryScanRowBytesMax) {
    return Status(StatusCode::kUnsupported, "binary scan: a code is too long for a device: bytes=" +
                                                std::to_string(params.rows.row_words() * 4) +
                                                " max=" + std::to_string(kBinaryScanRowBytesMax) +
                                                ", scan on the CPU");
  }
  ScanArguments arguments;
  arguments.params = params;
  INTARSIA_ASSIGN_OR_RETURN(arguments.params.method, ChooseMethod(params.method));
  arguments.workspace = MakeProspectWorkspace(params.lists, params.rows.num_rows,
                                              params.rows.num_tiles(), params.workspace);
  arguments.num_tiles = static_cast<int32_t>(params.rows.num_tiles());
  arguments.plane_pieces = static_cast<int32_t>(params.rows.plane_pieces());
  arguments.row_pieces = arguments.plane_pieces * static_cast<int32_t>(params.rows.num_planes);
  if (pass == ProspectPass::kFirst) {
    arguments.part = ScanPart::kSample;
    if (arguments.workspace.num_seeds > 0) {
      INTARSIA_RETURN_IF_ERROR(LaunchByMethod(arguments, stream));
    }
    INTARSIA_RETURN_IF_ERROR(StartProspects(arguments.workspace, stream));
  }
  arguments.part = ScanPart::kAll;
  if (arguments.num_tiles > 0) INTARSIA_RETURN_IF_ERROR(LaunchByMethod(arguments, stream));
  return FinishProspects(arguments.workspace, stream);
}

}  // namespace intarsia::kernels
