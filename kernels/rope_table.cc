#include <cmath>
#include <numbers>
#include <string>
#include <utility>

#include "kernels/rope.h"

namespace intarsia::kernels {
namespace {

constexpr int64_t kDigitValues = 256;
constexpr int64_t kNumDigits = 3;
static_assert(RopeTable::kPositionsMax == kDigitValues * kDigitValues * kDigitValues,
              "the digits must cover every position");

bool IsPositive(double value) { return value > 0.0 && std::isfinite(value); }

Status CheckOptions(const RopeOptions& options) {
  std::string wrong;
  const auto num_pairs = static_cast<size_t>(options.rotary_dim / 2);
  if (options.rotary_dim < 2 || options.rotary_dim % 2 != 0 || options.rotary_dim > 65'536) {
    wrong = "rotary_dim must be even and in [2, 65536]";
  } else if (!IsPositive(options.base) || !IsPositive(options.factor)) {
    wrong = "base and factor must be positive";
  } else if (options.scaling == RopeScaling::kLlama3 &&
             (!IsPositive(options.low_freq_factor) || !std::isfinite(options.high_freq_factor) ||
              options.high_freq_factor <= options.low_freq_factor ||
              options.original_context <= 0)) {
    wrong = "llama3 scaling needs 0 < low_freq_factor < high_freq_factor and a context";
  } else if (!options.frequency_divisors.empty() &&
             options.frequency_divisors.size() != num_pairs) {
    wrong = "frequency divisors must be one a pair";
  }
  for (const float divisor : options.frequency_divisors) {
    if (!IsPositive(divisor)) wrong = "frequency divisors must be positive";
  }
  if (wrong.empty()) return Status::Ok();
  return {StatusCode::kInvalidArgument,
          "rope: " + wrong + ": rotary_dim=" + std::to_string(options.rotary_dim) + " base=" +
              std::to_string(options.base) + " factor=" + std::to_string(options.factor) +
              " divisors=" + std::to_string(options.frequency_divisors.size())};
}

// Waves much shorter than the original context keep their frequency, much longer ones are slowed
// down by `factor`, and those between are interpolated.
double ScaleLlama3(const RopeOptions& options, double frequency) {
  const double waves =
      static_cast<double>(options.original_context) * frequency / (2.0 * std::numbers::pi);
  if (waves < options.low_freq_factor) return frequency / options.factor;
  if (waves > options.high_freq_factor) return frequency;
  const double share =
      (waves - options.low_freq_factor) / (options.high_freq_factor - options.low_freq_factor);
  return (1.0 - share) * frequency / options.factor + share * frequency;
}

double Frequency(const RopeOptions& options, int32_t pair) {
  double frequency = std::pow(options.base, -2.0 * pair / options.rotary_dim);
  if (!options.frequency_divisors.empty()) {
    frequency /= double{options.frequency_divisors[static_cast<size_t>(pair)]};
  }
  switch (options.scaling) {
    case RopeScaling::kNone:
      break;
    case RopeScaling::kLinear:
      return frequency / options.factor;
    case RopeScaling::kLlama3:
      return ScaleLlama3(options, frequency);
  }
  return frequency;
}

}  // namespace

Result<std::unique_ptr<RopeTable>> RopeTable::Create(const RopeOptions& options) {
  INTARSIA_RETURN_IF_ERROR(CheckOptions(options));
  std::vector<double> frequencies;
  frequencies.reserve(static_cast<size_t>(options.rotary_dim / 2));
  for (int32_t pair = 0; pair < options.rotary_dim / 2; ++pair) {
    frequencies.push_back(Frequency(options, pair));
  }
  return std::unique_ptr<RopeTable>(new RopeTable(std::move(frequencies)));
}

RopeTable::RopeTable(std::vector<double> frequencies)
    : num_pairs_(static_cast<int32_t>(frequencies.size())), frequencies_(std::move(frequencies)) {
  cosines_.reserve(static_cast<size_t>(kNumDigits * kDigitValues * num_pairs_));
  sines_.reserve(cosines_.capacity());
  int64_t digit_weight = 1;
  for (int64_t digit = 0; digit < kNumDigits; ++digit, digit_weight *= kDigitValues) {
    for (int64_t value = 0; value < kDigitValues; ++value) {
      for (const double frequency : frequencies_) {
        const double angle = static_cast<double>(value * digit_weight) * frequency;
        cosines_.push_back(std::cos(angle));
        sines_.push_back(std::sin(angle));
      }
    }
  }
}

Status RopeTable::Fill(const int32_t* positions, int64_t num_tokens, float* cosines,
                       float* sines) const {
  if (num_tokens == 0) return Status::Ok();
  if (num_tokens < 0 || positions == nullptr || cosines == nullptr || sines == nullptr) {
    return {StatusCode::kInvalidArgument,
            "rope: bad size or null pointer: tokens=" + std::to_string(num_tokens)};
  }
  for (int64_t token = 0; token < num_tokens; ++token) {
    const int64_t position = positions[token];
    if (position < 0 || position >= kPositionsMax) {
      return {StatusCode::kInvalidArgument,
              "rope: position out of range: position=" + std::to_string(position) +
                  " max=" + std::to_string(kPositionsMax - 1)};
    }
    const int64_t low = position % kDigitValues * num_pairs_;
    const int64_t middle = (kDigitValues + position / kDigitValues % kDigitValues) * num_pairs_;
    const int64_t high = (2 * kDigitValues + position / kDigitValues / kDigitValues) * num_pairs_;
    const double* const c = cosines_.data();
    const double* const s = sines_.data();
    float* const cosine_row = cosines + token * num_pairs_;
    float* const sine_row = sines + token * num_pairs_;
    for (int64_t i = 0; i < num_pairs_; ++i) {
      const double c01 = c[low + i] * c[middle + i] - s[low + i] * s[middle + i];
      const double s01 = s[low + i] * c[middle + i] + c[low + i] * s[middle + i];
      cosine_row[i] = static_cast<float>(c01 * c[high + i] - s01 * s[high + i]);
      sine_row[i] = static_cast<float>(s01 * c[high + i] + c01 * s[high + i]);
    }
  }
  return Status::Ok();
}

}  // namespace intarsia::kernels
