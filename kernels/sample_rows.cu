// Bound: memory, and the latency of one multiprocessor: a greedy row reads its logits once, a
// sampled one about ten times, from the second-level cache.
// Design: a block a row. The cuts to top_k and top_p are a radix search for the rank of the last
// token kept, eight bits at a time, over counts or over weights; ranks are distinct, so equal
// logits need no special case. Integer sums make the result independent of the order of threads.
#include <cstdint>

#include <cuda_runtime.h>

#include "kernels/bf16_vector.cuh"
#include "kernels/cuda_status.h"
#include "kernels/sample_draw.h"
#include "kernels/sample_rows.h"

namespace intarsia::kernels {
namespace {

struct SampleRowsTraits {
  static constexpr int kThreads = 1024;
  static constexpr int kWarps = kThreads / kWarpLanes;
  static constexpr int kBins = 256;
  static constexpr int kBinBits = 8;
  static constexpr int kRankBits = 64;
  static_assert(kWarps == kWarpLanes, "one warp reduces what the warps have found");
};

struct Row {
  const float* logits;
  int64_t vocab_size;
  float largest;
  float temperature;
};

struct SampleScratch {
  unsigned long long bins[SampleRowsTraits::kBins];
  unsigned long long of_warp[SampleRowsTraits::kWarps];
  unsigned long long found;  // the bin that was found, or the sum of all warps
  unsigned long long above;  // the sum of the bins above it
  unsigned long long inside;
};

enum class Measure : uint8_t { kCount, kWeight };

__device__ unsigned long long MaxOfBlock(unsigned long long x, SampleScratch* scratch) {
#pragma unroll
  for (int offset = kWarpLanes / 2; offset > 0; offset /= 2) {
    const unsigned long long other = __shfl_xor_sync(0xffffffffU, x, offset);
    x = other > x ? other : x;
  }
  if (threadIdx.x % kWarpLanes == 0) scratch->of_warp[threadIdx.x / kWarpLanes] = x;
  __syncthreads();
  for (int i = 0; i < SampleRowsTraits::kWarps; ++i) {
    x = scratch->of_warp[i] > x ? scratch->of_warp[i] : x;
  }
  __syncthreads();
  return x;
}

__device__ unsigned long long WarpSumOf(unsigned long long x) {
#pragma unroll
  for (int offset = kWarpLanes / 2; offset > 0; offset /= 2) {
    x += __shfl_xor_sync(0xffffffffU, x, offset);
  }
  return x;
}

// Finds in scratch->bins, from the last down, the bin in which the running sum reaches `wanted`.
__device__ void FindBin(unsigned long long wanted, SampleScratch* scratch) {
  if (threadIdx.x == 0) {
    unsigned long long above = 0;
    int bin = SampleRowsTraits::kBins - 1;
    while (bin > 0 && above + scratch->bins[bin] < wanted) above += scratch->bins[bin--];
    scratch->found = static_cast<unsigned long long>(bin);
    scratch->above = above;
    scratch->inside = scratch->bins[bin];
  }
  __syncthreads();
}

// The smallest rank R such that the tokens of rank >= R, among those of rank >= `floor`, measure
// `wanted` or more together; `floor` if all of them do not.
template <Measure kMeasure>
__device__ uint64_t LowestRank(const Row& row, uint64_t floor, unsigned long long wanted,
                               SampleScratch* scratch) {
  using Traits = SampleRowsTraits;
  uint64_t prefix = 0;  // the bits of R that are known
  for (int shift = Traits::kRankBits - Traits::kBinBits; shift >= 0; shift -= Traits::kBinBits) {
    for (int bin = static_cast<int>(threadIdx.x); bin < Traits::kBins; bin += Traits::kThreads) {
      scratch->bins[bin] = 0;
    }
    __syncthreads();
    const int known = shift + Traits::kBinBits;
    for (int64_t token = threadIdx.x; token < row.vocab_size; token += Traits::kThreads) {
      const float logit = row.logits[token];
      const uint64_t rank = RankOfToken(logit, token);
      const bool is_candidate =
          rank >= floor && (known == Traits::kRankBits || rank >> known == prefix >> known);
      if (!is_candidate) continue;
      const unsigned long long measure =
          kMeasure == Measure::kCount ? 1 : WeightOfLogit(logit, row.largest, row.temperature);
      if (measure != 0) atomicAdd(&scratch->bins[rank >> shift & (Traits::kBins - 1)], measure);
    }
    __syncthreads();
    FindBin(wanted, scratch);
    prefix |= uint64_t{scratch->found} << shift;
    const unsigned long long missing = wanted - scratch->above;
    const bool is_all_of_it = kMeasure == Measure::kCount && scratch->inside == missing;
    wanted = missing;
    __syncthreads();
    if (is_all_of_it) break;  // The bin belongs to the kept ones entirely.
  }
  return prefix > floor ? prefix : floor;
}

// The weight of the tokens of rank >= `floor`, which a warp adds up for its part of the row.
__device__ unsigned long long WeightOfPart(const Row& row, uint64_t floor, int64_t begin,
                                           int64_t end) {
  unsigned long long sum = 0;
  for (int64_t token = begin + threadIdx.x % kWarpLanes; token < end; token += kWarpLanes) {
    const float logit = row.logits[token];
    if (RankOfToken(logit, token) >= floor) {
      sum += WeightOfLogit(logit, row.largest, row.temperature);
    }
  }
  return WarpSumOf(sum);
}

// Fills scratch->of_warp with the weights of the warps' parts and scratch->found with their sum.
__device__ void WeighParts(const Row& row, uint64_t floor, int64_t part, SampleScratch* scratch) {
  const int warp = static_cast<int>(threadIdx.x) / kWarpLanes;
  const int64_t begin = warp * part;
  const int64_t end = begin + part < row.vocab_size ? begin + part : row.vocab_size;
  const unsigned long long sum = WeightOfPart(row, floor, begin, end);
  if (threadIdx.x % kWarpLanes == 0) scratch->of_warp[warp] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    scratch->found = 0;
    for (int i = 0; i < SampleRowsTraits::kWarps; ++i) scratch->found += scratch->of_warp[i];
  }
  __syncthreads();
}

// The first token at which the running weight from `begin` on exceeds `drawn`; one warp works.
__device__ int64_t FindToken(const Row& row, uint64_t floor, int64_t begin,
                             unsigned long long drawn) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpLanes;
  for (int64_t first = begin; first < row.vocab_size; first += kWarpLanes) {
    const int64_t token = first + lane;
    unsigned long long weight = 0;
    if (token < row.vocab_size && RankOfToken(row.logits[token], token) >= floor) {
      weight = WeightOfLogit(row.logits[token], row.largest, row.temperature);
    }
    unsigned long long sum = weight;
#pragma unroll
    for (int offset = 1; offset < kWarpLanes; offset *= 2) {
      const unsigned long long before = __shfl_up_sync(0xffffffffU, sum, offset);
      if (lane >= offset) sum += before;
    }
    const unsigned is_beyond = __ballot_sync(0xffffffffU, sum > drawn);
    if (is_beyond != 0) return first + __ffs(static_cast<int>(is_beyond)) - 1;
    drawn -= __shfl_sync(0xffffffffU, sum, kWarpLanes - 1);
  }
  return -1;
}

