#include "kernels/rope_digits.h"

#include <cmath>
#include <string>

namespace intarsia::kernels {

Result<std::vector<float>> FillRopeDigits(const RopeTable& table, int64_t num_positions) {
  if (num_positions < 1 || num_positions > RopeTable::kPositionsMax) {
    return Status(StatusCode::kInvalidArgument,
                  "rope digits: bad number of positions: " + std::to_string(num_positions));
  }
  std::vector<float> digits;
  const auto append = [&](int64_t count, int64_t weight) {
    for (int64_t value = 0; value < count; ++value) {
      for (const double frequency : table.frequencies()) {
        const double angle = static_cast<double>(value * weight) * frequency;
        digits.push_back(static_cast<float>(std::cos(angle)));
        digits.push_back(static_cast<float>(std::sin(angle)));
      }
    }
  };
  append(kRopeDigitValues, 1);
  append(NumHighRopeDigits(num_positions), kRopeDigitValues);
  return digits;
}

}  // namespace intarsia::kernels
