#include <string>

#include "kernels/convert.h"
#include "kernels/device_pointer.h"
#include "kernels/random_draw.h"
#include "kernels/random_weights.h"

namespace intarsia::kernels {

Status CheckRandomWeights(const RandomWeightsParams& params) {
  if (params.size < 0 || params.size % 8 != 0 || params.size >= int64_t{1} << 40) {
    return Status(StatusCode::kInvalidArgument,
                  "random weights: size out of range: size=" + std::to_string(params.size));
  }
  if (params.size > 0 && !IsVectorAligned(params.y)) {
    return Status(StatusCode::kInvalidArgument, "random weights: null or misaligned pointer");
  }
  return Status::Ok();
}

Status RandomWeightsReference(const RandomWeightsParams& params) {
  INTARSIA_RETURN_IF_ERROR(CheckRandomWeights(params));
  for (int64_t i = 0; i < params.size; ++i) {
    params.y[i] = F32ToBf16(RandomWeightAt(params.seed, i, params.deviation));
  }
  return Status::Ok();
}

}  // namespace intarsia::kernels
