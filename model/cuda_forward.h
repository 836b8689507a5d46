// CudaForward: sparse-row forward passes on a device, step by step.
//
// The device's form of Transformer::Forward. A caller who wants no more than logits calls Begin,
// RunLayers and ComputeLogits. A fused prefill acts between the four steps of a layer
// instead, with kernels and events of its own on stream():
//
//   pass->Begin(...)                        rows: tokens at positions; embeds them
//   for each layer:
//     pass->ComputeQkv(layer)               norm, product, bias, norm of heads
//       here: rows() shows the rows' q, k and v, not rotated. Until Attend, write other tokens of
//       this layer's pages (load and place), and score the rows against what is there.
//     pass->PlaceKv(layer)                  rotates q and k; k and v go into the pages
//       here: pass->KeepRows(...) or KeepLastRows(...) lets only some rows go on; all rows' keys
//       and values are placed.
//     pass->Attend(layer)                   all keys up to a row's position must be placed by now
//       rows().q is rotated, before Attend and behind it: attention mass, or whatever else a query
//       can be asked.
//     pass->RunFfn(layer)                   output projection, residual, feed-forward block
//   pass->ComputeLogits(n)                  of the last n rows, which are all that the last layer
//                                           has to keep
//
// Every call enqueues work on stream() and returns without waiting or allocating. To make a
// step wait for a load on another stream, record an event there and DeviceEvent::HoldBack(stream())
// before the step; the other way round likewise. Where the host has decided everything in advance
// (positions, number of rows), a whole pass is enqueued before its first kernel has finished.
//
// Thread safety: owned by one thread, and used by one request at a time.
// Lifetime: the CudaTransformer and the stream must outlive it; the DeviceKv must outlive the work
// of its pass. Its end waits for that work.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "base/result.h"
#include "kernels/paged_kv.h"
#include "kernels/stream.h"
#include "model/cuda_transformer.h"
#include "model/device_kv.h"

namespace intarsia::model {

struct CudaForwardOptions {
  // The largest number of rows of a pass. Memory grows with it: about 36 KB a row for an 8B model,
  // 40 KB with products in fp8.
  int64_t num_rows_max = 0;
  int64_t num_logit_rows_max = 1;
};

// The rows of the current layer; all pointers are device pointers, all elements bf16 bits.
struct CudaRows {
  int64_t num_rows = 0;
  const int32_t* positions = nullptr;  // [num_rows], ascending
  // [num_rows, q_size], rows `q_stride` elements apart. Between ComputeQkv and PlaceKv not rotated;
  // between PlaceKv and RunFfn rotated, not scaled.
  uint16_t* q = nullptr;
  int64_t q_stride = 0;
  // [num_rows, kv_size], rows `kv_stride` elements apart, never rotated, after bias and norm of
  // heads. Valid between ComputeQkv and Attend; not cut by KeepRows.
  const uint16_t* k = nullptr;
  const uint16_t* v = nullptr;
  int64_t kv_stride = 0;
};

// Rows that are known on the device only.
struct CudaRowsOnDevice {
  const int32_t* tokens = nullptr;     // [num_rows], each in [0, vocab_size)
  const int32_t* positions = nullptr;  // [num_rows], ascending, each in [0, max_position]
  int64_t num_rows = 0;
  int64_t max_position = 0;  // below the capacity; all keys up to it must be placed at Attend
};

// The rows of one of several requests.
struct CudaRequestRows {
  int64_t num_rows = 0;      // > 0
  int64_t max_position = 0;  // of them
};

// Rows of several requests: one each, as batched decoding has them, or the runs that `requests`
// names.
struct CudaBatchOnDevice {
  const DeviceKvPool* pool = nullptr;
  const int32_t* tokens = nullptr;       // [num_rows]
  const int32_t* positions = nullptr;    // [num_rows], in any order, each in [0, max_position]
  const int32_t* page_tables = nullptr;  // [num_rows, page_table_stride], pages of `pool`
  int64_t page_table_stride = 0;         // > 0, and enough for max_position
  int64_t num_rows = 0;
  int64_t max_position = 0;
  // Empty: each row is a request. Else the requests' rows follow one another, the positions of each
  // ascend, and its rows have equal page tables; valid until the pass is over.
  std::span<const CudaRequestRows> requests = {};
};

class CudaForward {
 public:
  // Allocates the working memory on `stream`, where all passes will run.
  // Errors: kInvalidArgument for a count out of range, kResourceExhausted.
  static Result<std::unique_ptr<CudaForward>> Create(const CudaTransformer& transformer,
                                                     const CudaForwardOptions& options,
                                                     kernels::Stream stream);
  ~CudaForward();
  CudaForward(const CudaForward&) = delete;
  CudaForward& operator=(const CudaForward&) = delete;

  // Starts a pass over rows whose tokens and positions the host knows; they are copied before this
  // returns. Positions ascend below kv.capacity().
  // Errors: kInvalidArgument for a token, position or count out of range.
  Status Begin(std::span<const int32_t> tokens, std::span<const int32_t> positions,
               const DeviceKv& kv);

  // The same where they are on the device and are read there. Their values are the caller's
  // promise; a token out of range embeds as zeros.
  // Errors: kInvalidArgument for a count or max_position out of range.
  Status BeginOnDevice(const CudaRowsOnDevice& rows, const DeviceKv& kv);

  // The same for rows of several requests. Every array on the device is the caller's promise.
  // Errors: kInvalidArgument for a null pointer, a count or a max_position out of range.
  Status BeginBatch(const CudaBatchOnDevice& batch);

  // The four steps of a layer, in this order, for layers 0, 1, ... REQUIRES: that order.
  // Errors: kInternal if a launch fails, kUnsupported for a shape without a kernel,
  // kResourceExhausted if attention's scratch memory has to grow and cannot.
  Status ComputeQkv(int32_t layer);
  Status PlaceKv(int32_t layer);
  // Attend also writes the log-sum-exp of each row's scores to `lse` [num_rows, num_heads], on the
  // device, unless that is null.
  Status Attend(int32_t layer, float* lse = nullptr);
  Status RunFfn(int32_t layer);
  // All four.
  Status RunLayer(int32_t layer);
  // All layers from `first_layer` on, the last one as KeepLastRows has it for ComputeLogits.
  Status RunLayers(int32_t first_layer, int64_t num_logit_rows);

  // Between PlaceKv and Attend: only the rows `kept` [num_kept] go on, ascending indices on the
  // device, which are the caller's promise.
  // Errors: kInvalidArgument for a count below 1 or above the number of rows.
  Status KeepRows(const int32_t* kept, int64_t num_kept);

  // At least the last `num_kept` rows go on; in a pass of one request, which is what it is for, and
  // where they are no more than half of the rows, no others. What the last layer of a pass computes
  // of rows without logits is read by nobody.
  // Errors: kInvalidArgument for a count below 1 or above the number of rows.
  Status KeepLastRows(int64_t num_kept);

  // After the last layer: logits() of the last `num_logit_rows` rows.
  // Errors: kInvalidArgument for a count below 1 or above the options' or the number of rows.
  Status ComputeLogits(int64_t num_logit_rows);

  CudaRows rows() const;
  const float* logits() const;   // on the device, [num_logit_rows, logit_stride()]
  int64_t logit_stride() const;  // vocab_size rounded up
  kernels::Stream stream() const;
  int64_t num_bytes() const;  // working memory on the device

 private:
  struct State;
  explicit CudaForward(std::unique_ptr<State> state);
  const std::unique_ptr<State> state_;
};

}  // namespace intarsia::model
