#include "bench/end_to_end/model_costs.h"

#include <algorithm>
#include <memory>
#include <span>

#include "base/aligned_array.h"
#include "base/stopwatch.h"
#include "kernels/convert.h"
#include "kernels/int8_matrix.h"

namespace intarsia::bench {

double PrefillFlops(const model::ModelConfig& config, int64_t num_tokens) {
  const auto tokens = static_cast<double>(num_tokens);
  const double hidden = config.hidden_size;
  const double q_size = config.q_size();
  const double weights_per_layer =
      hidden * (2.0 * q_size + 2.0 * config.kv_size() + 3.0 * config.ffn_size);
  double flops = 2.0 * hidden * config.vocab_size;
  for (int32_t layer = 0; layer < config.num_layers; ++layer) {
    const double window =
        config.has_window(layer) ? std::min<double>(config.sliding_window, tokens) : tokens;
    // Row t sees min(t + 1, window) keys.
    const double visible = window * (window + 1.0) / 2.0 + (tokens - window) * window;
    flops += 2.0 * tokens * weights_per_layer + 4.0 * visible * q_size;
  }
  return flops;
}

int64_t KvBytes(const model::ModelConfig& config, kernels::KvType type, int64_t num_tokens) {
  const int64_t element_bytes = type == kernels::KvType::kF32 ? 4 : 2;
  return 2 * num_tokens * config.kv_size() * config.num_layers * element_bytes;
}

int64_t WorkspaceBytes(const model::ModelConfig& config, int64_t num_rows) {
  constexpr int64_t kF32 = 4;
  constexpr int64_t kBf16 = 2;
  const int64_t hidden = config.hidden_size;
  const int64_t q_size = config.q_size();
  const int64_t kv_size = config.kv_size();
  const int64_t row_bytes = hidden * (3 * kF32 + kBf16)           // stream, addend, norm
                            + (q_size + 2 * kv_size) * kF32       // as projected
                            + (2 * q_size + 3 * kv_size) * kF32;  // rotated, and attention's output
  const int64_t ffn_row_bytes = config.ffn_size * (3 * kF32 + kBf16);
  return num_rows * row_bytes + std::min<int64_t>(num_rows, 512) * ffn_row_bytes +
         config.vocab_size * kF32;
}

Result<double> MeasureProductRoof(kernels::ComputeType compute, ThreadPool* pool) {
  constexpr int64_t kSize = 2048;
  constexpr int kRuns = 12;
  const kernels::ReadRows halves = [](int64_t begin, int64_t end, float* target) {
    std::ranges::fill(std::span(target, static_cast<size_t>((end - begin) * kSize)), 0.5f);
    return Status::Ok();
  };
  std::unique_ptr<kernels::PackedMatrix> packed;
  std::unique_ptr<kernels::Int8Matrix> int8;
  if (compute == kernels::ComputeType::kInt8) {
    INTARSIA_ASSIGN_OR_RETURN(int8, kernels::Int8Matrix::Pack(kSize, kSize, halves, pool));
  } else {
    INTARSIA_ASSIGN_OR_RETURN(packed,
                              kernels::PackedMatrix::Pack(kSize, kSize, compute, halves, pool));
  }
  AlignedArray<float> x(kSize * kSize);
  std::ranges::fill(x.span(), 0.25f);
  AlignedArray<uint16_t> x_bf16(x.size());
  kernels::F32ToBf16(x.data(), x.size(), x_bf16.data());
  AlignedArray<float> y(kSize * kSize);
  kernels::MatMulParams params = {.y = y.data(), .num_rows = kSize};
  if (compute == kernels::ComputeType::kF32) {
    params.x = x.data();
  } else {
    params.x_bf16 = x_bf16.data();
  }
  double best = 0.0;
  for (int run = 0; run < kRuns; ++run) {
    const Stopwatch stopwatch;
    INTARSIA_RETURN_IF_ERROR(int8 != nullptr ? kernels::MatMul(*int8, params, pool)
                                             : kernels::MatMul(*packed, params, pool));
    best = std::max(best, 2.0 * kSize * kSize * kSize / stopwatch.seconds());
  }
  return best;
}

}  // namespace intarsia::bench
