// CudaTransformer: the weights of a decoder-only language model on a device, in bf16 or e4m3.
//
// The device's form of Transformer: the same families, driven by the same ModelConfig. The forward
// pass itself is CudaForward, one per request at a time; both enqueue work and never wait for it.
//
// Thread safety: immutable once created; any number of CudaForward may share it.
// Lifetime: must outlive every CudaForward made from it.
#pragma once

#include <cstdint>
#include <memory>

#include "base/result.h"
#include "base/thread_pool.h"
#include "kernels/device_matrix.h"
#include "kernels/rope.h"
#include "kernels/rope_digits.h"
#include "model/gguf.h"
#include "model/model_config.h"

namespace intarsia::model {

struct CudaWeights;  // model/cuda_weights.h

// Positions that a device can rotate.
inline constexpr int64_t kCudaPositionsMax = int64_t{1} << 20;

enum class CudaCompute : uint8_t { kBf16 = 0, kFp8 = 1 };

// The products of a layer that kFp8 is about. Those of queries, keys and values are a ninth of the
// arithmetic, and a quarter of what fp8 costs a small model's answers.
enum class Fp8Products : uint8_t { kAll = 0, kAllButQkv = 1 };

struct CudaTransformerOptions {
  // How the products of layers are computed. kFp8: weights in e4m3 with a scale an output, rows
  // with a scale a row (docs/kernels/fp8_products.md). Norms, attention, the embedding and the head
  // stay as they are.
  CudaCompute compute = CudaCompute::kBf16;
  // Of kFp8: passes with fewer rows, such as decoding, use bf16 weights, which are kept for them
  // beside those in e4m3: 3 bytes a weight. Up to 1: all passes use e4m3, which takes 1 byte.
  int64_t fp8_rows_min = 64;
  Fp8Products fp8_products = Fp8Products::kAll;
  kernels::Fp8Sums fp8_sums = kernels::Fp8Sums::kF32;
};

class CudaTransformer {
 public:
  // Dequantises the file's weights, rounds them to bf16 and copies them to the device. Waits for
  // the copies. The file is not needed afterwards.
  // Errors: those of Transformer::Load and kernels::UseDevice; kResourceExhausted if the device's
  // memory does not suffice; kUnsupported for what the device has no kernel for, as for kFp8 before
  // compute capability 8.9.
  static Result<std::unique_ptr<CudaTransformer>> Load(const GgufFile& file, int32_t device,
                                                       ThreadPool* pool,
                                                       const CudaTransformerOptions& options = {});

  // A model of this shape with random weights made on the device, for measuring: normal numbers
  // scaled so that activations stay of order 1 through any number of layers. The same seed gives
  // the same weights. The embedding and the head are two matrices; no biases and no norms of heads.
  // Errors: as Load; kInvalidArgument for a shape that makes no sense.
  static Result<std::unique_ptr<CudaTransformer>> CreateRandom(
      const ModelConfig& config, int32_t device, uint64_t seed,
      const CudaTransformerOptions& options = {});

  ~CudaTransformer();
  CudaTransformer(const CudaTransformer&) = delete;
  CudaTransformer& operator=(const CudaTransformer&) = delete;

  const ModelConfig& config() const;
  int32_t device() const;
  CudaCompute compute() const;
  int64_t weight_bytes() const;  // on the device
  // The rotation of this layer's queries and keys; lives as long as the CudaTransformer.
  const kernels::RopeTable& rope(int32_t layer) const;
  // The same for kernels: device pointers, good for positions below kernels::RopeDigits' bound.
  const kernels::RopeDigits& rope_digits(int32_t layer) const;
  const CudaWeights& weights() const { return *weights_; }

 private:
  explicit CudaTransformer(std::unique_ptr<CudaWeights> weights);
  const std::unique_ptr<CudaWeights> weights_;
};

}  // namespace intarsia::model
