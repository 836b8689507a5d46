// Bound: compute; 2 * num_rows * num_inputs * num_outputs operations at 256 a cycle (two vpdpbusd).
// Design: a register tile of 6 rows x 64 outputs takes 4 inputs a step. Its 24 integer sums start
// from the offsets of their group and are scaled into f32 sums, which lie in the first-level cache,
// once a group: 24 additions beside 384 multiplications.
#include "kernels/int8_ops.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/int8_matrix.h"

// AVX3_DL stands for the CPUs that have AVX512_VNNI.
#define HWY_WANT_AVX3_DL
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/int8_ops.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace intarsia::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

constexpr float kCodeMax = 127.0F;
constexpr float kAbsMaxMin = 1e-30F;  // below, 127 / absmax might not be finite

float ValueAt(const Int8QuantizeParams& params, int64_t i) {
  if (params.x != nullptr) return params.x[i];
  const uint32_t bits = uint32_t{params.x_bf16[i]} << 16;
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

// The inputs [begin, end) of a row.
void QuantizeGroup(const Int8QuantizeParams& params, int64_t begin, int64_t end, float* step) {
  const hn::ScalableTag<float> d;
  const hn::RebindToSigned<decltype(d)> di;
  const hn::RebindToUnsigned<decltype(d)> du;
  const hn::Rebind<uint16_t, decltype(d)> d16;
  const hn::Rebind<uint8_t, decltype(d)> d8;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto load = [&](int64_t i) HWY_ATTR {
    if (params.x != nullptr) return hn::LoadU(d, params.x + i);
    const auto bits = hn::PromoteTo(du, hn::LoadU(d16, params.x_bf16 + i));
    return hn::BitCast(d, hn::ShiftLeft<16>(bits));
  };
  const int64_t vectors_end = begin + (end - begin) / lanes * lanes;
  auto max = hn::Zero(d);
  auto spoilt = hn::Zero(d);  // NaN where an input is not finite
  for (int64_t i = begin; i < vectors_end; i += lanes) {
    const auto x = load(i);
    max = hn::Max(max, hn::Abs(x));
    spoilt = hn::MulAdd(x, hn::Zero(d), spoilt);
  }
  float absmax = hn::GetLane(hn::MaxOfLanes(d, max));
  float not_finite = hn::GetLane(hn::SumOfLanes(d, spoilt));
  for (int64_t i = vectors_end; i < end; ++i) {
    absmax = std::max(absmax, std::fabs(ValueAt(params, i)));
    not_finite += ValueAt(params, i) * 0.0F;
  }
  if (not_finite != 0.0F) {
    *step = std::numeric_limits<float>::quiet_NaN();
    std::memset(params.codes + begin, 128, static_cast<size_t>(end - begin));
    return;
  }
  const bool is_zero = absmax < kAbsMaxMin;
  *step = is_zero ? 0.0F : absmax / kCodeMax;
  const float inverse = is_zero ? 0.0F : kCodeMax / absmax;
  for (int64_t i = begin; i < vectors_end; i += lanes) {
    const auto codes =
        hn::Add(hn::NearestInt(hn::Mul(load(i), hn::Set(d, inverse))), hn::Set(di, 128));
    hn::StoreU(hn::DemoteTo(d8, codes), d8, params.codes + i);
  }
  for (int64_t i = vectors_end; i < end; ++i) {
    params.codes[i] = static_cast<uint8_t>(std::lrintf(ValueAt(params, i) * inverse) + 128);
  }
}

void Quantize(const Int8QuantizeParams& params) {
  float* step = params.steps;
  for (int64_t begin = 0; begin < params.num_inputs; begin += kInt8GroupInputs) {
    QuantizeGroup(params, begin, std::min(begin + kInt8GroupInputs, params.num_inputs), step++);
  }
  for (int64_t i = params.num_inputs; i % 4 != 0; ++i) params.codes[i] = 128;
}

#if HWY_TARGET == HWY_AVX3_DL
constexpr int kRowsMax = 6;
constexpr int kVectors = 4;

template <int kRows>
HWY_NOINLINE void MultiplyRows(const Int8TileParams& params, int64_t first_row) {
  const Int8TileParams p = params;  // The stores below could alias the original.
  const uint8_t* a = p.codes + first_row * p.row_bytes;
  const int8_t* b = p.panel_codes;
  alignas(64) float sums[kRows][kInt8PanelOutputs];
#pragma GCC unroll 8
  for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; ++j) _mm512_store_ps(sums[row] + 16 * j, _mm512_setzero_ps());
  }
  for (int64_t group = 0; group < p.num_groups; ++group) {
    const int32_t* const offsets = p.panel_offsets + group * kInt8PanelOutputs;
    __m512i products[kRows][kVectors];
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; ++j) {
      const __m512i offset = _mm512_loadu_si512(offsets + 16 * j);
#pragma GCC unroll 8
      for (int row = 0; row < kRows; ++row) products[row][j] = offset;
    }
    const int64_t end = HWY_MIN((group + 1) * kInt8GroupInputs, p.row_bytes);
    for (int64_t k = group * kInt8GroupInputs; k < end; k += 4) {
      __m512i weights[kVectors];
#pragma GCC unroll 8
      for (int j = 0; j < kVectors; ++j) weights[j] = _mm512_loadu_si512(b + 64 * j);
#pragma GCC unroll 8
      for (int row = 0; row < kRows; ++row) {
        int32_t word;
        std::memcpy(&word, a + row * p.row_bytes, sizeof(word));
        const __m512i x = _mm512_set1_epi32(word);
#pragma GCC unroll 8
        for (int j = 0; j < kVectors; ++j) {
          // Written out because Highway's target does not name AVX512_VNNI to the compiler.
          asm("vpdpbusd %2, %1, %0" : "+v"(products[row][j]) : "v"(x), "v"(weights[j]));
        }
      }
      a += 4;
      b += kInt8PanelOutputs * 4;
    }
    const float* const steps = p.panel_steps + group * kInt8PanelOutputs;
