// CudaForward::State: what the files of CudaForward share, its memory and the pass that is going
// on. For model/forward_*cuda.cc only.
//
// Thread safety: as CudaForward.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>

#include "kernels/attention_rows_cuda.h"
#include "kernels/device.h"
#include "kernels/device_matrix.h"
#include "model/cuda_forward.h"
#include "model/cuda_weights.h"

namespace intarsia::model {

// Rows of the feed-forward block at a time. Its inner width is the widest array of a pass; products
// of this height run at full speed.
inline constexpr int64_t kFfnRows = 8192;

// How far the current layer has come.
enum class ForwardStep : uint8_t { kNothing, kQkv, kPlaced, kAttended };

// The left side of a product: rows in one of two forms.
struct ProductInput {
  const uint16_t* bf16 = nullptr;  // null: fp8
  kernels::Fp8Rows fp8 = {};
  int64_t num_rows = 0;
  int64_t num_inputs = 0;
};

struct CudaForward::State {
  const CudaWeights* weights = nullptr;
  CudaForwardOptions options;
  kernels::Stream stream = nullptr;
  int64_t num_bytes = 0;

  // The rows' arrays. An array that is not needed beside another one is the same memory:
  // row_buffer: the norm's output, then rotated queries, then a block's output, bf16
  // qkv_buffer: queries, keys and values, then the output of attention, bf16
  kernels::DeviceBuffer hidden;      // [num_rows_max, hidden_size] f32, the residual stream
  kernels::DeviceBuffer row_buffer;  // [num_rows_max, max(hidden_size, q_size)]
  kernels::DeviceBuffer qkv_buffer;  // [num_rows_max, q_size + 2 kv_size]
  kernels::DeviceBuffer gate_up;     // [ffn rows, 2 ffn_size]
  kernels::DeviceBuffer activated;   // [ffn rows, ffn_size]
  // With e4m3 only: a product's input, but for that of the last one, which is in `activated`.
  kernels::DeviceBuffer fp8_codes;   // [num_rows_max, max(hidden_size, q_size)]
  kernels::DeviceBuffer fp8_scales;  // [num_rows_max]
  kernels::DeviceBuffer logits;      // [num_logit_rows_max, logit_stride] f32
  kernels::DeviceBuffer product_space;
  kernels::DeviceBuffer attention_space;
  kernels::DeviceBuffer numbers;  // [3, num_rows_max]: tokens and positions; gathered positions
  kernels::PinnedBuffer staged_numbers;  // [2, num_rows_max]
  kernels::DeviceEvent numbers_copied;

  // Of the pass that is going on.
  const DeviceKv* kv = nullptr;  // null before the first pass, and for a batch
  CudaBatchOnDevice batch;       // its pool is null but for a batch
  const int32_t* positions = nullptr;
  int64_t num_rows = 0;
  int64_t max_position = 0;
  int32_t layer = 0;
  ForwardStep step = ForwardStep::kNothing;
  bool has_addend = false;  // row_buffer holds a block's output that is not yet added to `hidden`

  explicit State(kernels::DeviceEvent event) : numbers_copied(std::move(event)) {}

  const ModelConfig& config() const { return weights->config; }
  int64_t qkv_size() const { return config().q_size() + 2 * config().kv_size(); }
  const CudaLayerWeights& layer_weights(int32_t index) const {
    return weights->layers[static_cast<size_t>(index)];
  }
  kernels::PagedKvLayer pages(int32_t index) const {
    if (kv != nullptr) return kv->layer(index);
    return batch.pool->layer(index, batch.page_tables,
                             batch.page_table_stride * kernels::kPageTokens);
  }

  Status Allocate(int64_t bytes, kernels::DeviceBuffer* buffer);
  Status AllocateAll();
  Status CheckCounts(int64_t rows, int64_t last, int64_t position_end) const;
  // The pages are set by the caller.
  Status Start(const int32_t* tokens, const int32_t* row_positions, int64_t rows, int64_t last);
  // Whether the rows' product with this matrix is in e4m3.
  bool UsesFp8(const CudaMatrix& matrix) const {
    return weights->UsesFp8(num_rows) && matrix.fp8.codes != nullptr;
  }
  kernels::Fp8Target fp8_rows() const { return {fp8_codes.as<uint8_t>(), fp8_scales.as<float>()}; }
  // `next` is the matrix whose product comes next.
  Status Norm(const float* addend_weight, const float* weight, const CudaMatrix& next);
  // What Norm left of `rows` rows from `begin` on.
  ProductInput Normed(int64_t begin, int64_t rows, const CudaMatrix& next) const;
  // What Attend left.
  Result<ProductInput> Attended(const CudaMatrix& next);
  Status Multiply(const ProductInput& x, const CudaMatrix& matrix, const uint16_t* bias, void* y,
                  kernels::DeviceType y_type, int64_t outputs);
  Status GatherInPlace(const int32_t* kept, int64_t num_kept, int64_t row_bytes,
                       kernels::DeviceBuffer* rows);
  Status Attend(kernels::AttentionRowsCudaParams params);
  Status CheckRequests(const CudaBatchOnDevice& checked) const;
  Status RunFfnBlock(const CudaLayerWeights& layer_weights, int64_t begin, int64_t rows);
};

}  // namespace intarsia::model
