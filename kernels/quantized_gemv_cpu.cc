// Bound: memory, the bytes of the weights. Design: each weight is dequantised once, in registers,
// and multiplied with all rows; one row takes two outputs at a time, so that both share the loads
// of x. Threads share the outputs. An output's bits do not depend on its neighbours or the threads.
#include <algorithm>
#include <cstring>
#include <string>

#include "kernels/half_float.h"
#include "kernels/quantized_gemv.h"

// Vectors are kept in arrays, which those of run-time length cannot be. Those of SSE are too short
// to be worth the time that compiling for them takes.
#define HWY_DISABLED_TARGETS \
  (HWY_SSSE3 | HWY_SSE4 | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/quantized_gemv_cpu.cc"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#if HWY_TARGET == HWY_SCALAR
#define INTARSIA_GEMV_HAS_VECTORS 0
#else
#define INTARSIA_GEMV_HAS_VECTORS 1
#include "kernels/quantized_codecs.inc"
#endif

HWY_BEFORE_NAMESPACE();
namespace intarsia::kernels::HWY_NAMESPACE {
namespace {

#if INTARSIA_GEMV_HAS_VECTORS

// The weights behind the last whole step, which only the floats have.
HWY_INLINE float TailWeight(BlockType type, const uint8_t* row, int64_t index) {
  if (type == BlockType::kF16) return ScalarHalf(row + index * 2);
  if (type == BlockType::kBf16) {
    uint16_t bits = 0;
    std::memcpy(&bits, row + index * 2, sizeof(bits));
    return Bf16ToFloat(bits);
  }
  float value = 0.0F;
  std::memcpy(&value, row + index * 4, sizeof(value));
  return value;
}

// What a kernel is told: `x` has kRows rows, the last one repeated if there are fewer.
struct Job {
  const QuantizedGemvParams* params;
  int64_t row_bytes;
  const float* x[kGemvRowsMax];
};

// Adds what `sum`, over the first `num_summed` inputs, leaves out, and stores the output.
void StoreOutput(const Job& job, int64_t output, int64_t row, int64_t num_summed, float sum) {
  const QuantizedGemvParams& params = *job.params;
  if (row >= params.num_rows) return;
  const auto* weights = static_cast<const uint8_t*>(params.weights) + output * job.row_bytes;
  for (int64_t i = num_summed; i < params.num_inputs; ++i) {
    sum += TailWeight(params.type, weights, i) * job.x[row][i];
  }
  if (params.bias != nullptr) sum += params.bias[output];
  params.y[row * params.num_outputs + output] = sum;
}

constexpr int64_t kLineBytes = 64;
// How far ahead weights are asked for. The hardware's own prefetch stops at pages and is confused
// by the alternation of two short rows: without this, each pair of outputs waits for memory twice.
constexpr int64_t kPrefetchBytes = 8'192;

// The outputs that are computed together: kCount of them, the last one repeated if there are fewer.
template <int kCount>
struct Outputs {
  int64_t index[kCount];
  const uint8_t* weights[kCount];
};

// Products of kOutputs outputs with kRows rows.
template <class Codec, int kRows, int kOutputs>
HWY_NOINLINE void MultiplyOutputs(const Job& job, const Outputs<kOutputs>& outputs) {
  // Chains of additions that an output and row has, to hide their latency.
  constexpr int kChains = kRows <= 4 ? 2 : 1;
  constexpr int64_t kVectors = Codec::kStep / kLanes;
  const DF d;
  VF sums[kOutputs][kRows][kChains];
  INTARSIA_UNROLL
  for (int i = 0; i < kOutputs * kRows * kChains; ++i) {
    sums[i / (kRows * kChains)][i / kChains % kRows][i % kChains] = hn::Zero(d);
  }
  const int64_t num_blocks = job.params->num_inputs / Codec::kBlockSize;
  for (int64_t index = 0; index < num_blocks; ++index) {
    const uint8_t* blocks[kOutputs];
    typename Codec::State states[kOutputs];
    INTARSIA_UNROLL
    for (int o = 0; o < kOutputs; ++o) {
      blocks[o] = outputs.weights[o] + index * Codec::kBlockBytes;
      INTARSIA_UNROLL
      for (int64_t byte = 0; byte < Codec::kBlockBytes; byte += kLineBytes) {
        hwy::Prefetch(blocks[o] + kPrefetchBytes + byte);
      }
      Codec::Begin(blocks[o], &states[o]);
    }
    for (int64_t step = 0; step < Codec::kBlockSize / Codec::kStep; ++step) {
      const int64_t x_offset = index * Codec::kBlockSize + step * Codec::kStep;
      VF weights[kOutputs][kVectors];
      INTARSIA_UNROLL
      for (int o = 0; o < kOutputs; ++o) Codec::Decode(states[o], blocks[o], step, weights[o]);
      INTARSIA_UNROLL
      for (int64_t v = 0; v < kVectors; ++v) {
        INTARSIA_UNROLL
        for (int r = 0; r < kRows; ++r) {
          const VF x = hn::LoadU(d, job.x[r] + x_offset + v * kLanes);
          INTARSIA_UNROLL
          for (int o = 0; o < kOutputs; ++o) {
            VF& sum = sums[o][r][v % kChains];
            sum = hn::MulAdd(weights[o][v], x, sum);
          }
        }
      }
    }
  }
  INTARSIA_UNROLL
  for (int i = 0; i < kOutputs * kRows; ++i) {
    const int o = i / kRows;
    const int r = i % kRows;
    VF sum = sums[o][r][0];
    if constexpr (kChains == 2) sum = hn::Add(sum, sums[o][r][1]);
    const float total = hn::GetLane(hn::SumOfLanes(d, sum));
    StoreOutput(job, outputs.index[o], r, num_blocks * Codec::kBlockSize, total);
  }
}

template <class Codec, int kRows>
void MultiplyRange(const Job& job, int64_t begin, int64_t end) {
  constexpr int kOutputs = kRows <= 2 ? 2 : 1;
  const auto* weights = static_cast<const uint8_t*>(job.params->weights);
  for (int64_t output = begin; output < end; output += kOutputs) {
    Outputs<kOutputs> outputs = {};
    for (int o = 0; o < kOutputs; ++o) {
      outputs.index[o] = std::min(output + o, end - 1);
      outputs.weights[o] = weights + outputs.index[o] * job.row_bytes;
    }
    MultiplyOutputs<Codec, kRows, kOutputs>(job, outputs);
  }
}

template <class Codec>
void MultiplyWith(const QuantizedGemvParams& params, int64_t begin, int64_t end) {
  Job job = {&params, RowBytes(params.type, params.num_inputs), {}};
  for (int64_t r = 0; r < kGemvRowsMax; ++r) {
    job.x[r] = params.x + std::min(r, params.num_rows - 1) * params.num_inputs;
  }
  if (params.num_rows > 4) return MultiplyRange<Codec, 8>(job, begin, end);
  if (params.num_rows > 2) return MultiplyRange<Codec, 4>(job, begin, end);
  if (params.num_rows > 1) return MultiplyRange<Codec, 2>(job, begin, end);
  MultiplyRange<Codec, 1>(job, begin, end);
}

// Computes outputs [begin, end).
void QuantizedGemvRange(const QuantizedGemvParams& params, int64_t begin, int64_t end) {
  switch (params.type) {
    case BlockType::kF32:
      return MultiplyWith<F32Codec>(params, begin, end);
    case BlockType::kF16:
      return MultiplyWith<F16Codec>(params, begin, end);
    case BlockType::kBf16:
      return MultiplyWith<Bf16Codec>(params, begin, end);
    case BlockType::kQ4_0:
      return MultiplyWith<Q4_0Codec>(params, begin, end);
    case BlockType::kQ4_1:
      return MultiplyWith<Q4_1Codec>(params, begin, end);
    case BlockType::kQ5_0:
      return MultiplyWith<Q5_0Codec>(params, begin, end);
    case BlockType::kQ5_1:
      return MultiplyWith<Q5_1Codec>(params, begin, end);
    case BlockType::kQ8_0:
      return MultiplyWith<Q8_0Codec>(params, begin, end);
    case BlockType::kQ4_K:
      return MultiplyWith<Q4_KCodec>(params, begin, end);
    case BlockType::kQ5_K:
      return MultiplyWith<Q5_KCodec>(params, begin, end);
    case BlockType::kQ6_K:
      return MultiplyWith<Q6_KCodec>(params, begin, end);
  }
}

#else  // A CPU without vectors that Highway knows: through memory, as the compiler makes of it.

void QuantizedGemvRange(const QuantizedGemvParams& params, int64_t begin, int64_t end) {
  constexpr int64_t kSlice = 256;  // weights: whole blocks of every type
  constexpr int64_t kChains = 8;
  const int64_t row_bytes = RowBytes(params.type, params.num_inputs);
  const auto* weights = static_cast<const uint8_t*>(params.weights);
  float slice[kSlice];
  for (int64_t output = begin; output < end; ++output) {
    float sums[kGemvRowsMax][kChains] = {};
    for (int64_t first = 0; first < params.num_inputs; first += kSlice) {
      const int64_t size = std::min(kSlice, params.num_inputs - first);
      const uint8_t* bytes = weights + output * row_bytes + RowBytes(params.type, first);
      Dequantize(params.type, bytes, size, slice).IgnoreError();  // The sizes have been checked.
      for (int64_t r = 0; r < params.num_rows; ++r) {
        const float* x = params.x + r * params.num_inputs + first;
        for (int64_t i = 0; i < size; ++i) sums[r][i % kChains] += slice[i] * x[i];
      }
    }
    for (int64_t r = 0; r < params.num_rows; ++r) {
      float total = params.bias != nullptr ? params.bias[output] : 0.0F;
      for (const float sum : sums[r]) total += sum;
      params.y[r * params.num_outputs + output] = total;
    }
  }
}

#endif  // INTARSIA_GEMV_HAS_VECTORS
#undef INTARSIA_GEMV_HAS_VECTORS

}  // namespace
}  // namespace intarsia::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace intarsia::kernels {
namespace {

HWY_EXPORT(QuantizedGemvRange);

// A piece of work must be worth its hand-over, and there must be enough of them to share evenly.
constexpr int64_t kItemBytesMin = int64_t{16} << 10;
constexpr int64_t kItemBytesMax = int64_t{256} << 10;
constexpr int64_t kItemsPerThread = 4;

int64_t OutputsPerItem(const QuantizedGemvParams& params, const ThreadPool& pool) {
  const int64_t row_bytes = RowBytes(params.type, params.num_inputs);
  const int64_t num_items = pool.num_threads() * kItemsPerThread;
  const int64_t wanted = params.num_outputs * row_bytes / num_items;
  const int64_t item_bytes = std::clamp(wanted, kItemBytesMin, kItemBytesMax);
  // Even, for outputs are taken in pairs.
  return std::max<int64_t>(2, item_bytes / row_bytes / 2 * 2);
}

}  // namespace

Status QuantizedGemv(const QuantizedGemvParams& params, ThreadPool* pool) {
  INTARSIA_RETURN_IF_ERROR(CheckQuantizedGemv(params));
  if (params.num_rows == 0 || params.num_outputs == 0) return Status::Ok();
  const int64_t outputs_per_item = OutputsPerItem(params, *pool);
  const int64_t num_items = (params.num_outputs + outputs_per_item - 1) / outputs_per_item;
  pool->ParallelFor(num_items, [&](int64_t item, int /*worker*/) {
    const int64_t begin = item * outputs_per_item;
    const int64_t end = std::min(begin + outputs_per_item, params.num_outputs);
    HWY_DYNAMIC_DISPATCH(QuantizedGemvRange)(params, begin, end);
  });
  return Status::Ok();
}

}  // namespace intarsia::kernels
#endif  // HWY_ONCE