#pragma GCC unroll 8
    for (int row = 0; row < kRows; ++row) {
      const __m512 step = _mm512_set1_ps(p.steps[(first_row + row) * p.num_groups + group]);
#pragma GCC unroll 8
      for (int j = 0; j < kVectors; ++j) {
        const __m512 scaled =
            _mm512_mul_ps(_mm512_cvtepi32_ps(products[row][j]), _mm512_loadu_ps(steps + 16 * j));
        float* const sum = sums[row] + 16 * j;
        _mm512_store_ps(sum, _mm512_fmadd_ps(scaled, step, _mm512_load_ps(sum)));
      }
    }
  }
  for (int row = 0; row < kRows; ++row) {
    float* const y = p.y + (first_row + row) * p.y_stride;
    for (int64_t j = 0; j < p.num_outputs; j += 16) {
      const int64_t count = HWY_MIN(p.num_outputs - j, 16);
      const auto mask = static_cast<__mmask16>((1U << count) - 1);
      __m512 sum = _mm512_load_ps(sums[row] + j);
      if (p.bias != nullptr) sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask, p.bias + j));
      _mm512_mask_storeu_ps(y + j, mask, sum);
    }
  }
}

void MultiplyTile(const Int8TileParams& params) {
  int64_t row = 0;
  for (; row + kRowsMax <= params.num_rows; row += kRowsMax) MultiplyRows<kRowsMax>(params, row);
  switch (params.num_rows - row) {
    case 5:
      return MultiplyRows<5>(params, row);
    case 4:
      return MultiplyRows<4>(params, row);
    case 3:
      return MultiplyRows<3>(params, row);
    case 2:
      return MultiplyRows<2>(params, row);
    case 1:
      return MultiplyRows<1>(params, row);
    default:
      return;
  }
}
#else
// Any CPU: right, and as fast as the compiler makes it.
void MultiplyTile(const Int8TileParams& params) {
  for (int64_t row = 0; row < params.num_rows; ++row) {
    float sums[kInt8PanelOutputs] = {};
    for (int64_t group = 0; group < params.num_groups; ++group) {
      int32_t products[kInt8PanelOutputs];
      std::copy_n(params.panel_offsets + group * kInt8PanelOutputs, kInt8PanelOutputs, products);
      const int64_t end = std::min((group + 1) * kInt8GroupInputs, params.row_bytes);
      for (int64_t k = group * kInt8GroupInputs; k < end; k += 4) {
        const uint8_t* const x = params.codes + row * params.row_bytes + k;
        const int8_t* const weights = params.panel_codes + k * kInt8PanelOutputs;
        for (int64_t j = 0; j < kInt8PanelOutputs; ++j) {
          for (int64_t i = 0; i < 4; ++i) products[j] += int32_t{x[i]} * weights[4 * j + i];
        }
      }
      const float step = params.steps[row * params.num_groups + group];
      const float* const steps = params.panel_steps + group * kInt8PanelOutputs;
      for (int64_t j = 0; j < kInt8PanelOutputs; ++j) {
        sums[j] += static_cast<float>(products[j]) * steps[j] * step;
      }
    }
    float* const y = params.y + row * params.y_stride;
    for (int64_t j = 0; j < params.num_outputs; ++j) {
      y[j] = params.bias != nullptr ? sums[j] + params.bias[j] : sums[j];
    }
  }
}
#endif

}  // namespace HWY_NAMESPACE
}  // namespace intarsia::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace intarsia::kernels {

HWY_EXPORT(Quantize);
HWY_EXPORT(MultiplyTile);

void Int8Quantize(const Int8QuantizeParams& params) { HWY_DYNAMIC_DISPATCH(Quantize)(params); }
void Int8MultiplyTile(const Int8TileParams& params) { HWY_DYNAMIC_DISPATCH(MultiplyTile)(params); }

}  // namespace intarsia::kernels
#endif  // HWY_ONCE
