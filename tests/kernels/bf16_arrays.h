// Arrays for the tests and benchmarks of CUDA forms: bf16 on the host, constants on the device.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/convert.h"
#include "tests/kernels/device_array.h"
#include "tests/kernels/random_floats.h"

namespace intarsia::kernels {

inline constexpr uint16_t kBf16Nan = 0x7fff;

inline std::vector<uint16_t> ToBf16(const std::vector<float>& floats) {
  std::vector<uint16_t> bits(floats.size());
  F32ToBf16(floats.data(), static_cast<int64_t>(floats.size()), bits.data());
  return bits;
}

inline std::vector<float> ToFloats(const std::vector<uint16_t>& bits) {
  std::vector<float> floats(bits.size());
  Bf16ToF32(bits.data(), static_cast<int64_t>(bits.size()), floats.data());
  return floats;
}

inline std::vector<uint16_t> RandomBf16(int64_t size, uint32_t seed, float deviation = 1.0F) {
  return ToBf16(RandomFloats(size, seed, deviation));
}

template <typename T>
DeviceArray<T> FilledOnDevice(int64_t size, T value) {
  return DeviceArray<T>(std::vector<T>(static_cast<size_t>(size), value));
}

}  // namespace intarsia::kernels
