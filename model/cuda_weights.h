// CudaWeights: the weights of a CudaTransformer, as its forward passes read them. Internal to
// model/.
//
// Thread safety: immutable once created.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/device.h"
#include "kernels/device_matrix.h"
#include "kernels/e4m3.h"
#include "kernels/rope.h"
#include "kernels/rope_digits.h"
#include "model/cuda_transformer.h"
#include "model/model_config.h"

namespace intarsia::model {

// A matrix [num_outputs, num_inputs] in the forms that its model's passes use, at least one; what
// is not there is null.
struct CudaMatrix {
  const uint16_t* bf16 = nullptr;
  kernels::Fp8Rows fp8 = {};
};

// Device pointers into CudaWeights::memory. Vectors are f32 but for the bias, which a product adds
// in bf16.
struct CudaLayerWeights {
  CudaMatrix qkv;                              // [q_size + 2 kv_size, hidden_size]
  const uint16_t* qkv_bias = nullptr;          // [q_size + 2 kv_size]; may be null
  CudaMatrix output;                           // [hidden_size, q_size]
  CudaMatrix gate_up;                          // [2 ffn_size, hidden_size]
  CudaMatrix down;                             // [hidden_size, ffn_size]
  const float* attention_norm = nullptr;       // [hidden_size]
  const float* ffn_norm = nullptr;             // [hidden_size]
  const float* post_attention_norm = nullptr;  // [hidden_size]; may be null
  const float* post_ffn_norm = nullptr;        // [hidden_size]; may be null
  const float* q_norm = nullptr;               // [head_dim]; null if and only if k_norm is
  const float* k_norm = nullptr;               // [head_dim]
};

struct CudaWeights {
  ModelConfig config;
  CudaTransformerOptions options;
  int32_t device = 0;
  const uint16_t* embedding = nullptr;  // [logit_stride, hidden_size]
  const uint16_t* head = nullptr;       // the same, or `embedding` when the model ties them
  int64_t logit_stride = 0;  // vocab_size rounded up to what a product can give; the rest is 0
  const float* output_norm = nullptr;
  std::vector<CudaLayerWeights> layers;
  std::unique_ptr<kernels::RopeTable> rope;
  std::unique_ptr<kernels::RopeTable> rope_windowed;  // null without windows
  kernels::RopeDigits digits;                         // device pointers
  kernels::RopeDigits digits_windowed;
  std::unique_ptr<kernels::DeviceMatrixProducts> products;
  int64_t num_bytes = 0;

  // What owns all of it. The stream is declared first, because the memory is given back on it.
  kernels::DeviceStream stream;
  std::vector<kernels::DeviceBuffer> memory;

  explicit CudaWeights(kernels::DeviceStream owner) : stream(std::move(owner)) {}
  bool is_fp8() const { return options.compute == CudaCompute::kFp8; }
  // Whether a pass of so many rows uses e4m3.
  bool UsesFp8(int64_t num_rows) const { return is_fp8() && num_rows >= options.fp8_rows_min; }
  bool is_qkv_fp8() const { return is_fp8() && options.fp8_products != Fp8Products::kAllButQkv; }
  bool keeps_bf16() const { return !is_fp8() || options.fp8_rows_min > 1; }
  const kernels::RopeDigits& rope_digits(int32_t layer) const {
    return config.has_window(layer) ? digits_windowed : digits;
  }
};

}  // namespace intarsia::model
