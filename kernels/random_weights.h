// RandomWeights: normal numbers in bf16, made where they are needed, for measuring with weights
// that no file holds. (Zeros would flatter: a device runs them faster.)
//
// Thread safety: all functions may be called concurrently on distinct outputs.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "kernels/stream.h"

namespace intarsia::kernels {

// A device pointer for the CUDA form and a host pointer for the reference.
struct RandomWeightsParams {
  uint16_t* y = nullptr;  // [size] bf16 bits, 16-byte aligned
  int64_t size = 0;       // 0 does nothing; a multiple of 8
  float deviation = 1.0F;
  uint64_t seed = 0;  // the same seed gives the same numbers
};

// Enqueues the work on `stream` and returns without waiting. Numbers have mean 0 and are sums of
// four uniform ones, which is close to normal and stays within 3.5 deviations.
// Errors: kInvalidArgument for a null or misaligned pointer or a size out of range; kInternal if
// the launch fails.
Status RandomWeightsCuda(const RandomWeightsParams& params, Stream stream);

// The definition, bit for bit.
Status RandomWeightsReference(const RandomWeightsParams& params);

// The errors of both forms.
Status CheckRandomWeights(const RandomWeightsParams& params);

}  // namespace intarsia::kernels
