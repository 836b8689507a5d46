#include <cmath>
#include <string>
#include <vector>

#include "kernels/convert.h"
#include "kernels/propagation_weights.h"
#include "kernels/spd_solve.h"

namespace intarsia::kernels {
namespace {

constexpr int32_t kStrideMultiple = 16;  // the inner size of a matrix product

double Entry(const ShiftKernel& kernel, int64_t x, int64_t y) {
  const double distance = std::abs(static_cast<double>(x - y));
  return kernel.a * std::exp(-distance / kernel.t1) + kernel.b * std::exp(-distance / kernel.t2) +
         kernel.c;
}

// One chunk, factored.
struct Solved {
  std::vector<double> factor;  // R, [m, m]
  std::vector<double> one;     // R^-1 1
  std::vector<double> u;       // B^-1 1
  double sum_u = 0.0;          // 1^T u
};

SquareMatrix Factor(Solved* solved) {
  const auto m = static_cast<int64_t>(solved->one.size());
  return {.data = solved->factor.data(), .size = m, .stride = m};
}

Status Solve(const ShiftKernel& kernel, const PropagationChunk& chunk, const int32_t* rows,
             Solved* solved) {
  const int64_t m = chunk.num_rows;
  solved->factor.resize(static_cast<size_t>(m * m));
  solved->one.assign(static_cast<size_t>(m), 1.0);
  if (m == 0) return Status::Ok();
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < m; ++j) {
      solved->factor[static_cast<size_t>(i * m + j)] =
          Entry(kernel, rows[i], rows[j]) + (i == j ? double{kernel.noise} : 0.0);
    }
  }
  const RightHandSides one = {.data = solved->one.data(), .num_columns = 1, .stride = 1};
  INTARSIA_RETURN_IF_ERROR(Cholesky(Factor(solved)));
  INTARSIA_RETURN_IF_ERROR(SolveLower(Factor(solved), one));
  for (const double value : solved->one) solved->sum_u += value * value;
  solved->u = solved->one;
  return SolveLowerTransposed(Factor(solved),
                              {.data = solved->u.data(), .num_columns = 1, .stride = 1});
}

// Weights of one token; `sum_before` is 1^T u of the chunks that it sees beside the rows of its own
// that `order` shows.
Status Weigh(const ShiftKernel& kernel, PropagationOrder order, const PropagationChunk& chunk,
             const int32_t* rows, Solved* solved, double sum_before, int32_t token,
             uint16_t* weights) {
  const int64_t m = chunk.num_rows;
  std::vector<double> z(static_cast<size_t>(m));
  const RightHandSides column = {.data = z.data(), .num_columns = 1, .stride = 1};
  for (int64_t s = 0; s < m; ++s) z[static_cast<size_t>(s)] = Entry(kernel, rows[s], token);
  if (m > 0) INTARSIA_RETURN_IF_ERROR(SolveLower(Factor(solved), column));
  const bool is_causal = order == PropagationOrder::kCausal;
  double y_dot_one = 0.0;
  double sum = sum_before;
  for (int64_t s = 0; s < m; ++s) {
    const double one = solved->one[static_cast<size_t>(s)];
    if (is_causal && rows[s] > token) continue;
    y_dot_one += z[static_cast<size_t>(s)] * one;
    if (is_causal) sum += one * one;
  }
  const double gamma = kernel.c0 / (1.0 + kernel.c0 * sum);
  const double last = gamma * (1.0 - y_dot_one);
  for (int64_t s = 0; s < m && is_causal; ++s) {
    double& value = z[static_cast<size_t>(s)];
    value = rows[s] > token ? 0.0 : value + last * solved->one[static_cast<size_t>(s)];
  }
  if (m > 0) INTARSIA_RETURN_IF_ERROR(SolveLowerTransposed(Factor(solved), column));
  for (int64_t s = 0; s < chunk.weights_stride; ++s) {
    const double value = s < m ? z[static_cast<size_t>(s)] : s == m ? last : 0.0;
    weights[s] = F32ToBf16(static_cast<float>(value));
  }
  return Status::Ok();
}

