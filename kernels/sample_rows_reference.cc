#include <algorithm>
#include <string>
#include <vector>

#include "kernels/sample_draw.h"
#include "kernels/sample_rows.h"

namespace intarsia::kernels {
namespace {

constexpr int64_t kRowsMax = 65'535;
constexpr int64_t kVocabMax = int64_t{1} << 24;  // keeps the sum of weights within 64 bits
constexpr float kTemperatureMax = 10.0F;

int32_t SampleRow(const float* logits, int64_t vocab_size, const SampleRule& rule, int32_t step) {
  std::vector<int32_t> order;
  for (int64_t token = 0; token < vocab_size; ++token) {
    if (OrderOfLogit(logits[token]) != 0) order.push_back(static_cast<int32_t>(token));
  }
  if (order.empty()) return -1;
  std::ranges::sort(order, [&](int32_t a, int32_t b) {
    return RankOfToken(logits[a], a) > RankOfToken(logits[b], b);
  });
  const float largest = logits[order.front()];
  if (rule.temperature == 0.0F || largest == INFINITY) return order.front();
  if (rule.top_k > 0 && static_cast<size_t>(rule.top_k) < order.size()) {
    order.resize(static_cast<size_t>(rule.top_k));
  }
  const auto weight_of = [&](int32_t token) {
    return WeightOfLogit(logits[token], largest, rule.temperature);
  };
  uint64_t whole = 0;
  for (const int32_t token : order) whole += weight_of(token);
  if (rule.top_p < 1.0F) {
    const uint64_t wanted = WantedWeight(whole, rule.top_p);
    size_t num_kept = 0;
    whole = 0;
    while (whole < wanted) whole += weight_of(order[num_kept++]);
    order.resize(num_kept);
  }
  std::ranges::sort(order);
  const uint64_t drawn = ShareOf(whole, DrawNumber(rule.seed, step));
  uint64_t sum = 0;
  for (const int32_t token : order) {
    sum += weight_of(token);
    if (sum > drawn) return token;
  }
  return order.back();
}

}  // namespace

Status CheckSampleRule(const SampleRule& rule) {
  if (rule.temperature >= 0.0F && rule.temperature <= kTemperatureMax && rule.top_k >= 0 &&
      rule.top_p > 0.0F && rule.top_p <= 1.0F) {
    return Status::Ok();
  }
  return Status(StatusCode::kInvalidArgument,
                "sample rows: rule out of range: temperature=" + std::to_string(rule.temperature) +
                    " top_k=" + std::to_string(rule.top_k) +
                    " top_p=" + std::to_string(rule.top_p));
}

Status CheckSampleRows(const SampleRowsParams& params) {
  if (params.num_rows < 0 || params.num_rows > kRowsMax || params.vocab_size < 1 ||
      params.vocab_size > kVocabMax || params.stride < params.vocab_size) {
    return Status(StatusCode::kInvalidArgument,
                  "sample rows: out of range: num_rows=" + std::to_string(params.num_rows) +
                      " vocab_size=" + std::to_string(params.vocab_size) +
                      " stride=" + std::to_string(params.stride));
  }
  if (params.num_rows == 0) return Status::Ok();
  if (params.logits == nullptr || params.rules == nullptr || params.steps == nullptr ||
      params.tokens == nullptr) {
    return Status(StatusCode::kInvalidArgument, "sample rows: null pointer");
  }
  return Status::Ok();
}

Status SampleEachRow(const SampleRowsParams& params, SampleRowFunction* sample_row) {
  INTARSIA_RETURN_IF_ERROR(CheckSampleRows(params));
  for (int64_t row = 0; row < params.num_rows; ++row) {
    params.tokens[row] = sample_row(params.logits + row * params.stride, params.vocab_size,
                                    params.rules[row], params.steps[row]);
    if (params.next_steps != nullptr) params.next_steps[row] = params.steps[row] + 1;
  }
  return Status::Ok();
}

Status SampleRowsReference(const SampleRowsParams& params) {
  return SampleEachRow(params, SampleRow);
}

}  // namespace intarsia::kernels
