// The definition of AttentionRows and AttentionMass: element by element, in double.
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "kernels/attention_plan.h"
#include "kernels/attention_rows.h"
#include "kernels/convert.h"

namespace intarsia::kernels {
namespace {

double Element(const KvLayer& layer, const void* elements, int64_t offset) {
  if (layer.type == KvType::kF32) return static_cast<const float*>(elements)[offset];
  return Bf16ToF32(static_cast<const uint16_t*>(elements)[offset]);
}

// The keys that a row sees.
struct Visible {
  int64_t begin;
  int64_t end;
};

Visible VisibleKeys(const AttentionRowsParams& params, int64_t row) {
  const int64_t end = int64_t{params.positions[row]} + 1;
  const bool is_cut = params.window > 0 && end > params.window;
  return {is_cut ? end - params.window : 0, end};
}

// softmax_t(u) of one row and head, for its visible keys.
std::vector<double> Probabilities(const AttentionRowsParams& params, int64_t row, int64_t head) {
  const KvLayer& layer = params.layer;
  const int64_t kv_head = head / (params.num_heads / layer.num_kv_heads);
  const float* const q = params.q + (row * params.num_heads + head) * layer.head_dim;
  std::vector<double> scores;
  double max = -std::numeric_limits<double>::infinity();
  const Visible keys = VisibleKeys(params, row);
  for (int64_t key = keys.begin; key < keys.end; ++key) {
    double score = 0.0;
    for (int64_t i = 0; i < layer.head_dim; ++i) {
      score += double{q[i]} * Element(layer, layer.k, KOffset(layer, kv_head, key, i));
    }
    score *= params.scale;
    if (params.logit_softcap > 0.0F) {
      score = params.logit_softcap * std::tanh(score / params.logit_softcap);
    }
    max = std::fmax(max, score);
    scores.push_back(score);
  }
  double sum = 0.0;
  for (double& score : scores) {
    score = std::exp(score - max);
    sum += score;
  }
  for (double& score : scores) score /= sum;
  return scores;
}

}  // namespace

Status AttentionRowsReference(const AttentionRowsParams& params) {
  INTARSIA_RETURN_IF_ERROR(CheckAttentionRows(params));
  if (params.num_rows == 0) return Status::Ok();
  if (params.output == nullptr) return Status(StatusCode::kInvalidArgument, "output is null");
  const KvLayer& layer = params.layer;
  for (int64_t row = 0; row < params.num_rows; ++row) {
    for (int64_t head = 0; head < params.num_heads; ++head) {
      const int64_t kv_head = head / (params.num_heads / layer.num_kv_heads);
      const int64_t first_key = VisibleKeys(params, row).begin;
      std::vector<double> sums(static_cast<size_t>(layer.head_dim), 0.0);
      int64_t key = first_key;
      for (const double p : Probabilities(params, row, head)) {
        for (int64_t i = 0; i < layer.head_dim; ++i) {
          sums[static_cast<size_t>(i)] +=
              p * Element(layer, layer.v, VOffset(layer, kv_head, key, i));
        }
        ++key;
      }
      float* const output = params.output + (row * params.num_heads + head) * layer.head_dim;
      for (int64_t i = 0; i < layer.head_dim; ++i) {
        output[i] = static_cast<float>(sums[static_cast<size_t>(i)]);
      }
    }
  }
  return Status::Ok();
}

Status AttentionMassReference(const AttentionMassParams& params) {
  INTARSIA_RETURN_IF_ERROR(CheckAttentionMass(params));
  const AttentionRowsParams& rows = params.rows;
  std::vector<double> mass(static_cast<size_t>(params.num_keys), 0.0);
  for (int64_t row = 0; row < rows.num_rows; ++row) {
    if (params.weights[row] == 0.0F) continue;
    for (int64_t head = 0; head < rows.num_heads; ++head) {
      auto key = static_cast<size_t>(VisibleKeys(rows, row).begin);
      for (const double p : Probabilities(rows, row, head)) {
        mass[key++] += params.weights[row] * p / rows.num_heads;
      }
    }
  }
  for (int64_t key = 0; key < params.num_keys; ++key) {
    params.mass[key] = static_cast<float>(params.mass[key] + mass[static_cast<size_t>(key)]);
  }
  return Status::Ok();
}

}  // namespace intarsia::kernels
