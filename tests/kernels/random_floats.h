// RandomFloats: reproducible normal numbers for the tests and benchmarks of kernels.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

namespace intarsia::kernels {

// `size` numbers of mean 0 and the given standard deviation; the same seed gives the same ones.
inline std::vector<float> RandomFloats(int64_t size, uint32_t seed, float deviation = 1.0f) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.0f, deviation);
  std::vector<float> values(static_cast<size_t>(size));
  for (float& value : values) value = normal(generator);
  return values;
}

}  // namespace intarsia::kernels
