// CudaDecoder: one token after the other for up to 32 requests at once, on a device.
//
// A step runs one row of each request through the model, samples each row's next token and leaves
// tokens and positions where the next step reads them, so that steps follow each other without the
// host. The second step of a batch's shape is recorded as a graph and replayed from then on: what a
// shape is, the number of rows and the bound on positions, is rounded up to few values. A shape
// that cannot be recorded is launched kernel by kernel, which gives the same tokens, and logged
// once.
//
// Thread safety: owned by one thread.
// Lifetime: the CudaTransformer, the pool and the stream must outlive it, and the DeviceKvs of a
// batch its steps.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "base/result.h"
#include "kernels/sample_rows.h"
#include "kernels/stream.h"
#include "model/cuda_transformer.h"
#include "model/device_kv.h"

namespace intarsia::model {

struct CudaDecoderOptions {
  int32_t batch_max = 1;       // requests at once, in [1, 32]
  int64_t num_tokens_max = 0;  // of one request: prompt and answer
  // With a batch of 1: each step also adds up what its token attends to in the layers from this one
  // on (attention()).
  std::optional<int32_t> first_observed_layer = {};
};

// A request in a batch.
struct CudaDecodeRow {
  const DeviceKv* kv = nullptr;   // from the decoder's pool; holds all keys before `position`
  int32_t token = 0;              // not yet in `kv`
  int32_t position = 0;           // of `token`
  kernels::SampleRule rule = {};  // `position` numbers the draw
};

class CudaDecoder {
 public:
  static constexpr int32_t kBatchMax = 32;

  // Errors: kInvalidArgument for an option out of its range; kResourceExhausted.
  static Result<std::unique_ptr<CudaDecoder>> Create(const CudaTransformer& transformer,
                                                     const DeviceKvPool& pool,
                                                     const CudaDecoderOptions& options,
                                                     kernels::Stream stream);
  ~CudaDecoder();
  CudaDecoder(const CudaDecoder&) = delete;
  CudaDecoder& operator=(const CudaDecoder&) = delete;

  // Sets the batch that the following steps decode. To be called again when a request joins, ends
  // or gets more pages. Waits for the copies of the Begin before, which are long done.
  // Errors: kInvalidArgument for a number of rows, a token, a position or a rule out of range.
  Status Begin(std::span<const CudaDecodeRow> rows);

  // Enqueues a step: writes each row's keys and values and draws its next token.
  // Errors: kResourceExhausted if a row's position has no page: extend its DeviceKv and Begin anew;
  // those of CudaForward.
  Status Step();

  // Waits for the last step and returns the tokens that it drew, one a row, in the order of Begin;
  // -1 for a row whose logits hold no finite number. Valid until the next step.
  // REQUIRES: a step since the last Begin. Errors: kInternal with what went wrong on the device.
  Result<std::span<const int32_t>> Wait();

  // How much the token of the last step attends to each position up to its own: the sum over the
  // observed layers of the mean over heads. Longer than that, the rest is 0; empty if no layer is
  // observed. Valid between Wait and the next step.
  std::span<const float> attention() const;

 private:
  struct State;
  explicit CudaDecoder(std::unique_ptr<State> state);
  const std::unique_ptr<State> state_;
};

}  // namespace intarsia::model
