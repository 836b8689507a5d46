// A model on a device beside the same one on the CPU, for tests that compare them.
#pragma once

#include <cstdint>
#include <memory>
#include <numeric>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "base/check.h"
#include "base/thread_pool.h"
#include "kernels/device.h"
#include "model/cuda_forward.h"
#include "model/cuda_transformer.h"
#include "model/device_kv.h"
#include "model/transformer.h"

namespace intarsia::model {

inline std::vector<int32_t> PositionsFrom(int32_t begin, size_t count) {
  std::vector<int32_t> positions(count);
  std::iota(positions.begin(), positions.end(), begin);
  return positions;
}

// Takes the value of a result that a test cannot go on without.
template <typename T>
T Take(Result<T> result) {
  if (!result.ok()) ADD_FAILURE() << result.status();
  INTARSIA_CHECK(result.ok());
  return *std::move(result);
}

class DeviceModel {
 public:
  static constexpr int64_t kRowsMax = 512;

  explicit DeviceModel(const GgufFile& file, const CudaTransformerOptions& options = {})
      : cpu(Take(Transformer::Load(file, {.compute = kernels::ComputeType::kF32}, &pool))),
        cuda(Take(CudaTransformer::Load(file, /*device=*/0, &pool, options))),
        stream(Take(kernels::DeviceStream::Create(kernels::StreamPriority::kNormal))),
        kv_pool(Take(DeviceKvPool::Create(
            cuda->config(), {.budget_bytes = int64_t{64} << 20, .num_requests_max = 4},
            stream.get()))),
        forward(Take(CudaForward::Create(*cuda, {.num_rows_max = kRowsMax, .num_logit_rows_max = 4},
                                         stream.get()))) {}

  std::unique_ptr<KvCache> NewCpuCache(int64_t num_tokens) const {
    return Take(KvCache::Create(cpu->config(), cpu->kv_type(), num_tokens));
  }

  // Runs the layers from `first_layer` on and returns [num_logit_rows, vocab_size].
  std::vector<float> Finish(int32_t first_layer, int64_t num_logit_rows) {
    for (const Status& status : {forward->RunLayers(first_layer, num_logit_rows),
                                 forward->ComputeLogits(num_logit_rows)}) {
      EXPECT_TRUE(status.ok()) << status;
    }
    return ReadLogits(num_logit_rows);
  }

  std::vector<float> Forward(const std::vector<int32_t>& tokens,
                             const std::vector<int32_t>& positions, const DeviceKv& kv,
                             int64_t num_logit_rows = 1) {
    const Status status = forward->Begin(tokens, positions, kv);
    EXPECT_TRUE(status.ok()) << status;
    return Finish(0, num_logit_rows);
  }

  std::vector<float> ReadLogits(int64_t num_rows) const {
    const int64_t stride = forward->logit_stride();
    const auto vocab_size = static_cast<size_t>(cuda->config().vocab_size);
    std::vector<float> padded(static_cast<size_t>(num_rows * stride));
    const auto num_bytes = static_cast<int64_t>(padded.size() * sizeof(float));
    EXPECT_TRUE(
        kernels::CopyToHost(padded.data(), forward->logits(), num_bytes, stream.get()).ok());
    const Status status = kernels::WaitFor(stream.get());
    EXPECT_TRUE(status.ok()) << status;
    std::vector<float> logits;
    for (int64_t row = 0; row < num_rows; ++row) {
      const auto begin = padded.begin() + row * stride;
      logits.insert(logits.end(), begin, begin + static_cast<std::ptrdiff_t>(vocab_size));
    }
    return logits;
  }

  ThreadPool pool{2};
  std::unique_ptr<Transformer> cpu;
  std::unique_ptr<CudaTransformer> cuda;
  kernels::DeviceStream stream;
  std::unique_ptr<DeviceKvPool> kv_pool;
  std::unique_ptr<CudaForward> forward;
};

}  // namespace intarsia::model
