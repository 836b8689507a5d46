#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "kernels/half_float.h"
#include "kernels/kv_rotation.h"

namespace intarsia::kernels {
namespace {

constexpr float kHalfMax = 65504.0F;
constexpr float kScaleMin = 0x1p-24F;
constexpr uint16_t kHalfInfinity = 0x7C00;

// Partial sums, so that the order is one that vectors of up to 16 lanes can keep.
constexpr size_t kPartialSums = 16;

template <class Product>
float SumOf(const Product& product) {
  float sums[kPartialSums] = {};
  for (size_t i = 0; i < kKvGroupSize; i += kPartialSums) {
    for (size_t j = 0; j < kPartialSums; ++j) sums[j] += product(i + j);
  }
  float sum = 0.0F;
  for (const float partial : sums) sum += partial;
  return sum;
}

float SignOf(int64_t channel) {
  return (kRotationSigns >> (channel % kKvGroupSize) & 1) != 0 ? -1.0F : 1.0F;
}

template <class Number>
void Transform(Number* x) {
  for (int64_t distance = 1; distance < kKvGroupSize; distance *= 2) {
    for (int64_t i = 0; i < kKvGroupSize; ++i) {
      if ((i & distance) != 0) continue;
      const Number a = x[i];
      const Number b = x[i + distance];
      x[i] = a + b;
      x[i + distance] = a - b;
    }
  }
}

uint16_t ReadHalf(const uint8_t* bytes) {
  uint16_t half = 0;
  std::memcpy(&half, bytes, sizeof(half));
  return half;
}

// The byte and the shift of a channel's code in its row.
std::pair<int64_t, int> PlaceOf(int64_t channel) {
  const int64_t within = channel % kKvNibbleChannels;
  const int64_t half = kKvNibbleChannels / 2;
  return {channel / kKvNibbleChannels * half + within % half, within < half ? 0 : 4};
}

bool EncodeHalf(const EncodeKvParams& params, const KvPayloadLayout& layout, const float* numbers,
                uint8_t* parameters, uint8_t* rows) {
  std::vector<float> centres(static_cast<size_t>(params.width));
  for (int64_t channel = 0; channel < params.width; ++channel) {
    float sum = 0.0F;
    for (int64_t token = 0; token < params.num_tokens; ++token) {
      const float number = numbers[token * params.width + channel];
      if (!(std::fabs(number) <= kHalfMax)) return false;
      sum += number;
    }
    const float mean = sum / static_cast<float>(params.num_tokens);
    const uint16_t half =
        FloatToHalf(std::clamp(mean, -kHalfMax, kHalfMax) + 0.0F, HalfRounding::kDown);
    std::memcpy(parameters + 2 * channel, &half, sizeof(half));
    centres[static_cast<size_t>(channel)] = HalfToFloat(half);
  }
  for (int64_t token = 0; token < params.num_tokens; ++token) {
    for (int64_t group = 0; group < layout.num_value_groups; ++group) {
      float z[kKvGroupSize] = {};
      const int64_t begin = group * kKvGroupSize;
      for (int64_t i = 0; i < std::min(kKvGroupSize, params.width - begin); ++i) {
        const float number = numbers[token * params.width + begin + i];
        z[i] = (number - centres[static_cast<size_t>(begin + i)]) * SignOf(i);
      }
      Transform(z);
      for (float& coordinate : z) coordinate *= 0.125F;
      const float inverse = 1.0F / RotationSpread(z);
      uint8_t codes[kKvGroupSize];
      for (int64_t i = 0; i < kKvGroupSize; ++i) {
        const float scaled = z[i] * inverse;
        codes[i] = static_cast<uint8_t>(std::ranges::count_if(
            kRotationBoundaries, [&](float boundary) { return scaled > boundary; }));
        const auto [byte, shift] = PlaceOf(begin + i);
        uint8_t& target = rows[token * layout.row_bytes + byte];
        target = static_cast<uint8_t>(target | codes[i] << shift);
      }
      const uint16_t scale = RotationScale(z, codes);
      if (scale == kHalfInfinity) return false;
      std::memcpy(parameters + layout.scale_offset + 2 * (group * params.num_tokens + token),
                  &scale, sizeof(scale));
    }
  }
  return true;
}

}  // namespace

float RotationSpread(const float* z) {
  const float squares = SumOf([&](size_t i) { return z[i] * z[i]; });
  return std::max(std::sqrt(squares / static_cast<float>(kKvGroupSize)), kScaleMin);
}

uint16_t RotationScale(const float* z, const uint8_t* codes) {
  const float product = SumOf([&](size_t i) { return z[i] * kRotationCentroids[codes[i]]; });
  const float square =
      SumOf([&](size_t i) { return kRotationCentroids[codes[i]] * kRotationCentroids[codes[i]]; });
  const float scale = std::max(product / square, kScaleMin);
  if (!(scale <= kHalfMax)) return kHalfInfinity;
  return FloatToHalf(scale, HalfRounding::kDown);
}

bool EncodeRotatedKvReference(const EncodeKvParams& params, const KvPayloadLayout& layout) {
  return EncodeHalf(params, layout, params.k, params.payload + layout.key_parameters,
                    params.payload + layout.key_codes) &&
         EncodeHalf(params, layout, params.v, params.payload + layout.value_parameters,
                    params.payload + layout.value_codes);
}

void DecodeRotatedKvReference(const DecodeKvParams& params, const KvPayloadLayout& layout) {
  const bool is_key = params.half == KvHalf::kKey;
  const uint8_t* const parameters =
      params.payload + (is_key ? layout.key_parameters : layout.value_parameters);
  const uint8_t* const rows = params.payload + (is_key ? layout.key_codes : layout.value_codes);
  for (int64_t row = 0; row < params.count; ++row) {
    const int64_t token = params.begin + row;
    for (int64_t group = 0; group < layout.num_value_groups; ++group) {
      const int64_t begin = group * kKvGroupSize;
      const double scale = HalfToFloat(
          ReadHalf(parameters + layout.scale_offset + 2 * (group * params.num_tokens + token)));
      double z[kKvGroupSize];
      for (int64_t i = 0; i < kKvGroupSize; ++i) {
        const auto [byte, shift] = PlaceOf(begin + i);
        const int code = rows[token * layout.row_bytes + byte] >> shift & 15;
        z[i] = scale * kRotationCentroids[static_cast<size_t>(code)];
      }
      Transform(z);
      for (int64_t i = 0; i < std::min(kKvGroupSize, params.width - begin); ++i) {
        const double centre = HalfToFloat(ReadHalf(parameters + 2 * (begin + i)));
        params.target[row * params.width + begin + i] =
            static_cast<float>(centre + SignOf(i) * z[i] / 8);
      }
    }
  }
}

}  // namespace intarsia::kernels