Status RunHalf(const PropagationWeightsParams& params, const ShiftKernel& kernel, uint16_t* weights,
               float* u) {
  std::vector<Solved> solved(static_cast<size_t>(params.num_chunks));
  double sum_all = 0.0;
  for (int32_t index = 0; index < params.num_chunks; ++index) {
    const PropagationChunk& chunk = params.chunks[index];
    Solved& system = solved[static_cast<size_t>(index)];
    INTARSIA_RETURN_IF_ERROR(Solve(kernel, chunk, params.rows + chunk.first_row, &system));
    for (size_t s = 0; s < system.u.size(); ++s) {
      u[static_cast<size_t>(chunk.first_row) + s] = static_cast<float>(system.u[s]);
    }
    sum_all += system.sum_u;
  }
  double sum_before = 0.0;
  for (int32_t index = 0; index < params.num_chunks; ++index) {
    const PropagationChunk& chunk = params.chunks[index];
    Solved& system = solved[static_cast<size_t>(index)];
    const bool is_causal = params.order == PropagationOrder::kCausal;
    for (int32_t token = 0; token < chunk.num_tokens; ++token) {
      INTARSIA_RETURN_IF_ERROR(
          Weigh(kernel, params.order, chunk, params.rows + chunk.first_row, &system,
                is_causal ? sum_before : sum_all, token,
                weights + chunk.first_weight + int64_t{token} * chunk.weights_stride));
    }
    sum_before += system.sum_u;
  }
  return Status::Ok();
}

bool IsKernel(const ShiftKernel& kernel) {
  return kernel.noise > 0.0f && kernel.t1 > 0.0f && kernel.t2 > 0.0f && kernel.c0 >= 0.0f;
}

}  // namespace

Status MakePropagationLayout(std::span<const int32_t> segments, std::span<const int32_t> num_tokens,
                             std::span<const int32_t> num_rows, PropagationLayout* layout) {
  *layout = {};
  for (size_t index = 0; index < segments.size(); ++index) {
    PropagationChunk chunk = {.segment = segments[index],
                              .num_tokens = num_tokens[index],
                              .num_rows = num_rows[index],
                              .first_row = static_cast<int32_t>(layout->num_rows),
                              .first_weight = layout->num_weights,
                              .first_factor = layout->num_factors};
    const int64_t num_deltas = layout->num_rows + chunk.num_rows + static_cast<int64_t>(index) + 1;
    if (chunk.num_tokens < 1 || chunk.num_rows < 0 || chunk.num_rows > chunk.num_tokens ||
        num_deltas >= int64_t{1} << 31) {
      return {StatusCode::kInvalidArgument,
              "propagation: bad chunk: tokens=" + std::to_string(chunk.num_tokens) +
                  " rows=" + std::to_string(chunk.num_rows)};
    }
    chunk.first_delta = chunk.first_row + static_cast<int32_t>(index);
    chunk.weights_stride = (chunk.num_rows + kStrideMultiple) / kStrideMultiple * kStrideMultiple;
    layout->num_weights += int64_t{chunk.num_tokens} * chunk.weights_stride;
    layout->num_rows += chunk.num_rows;
    layout->num_factors += int64_t{chunk.num_rows} * chunk.num_rows;
    layout->num_rows_max = std::max(layout->num_rows_max, chunk.num_rows);
    for (int32_t first = 0; first < chunk.num_tokens; first += kPropagationTileTokens) {
      layout->tiles.push_back({.chunk = static_cast<int32_t>(index), .first = first});
    }
    layout->chunks.push_back(chunk);
  }
  return Status::Ok();
}

int64_t PropagationWorkspaceBytes(const PropagationLayout& layout) {
  // Inverse factors, R^-1 1, and 1^T u, of both halves.
  const int64_t num_floats =
      layout.num_factors + layout.num_rows + static_cast<int64_t>(layout.chunks.size());
  return 2 * num_floats * static_cast<int64_t>(sizeof(float));
}

Status CheckPropagationWeights(const PropagationWeightsParams& params) {
  std::string wrong;
  if (params.num_chunks < 0 || params.num_tiles < 0 || params.num_rows < 0 ||
      params.num_rows_max < 0 || params.num_factors < 0) {
    wrong = "a size is negative";
  } else if (params.num_chunks == 0) {
    return Status::Ok();
  } else if (params.chunks == nullptr || params.tiles == nullptr || params.rows == nullptr ||
             params.key_weights == nullptr || params.value_weights == nullptr ||
             params.key_u == nullptr || params.value_u == nullptr || params.workspace == nullptr) {
    wrong = "a pointer is null";
  } else if (!IsKernel(params.key) || !IsKernel(params.value)) {
    wrong = "noise and lengths must be positive";
  } else if (params.order != PropagationOrder::kTwoSided &&
             params.order != PropagationOrder::kCausal) {
    wrong = "unknown order";
  }
  if (wrong.empty()) return Status::Ok();
  return {StatusCode::kInvalidArgument, "propagation_weights: " + wrong +
                                            ": chunks=" + std::to_string(params.num_chunks) +
                                            " rows=" + std::to_string(params.num_rows)};
}

Status PropagationWeightsReference(const PropagationWeightsParams& params) {
  INTARSIA_RETURN_IF_ERROR(CheckPropagationWeights(params));
  INTARSIA_RETURN_IF_ERROR(RunHalf(params, params.key, params.key_weights, params.key_u));
  return RunHalf(params, params.value, params.value_weights, params.value_u);
}

}  // namespace intarsia::kernels
