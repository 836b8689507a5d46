#include "engine/fusion/cost_model.h"

#include <algorithm>

namespace intarsia::engine {
namespace {

// Weight of the newest request in the average.
constexpr double kNewest = 0.25;

// Requests smaller than these say more about fixed costs than about rates.
constexpr int64_t kRowsMin = 64;
constexpr int64_t kBytesMin = 1 << 20;

void Average(double value, double* average) {
  *average = *average < 0.0 ? value : (1.0 - kNewest) * *average + kNewest * value;
}

}  // namespace

void FusionCostModel::ObserveRows(int64_t num_rows, double milliseconds) {
  if (num_rows < kRowsMin) return;
  const std::scoped_lock lock(mutex_);
  Average(milliseconds / static_cast<double>(num_rows), &ms_per_row_);
}

void FusionCostModel::ObserveLoad(int64_t num_bytes, double milliseconds) {
  if (num_bytes < kBytesMin) return;
  const std::scoped_lock lock(mutex_);
  Average(milliseconds / static_cast<double>(num_bytes), &ms_per_byte_);
}

double FusionCostModel::PredictRowsMs(int64_t num_rows) const {
  const std::scoped_lock lock(mutex_);
  return ms_per_row_ < 0.0 ? -1.0 : ms_per_row_ * static_cast<double>(num_rows);
}

double FusionCostModel::PredictLoadMs(int64_t num_bytes) const {
  const std::scoped_lock lock(mutex_);
  return ms_per_byte_ < 0.0 ? -1.0 : ms_per_byte_ * static_cast<double>(num_bytes);
}

bool FusionCostModel::IsWorthLoading(int64_t num_bytes, int64_t num_tokens) const {
  const double rows_ms = PredictRowsMs(num_tokens);
  const double load_ms = PredictLoadMs(num_bytes);
  return rows_ms < 0.0 || load_ms < 0.0 || load_ms < rows_ms;
}

double FusionCostModel::RatioFor(double ratio_min, int64_t num_bytes, int64_t num_tokens) const {
  const double rows_ms = PredictRowsMs(num_tokens);
  const double load_ms = PredictLoadMs(num_bytes);
  if (rows_ms <= 0.0 || load_ms < 0.0) return ratio_min;
  return std::clamp(load_ms / rows_ms, ratio_min, 1.0);
}

}  // namespace intarsia::engine
