// GemvData: a problem of QuantizedGemv with its arrays, for tests and benchmarks.
//
// Thread safety: owned by one thread.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "base/aligned_array.h"
#include "kernels/quantized_gemv.h"
#include "tests/kernels/random_blocks.h"

namespace intarsia::kernels {

struct GemvData {
  GemvData(BlockType type, int64_t num_outputs, int64_t num_inputs, int64_t num_rows)
      : weights(RandomBlocks(type, num_outputs * num_inputs, 1.0F, /*seed=*/7)),
        x(num_rows * num_inputs),
        bias(num_outputs),
        y(num_rows * num_outputs) {
    std::mt19937 random(11);
    std::normal_distribution<float> normal;
    for (float& value : x.span()) value = normal(random);
    for (float& value : bias.span()) value = normal(random);
    for (float& value : y.span()) value = -1.0F;
    params = {.type = type,
              .weights = weights.data(),
              .num_outputs = num_outputs,
              .num_inputs = num_inputs,
              .x = x.data(),
              .bias = bias.data(),
              .y = y.data(),
              .num_rows = num_rows};
  }
  GemvData(GemvData&&) = delete;
  GemvData& operator=(GemvData&&) = delete;
  ~GemvData() = default;

  std::string weights;
  AlignedArray<float> x;
  AlignedArray<float> bias;
  AlignedArray<float> y;
  QuantizedGemvParams params;
};

}  // namespace intarsia::kernels
