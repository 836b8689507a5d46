// Bert: the encoder of BERT over rows of token ids, from its weights to hidden states.
//
// Texts lie one behind the other without padding: matrix products see rows only, and attention
// alone knows where a text begins.
//
// Thread safety: immutable after Load; Forward may be called concurrently.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/thread_pool.h"
#include "kernels/activation.h"
#include "kernels/packed_matrix.h"
#include "model/safetensors.h"

namespace intarsia::model {

struct BertConfig {
  int32_t num_layers = 0;
  int32_t hidden_size = 0;
  int32_t num_heads = 0;  // divides hidden_size
  int32_t ffn_size = 0;
  int32_t vocab_size = 0;
  int32_t num_positions = 0;  // of the learned position embeddings
  int32_t num_segments = 0;
  float norm_epsilon = 0.0f;
  kernels::Activation activation = kernels::Activation::kGeluErf;
};

// Text i has the rows [row_begins[i], row_begins[i + 1]) of `ids`, the last element being
// ids.size(); its tokens sit at positions 0, 1, ... They belong to segment 0, but to segment 1 from
// row second_begins[i] on, if that is given.
struct BertInput {
  std::span<const int32_t> ids;
  std::span<const int64_t> row_begins;
  std::span<const int64_t> second_begins = {};  // empty, or one for each text
};

class Bert {
 public:
  // Packs the weights, whose tensors have the names of the transformers library, with or without a
  // leading "bert.". Nothing of `file` is kept.
  // Errors: kCorruption for a missing tensor or one of another shape; kUnsupported for a dtype that
  // is no float or, on a CPU without AVX-512, for kBf16; kResourceExhausted.
  static Result<std::unique_ptr<Bert>> Load(const SafetensorsFile& file, const BertConfig& config,
                                            kernels::ComputeType compute, ThreadPool* pool);
  ~Bert();
  Bert(const Bert&) = delete;
  Bert& operator=(const Bert&) = delete;

  const BertConfig& config() const { return config_; }

  // Writes the last layer's states to `hidden` [num_rows, hidden_size], which is 64-byte aligned.
  // Errors: kInvalidArgument for an id outside the vocabulary or a text longer than num_positions,
  // or for second texts if the model knows one segment only; kResourceExhausted.
  Status Forward(const BertInput& input, float* hidden, ThreadPool* pool) const;

 private:
  class Weights;
  class Run;

  Bert(const BertConfig& config, std::unique_ptr<const Weights> weights);

  const BertConfig config_;
  const std::unique_ptr<const Weights> weights_;
};

}  // namespace intarsia::model
