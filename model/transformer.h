// Transformer: a decoder-only language model as one primitive, the sparse-row prefill.
//
// A forward pass takes rows, each a token at a position, and a KvCache that already holds the keys
// and values of every other token that a row may see. Per layer it computes the rows' queries, keys
// and values, writes the rows' keys and values over the placed ones, attends (row t sees key u if
// and only if u <= p_t), and runs the MLP on the rows; in the last layer only the rows whose logits
// are asked for attend. Full prefill is all rows, decoding is one row and a fused prefill is the
// rows that somebody chose. There is no other forward pass.
//
// Thread safety: immutable after Load; concurrent Forward calls with distinct KvCaches are safe and
// share the pool.
// Lifetime: the GgufFile and the ThreadPool must outlive it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/cancel.h"
#include "base/memory_pool.h"
#include "base/result.h"
#include "base/thread_pool.h"
#include "kernels/packed_matrix.h"
#include "kernels/rope.h"
#include "model/gguf.h"
#include "model/kv_cache.h"
#include "model/model_config.h"

namespace intarsia::model {

// What a forward pass shows of one layer, once the rows' queries, keys and values are known.
struct LayerRows {
  int32_t layer = 0;
  std::span<const int32_t> positions;  // [num_rows], ascending
  const float* k = nullptr;            // [num_rows, kv_size] before RoPE, after QK norm
  const float* v = nullptr;            // [num_rows, kv_size]
  KvCache* cache = nullptr;
};

struct LayerQueries {
  int32_t layer = 0;
  std::span<const int32_t> positions;  // [num_rows]
  const float* q = nullptr;            // [num_rows, q_size], rotated, not scaled
  const KvCache* cache = nullptr;      // with the rows' keys and values
};

// Looks into a forward pass and may act between its steps. Calls come on the thread that called
// Forward, layer by layer. An error ends the pass and is returned by it.
class LayerObserver {
 public:
  virtual ~LayerObserver() = default;

  // Before the rows' keys and values are written. May write other tokens of this layer's cache. If
  // `kept` is filled with ascending row indices, all rows' keys and values are still written, and
  // then only the kept rows go on, through this layer's attention and all later layers.
  virtual Status OnKeysAndValues(const LayerRows& rows, std::vector<int32_t>* kept) = 0;

  // Before the attention of this layer.
  virtual Status OnQueries(const LayerQueries& queries) = 0;
};

struct ForwardParams {
  std::span<const int32_t> tokens;     // [num_rows], each in [0, vocab_size)
  std::span<const int32_t> positions;  // [num_rows], ascending, below the cache's capacity
  // The last `num_logit_rows` rows get logits. They must not be cut by an observer.
  int32_t num_logit_rows = 1;
  // 0: all layers. With fewer than all of them, num_logit_rows must be 0.
  int32_t num_layers = 0;
  LayerObserver* observer = nullptr;    // may be null
  const CancelToken* cancel = nullptr;  // may be null; looked at once a layer
};

struct TransformerOptions {
  // kBf16 where the CPU is fast at it; kF32 otherwise and for exact comparisons. kInt8 rounds the
  // rows and weights of products with several rows to 8 bits, but for queries, keys and values; all
  // else is as with kBf16.
  kernels::ComputeType compute = kernels::ComputeType::kBf16;
  // How much working memory of earlier requests is kept for the next ones. The system may take its
  // pages when it needs them.
  int64_t idle_bytes_max = int64_t{512} << 20;
};

struct TransformerMemory {
  int64_t packed_bytes = 0;  // weights packed for products with many rows
  int64_t mapped_bytes = 0;  // the model file, read in place
};

class Transformer {
 public:
  // Packs the weights. Takes about a second per GB of weights.
  // Errors: those of ModelConfig::FromGguf; kCorruption with the tensor's name if one is missing or
  // has another shape; kResourceExhausted; kCancelled.
  static Result<std::unique_ptr<Transformer>> Load(const GgufFile& file,
                                                   const TransformerOptions& options,
                                                   ThreadPool* pool);
  ~Transformer();
  Transformer(const Transformer&) = delete;
  Transformer& operator=(const Transformer&) = delete;

  const ModelConfig& config() const;
  kernels::ComputeType compute() const;
  // The type in which a KvCache for this model keeps its values.
  kernels::KvType kv_type() const;
  TransformerMemory memory() const;
  // The rotation of this layer's queries and keys; lives as long as the Transformer.
  const kernels::RopeTable& rope(int32_t layer) const;
  ThreadPool* pool() const;
  // Where requests get their large arrays; never null.
  const std::shared_ptr<MemoryPool>& memory_pool() const;

  // Runs the rows through all layers and returns logits [num_logit_rows, vocab_size].
  // Errors: kInvalidArgument for a token, a position or a count out of range; kCancelled;
  // kResourceExhausted if memory runs out; what the observer returns. The cache's content at the
  // rows' positions is unspecified after an error.
  Result<std::vector<float>> Forward(const ForwardParams& params, KvCache* cache) const;

 private:
  struct State;
  explicit Transformer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace intarsia::model
