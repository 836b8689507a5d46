#include <string>
#include <vector>

#include "kernels/condition_covariance.h"

namespace intarsia::kernels {

Status CheckConditionCovariance(const ConditionCovarianceParams& params) {
  if (params.covariance == nullptr || params.weights == nullptr || params.square_sums == nullptr ||
      params.workspace == nullptr || params.size < 1 || params.stride < params.size ||
      params.pivot < 0 || params.pivot >= params.size || !(params.noise > 0.0f)) {
    return Status(StatusCode::kInvalidArgument,
                  "bad arguments to condition a covariance: size=" + std::to_string(params.size) +
                      " stride=" + std::to_string(params.stride) + " pivot=" +
                      std::to_string(params.pivot) + " noise=" + std::to_string(params.noise));
  }
  return Status::Ok();
}

Status ConditionCovarianceReference(const ConditionCovarianceParams& params) {
  INTARSIA_RETURN_IF_ERROR(CheckConditionCovariance(params));
  const auto at = [&](int64_t t, int64_t u) -> float& {
    return params.covariance[t * params.stride + u];
  };
  std::vector<double> column;
  for (int64_t t = 0; t < params.size; ++t) column.push_back(at(t, params.pivot));
  const double scale = 1.0 / (column[static_cast<size_t>(params.pivot)] + params.noise);
  for (int64_t u = 0; u < params.size; ++u) {
    double sum = 0.0;
    for (int64_t t = 0; t < params.size; ++t) {
      const double value =
          at(t, u) - column[static_cast<size_t>(t)] * column[static_cast<size_t>(u)] * scale;
      at(t, u) = static_cast<float>(value);
      sum += params.weights[t] * value * value;
    }
    params.square_sums[u] = static_cast<float>(sum);
  }
  return Status::Ok();
}

}  // namespace intarsia::kernels