// Grid: num_rows. Block: kThreads.
__global__ void __launch_bounds__(SampleRowsTraits::kThreads)
    SampleRowsKernel(const __grid_constant__ SampleRowsParams params) {
  __shared__ SampleScratch scratch;
  const int64_t index = blockIdx.x;
  const SampleRule rule = params.rules[index];
  const int32_t step = params.steps[index];
  Row row{params.logits + index * params.stride, params.vocab_size, 0.0F, rule.temperature};
  unsigned long long best = 0;
  for (int64_t token = threadIdx.x; token < row.vocab_size; token += SampleRowsTraits::kThreads) {
    const float logit = row.logits[token];
    const uint64_t rank = RankOfToken(logit, token);
    if (OrderOfLogit(logit) != 0 && rank > best) best = rank;
  }
  best = MaxOfBlock(best, &scratch);
  // Behind that barrier every thread has read its step.
  if (threadIdx.x == 0 && params.next_steps != nullptr) params.next_steps[index] = step + 1;
  const auto first = static_cast<int32_t>(0xffffffffU - static_cast<uint32_t>(best));
  if (best != 0) row.largest = row.logits[first];
  if (best == 0 || rule.temperature == 0.0F || row.largest == INFINITY) {
    if (threadIdx.x == 0) params.tokens[index] = best == 0 ? -1 : first;
    return;
  }

  uint64_t floor = uint64_t{1} << 32;  // the lowest rank of a logit above -infinity
  if (rule.top_k > 0 && rule.top_k < row.vocab_size) {
    floor = LowestRank<Measure::kCount>(row, floor, static_cast<unsigned long long>(rule.top_k),
                                        &scratch);
  }
  const int64_t part = (row.vocab_size + SampleRowsTraits::kWarps - 1) / SampleRowsTraits::kWarps;
  WeighParts(row, floor, part, &scratch);
  if (rule.top_p < 1.0F) {
    const uint64_t wanted = WantedWeight(scratch.found, rule.top_p);
    __syncthreads();
    floor = LowestRank<Measure::kWeight>(row, floor, wanted, &scratch);
    WeighParts(row, floor, part, &scratch);
  }
  if (threadIdx.x >= kWarpLanes) return;
  unsigned long long drawn = ShareOf(scratch.found, DrawNumber(rule.seed, step));
  int warp = 0;
  while (warp < SampleRowsTraits::kWarps - 1 && drawn >= scratch.of_warp[warp]) {
    drawn -= scratch.of_warp[warp++];
  }
  const int64_t token = FindToken(row, floor, warp * part, drawn);
  if (threadIdx.x == 0) params.tokens[index] = static_cast<int32_t>(token);
}

}  // namespace

Status SampleRowsCuda(const SampleRowsParams& params, Stream stream) {
  INTARSIA_RETURN_IF_ERROR(CheckSampleRows(params));
  if (params.num_rows == 0) return Status::Ok();
  SampleRowsKernel<<<static_cast<unsigned>(params.num_rows), SampleRowsTraits::kThreads, 0,
                     stream>>>(params);
  return CudaStatus(cudaGetLastError(), "sample rows launch");
}

}  // namespace intarsia::kernels
