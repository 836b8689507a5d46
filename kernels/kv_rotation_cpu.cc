// Bound: compute. A group of 64 numbers takes 6 x 64 additions beside its conversion; decoding
// reads .53 bytes a number and writes four.
// Design: a group stays in registers, four vectors of 16 lanes; partners within a vector are found
// by shuffles, and the sign of the difference is a factor, which an instruction applies with the
// addition. Where a vector has 16 lanes, one permutation finds the centroids.
#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/half_float.h"
#include "kernels/kv_rotation.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/kv_rotation_cpu.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/kv_groups.inc"

HWY_BEFORE_NAMESPACE();
namespace intarsia::kernels::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

constexpr int64_t kLanes = hn::MaxLanes(DF());
constexpr int64_t kVectors = kKvGroupSize / kLanes;

// 1 where the bit of `distance` in the lane is 0, else -1.
HWY_INLINE VF SideOf(int32_t distance) {
  const DI di;
  const auto bit = hn::And(hn::Iota(di, 0), hn::Set(di, distance));
  return hn::IfThenElse(hn::RebindMask(DF(), hn::Eq(bit, hn::Zero(di))), hn::Set(DF(), 1.0F),
                        hn::Set(DF(), -1.0F));
}

// H x, in place. Stages go from near partners to far ones, and every product is one by 1 or -1, so
// that all instruction sets agree to the bit.
HWY_INLINE void Transform(VF* HWY_RESTRICT x) {
#if HWY_TARGET != HWY_SCALAR
  const DF d;
  const VF side1 = SideOf(1);
  const VF side2 = SideOf(2);
  HWY_UNROLL(16)
  for (int64_t i = 0; i < kVectors; ++i) {
    VF v = hn::MulAdd(x[i], side1, hn::Shuffle2301(x[i]));
    v = hn::MulAdd(v, side2, hn::Shuffle1032(v));
    if constexpr (kLanes >= 8) {
      if constexpr (kLanes == 8) {
        v = hn::MulAdd(v, SideOf(4), hn::ConcatLowerUpper(d, v, v));
      } else {
#if HWY_TARGET <= HWY_AVX3
        v = hn::MulAdd(v, SideOf(4), hn::SwapAdjacentBlocks(v));
        v = hn::MulAdd(v, SideOf(8), hn::ConcatLowerUpper(d, v, v));
#endif
      }
    }
    x[i] = v;
  }
#endif
  HWY_UNROLL(8)
  for (int64_t distance = 1; distance < kVectors; distance *= 2) {
    HWY_UNROLL(16)
    for (int64_t i = 0; i < kVectors; ++i) {
      if ((i & distance) != 0) continue;
      const VF a = x[i];
      const VF b = x[i + distance];
      x[i] = hn::Add(a, b);
      x[i + distance] = hn::Sub(a, b);
    }
  }
}

struct Signs {
  HWY_ALIGN float values[kKvGroupSize];
  Signs() {
    for (int64_t i = 0; i < kKvGroupSize; ++i) {
      values[i] = (kRotationSigns >> i & 1) != 0 ? -1.0F : 1.0F;
    }
  }
};

// The centroids of codes from 0 to 15.
HWY_INLINE VF CentroidsOf(hn::Vec<DI> codes) {
  const DF d;
  const DI di;
#if HWY_TARGET <= HWY_AVX3
  const VF table = hn::LoadU(d, kRotationCentroids.data());
  return hn::TableLookupLanes(table, hn::IndicesFromVec(d, codes));
#elif HWY_TARGET == HWY_AVX2
  const auto indices = hn::IndicesFromVec(d, hn::And(codes, hn::Set(di, 7)));
  const VF low = hn::TableLookupLanes(hn::LoadU(d, kRotationCentroids.data()), indices);
  const VF high = hn::TableLookupLanes(hn::LoadU(d, kRotationCentroids.data() + 8), indices);
  return hn::IfThenElse(hn::RebindMask(d, hn::Gt(codes, hn::Set(di, 7))), high, low);
#else
  HWY_ALIGN int32_t indices[kLanes];
  HWY_ALIGN float numbers[kLanes];
  hn::Store(codes, di, indices);
  for (int64_t i = 0; i < kLanes; ++i) {
    numbers[i] = kRotationCentroids[static_cast<size_t>(indices[i])];
  }
  return hn::Load(d, numbers);
#endif
}

// One whole group. `target` has room for 64 numbers.
HWY_INLINE void DecodeGroup(const uint8_t* codes, float scale, const float* HWY_RESTRICT centres,
                            const Signs& signs, float* HWY_RESTRICT target) {
  const DF d;
  const DI di;
  const hn::Rebind<uint8_t, DF> d8;
  VF x[kVectors];
  HWY_UNROLL(2)
  for (int64_t unit = 0; unit < kKvGroupSize; unit += kKvNibbleChannels) {
    HWY_UNROLL(16)
    for (int64_t i = 0; i < kUnitHalf; i += kLanes) {
      const auto bytes = hn::PromoteTo(di, hn::LoadU(d8, codes + unit / 2 + i));
      x[(unit + i) / kLanes] = CentroidsOf(hn::And(bytes, hn::Set(di, 15)));
      x[(unit + kUnitHalf + i) / kLanes] = CentroidsOf(hn::ShiftRight<4>(bytes));
    }
  }
  Transform(x);
  const VF factor = hn::Set(d, scale * 0.125F);
  HWY_UNROLL(16)
  for (int64_t i = 0; i < kVectors; ++i) {
    const VF signed_factor = hn::Mul(factor, hn::Load(d, signs.values + i * kLanes));
    hn::StoreU(hn::MulAdd(x[i], signed_factor, hn::Load(d, centres + i * kLanes)), d,
               target + i * kLanes);
  }
}

float ReadHalf(const uint8_t* bytes) {
  uint16_t half = 0;
  std::memcpy(&half, bytes, sizeof(half));
  return HalfToFloat(half);
}

void Decode(const DecodeKvParams& params, const KvPayloadLayout& layout) {
  const bool is_key = params.half == KvHalf::kKey;
  const uint8_t* const parameters =
      params.payload + (is_key ? layout.key_parameters : layout.value_parameters);
  const uint8_t* const rows = params.payload + (is_key ? layout.key_codes : layout.value_codes);
  const int64_t row_bytes = layout.row_bytes;
  const int64_t width = params.width;
  const Signs signs;
  for (int64_t group = 0; group < layout.num_value_groups; ++group) {
    HWY_ALIGN float centres[kKvGroupSize] = {};
    HWY_ALIGN float whole[kKvGroupSize];
    const int64_t begin = group * kKvGroupSize;
    const int64_t count = std::min(kKvGroupSize, width - begin);
    for (int64_t i = 0; i < count; ++i) centres[i] = ReadHalf(parameters + 2 * (begin + i));
    const uint8_t* scales =
        parameters + layout.scale_offset + 2 * (group * params.num_tokens + params.begin);
    const uint8_t* codes = rows + params.begin * row_bytes + begin / 2;
    float* target = params.target + begin;
    for (int64_t row = 0; row < params.count; ++row) {
      const float scale = ReadHalf(scales);
      if (count == kKvGroupSize) {
        DecodeGroup(codes, scale, centres, signs, target);
      } else {
        DecodeGroup(codes, scale, centres, signs, whole);
        std::memcpy(target, whole, static_cast<size_t>(count) * sizeof(float));
      }
      scales += 2;
      codes += row_bytes;
      target += width;
    }
  }
}

// Rounded means of the channels; false if a number cannot be kept.
bool FindCentres(const float* numbers, int64_t num_tokens, int64_t width, uint8_t* parameters,
                 float* centres) {
  std::fill_n(centres, width, 0.0F);
  bool is_good = true;
  for (int64_t token = 0; token < num_tokens; ++token) {
    const float* const row = numbers + token * width;
    ForEachIn(width, [&](auto d, int64_t i) HWY_ATTR {
      const auto number = hn::LoadU(d, row + i);
      is_good = is_good && hn::AllTrue(d, hn::Le(hn::Abs(number), hn::Set(d, kHalfMax)));
      hn::StoreU(hn::Add(hn::LoadU(d, centres + i), number), d, centres + i);
    });
  }
  if (!is_good) return false;
  for (int64_t i = 0; i < width; ++i) {
    const float mean = centres[i] / static_cast<float>(num_tokens);
    const uint16_t half =
        FloatToHalf(std::clamp(mean, -kHalfMax, kHalfMax) + 0.0F, HalfRounding::kDown);
    std::memcpy(parameters + 2 * i, &half, sizeof(half));
    centres[i] = HalfToFloat(half);
  }
  return true;
}

// Codes of one group, one a byte, and its stored scale.
HWY_INLINE uint16_t EncodeGroup(const float* HWY_RESTRICT numbers,
                                const float* HWY_RESTRICT centres, const Signs& signs,
                                uint8_t* HWY_RESTRICT codes) {
  const DF d;
  const DI di;
  HWY_ALIGN float z[kKvGroupSize];
  VF x[kVectors];
  for (int64_t i = 0; i < kVectors; ++i) {
    const VF off = hn::Sub(hn::LoadU(d, numbers + i * kLanes), hn::LoadU(d, centres + i * kLanes));
    x[i] = hn::Mul(off, hn::Load(d, signs.values + i * kLanes));
  }
  Transform(x);
  for (int64_t i = 0; i < kVectors; ++i) {
    hn::Store(hn::Mul(x[i], hn::Set(d, 0.125F)), d, z + i * kLanes);
  }
  const VF inverse = hn::Set(d, 1.0F / RotationSpread(z));
  for (int64_t i = 0; i < kVectors; ++i) {
    const VF scaled = hn::Mul(hn::Load(d, z + i * kLanes), inverse);
    auto code = hn::Zero(di);
    for (const float boundary : kRotationBoundaries) {
      // A mask is -1 in every bit where it holds.
      code = hn::Sub(code,
                     hn::VecFromMask(di, hn::RebindMask(di, hn::Gt(scaled, hn::Set(d, boundary)))));
    }
    const hn::RebindToUnsigned<DI> du;
    hn::StoreU(hn::TruncateTo(hn::Rebind<uint8_t, DF>(), hn::BitCast(du, code)),
               hn::Rebind<uint8_t, DF>(), codes + i * kLanes);
  }
  return RotationScale(z, codes);
}

bool EncodeHalf(const EncodeKvParams& params, const KvPayloadLayout& layout, const float* numbers,
                uint8_t* parameters, uint8_t* rows) {
  const int64_t width = params.width;
  // Room for whole groups.
  std::vector<float> centres(static_cast<size_t>(layout.num_value_groups * kKvGroupSize));
  if (!FindCentres(numbers, params.num_tokens, width, parameters, centres.data())) return false;
  const Signs signs;
  HWY_ALIGN float whole[kKvGroupSize];
  HWY_ALIGN uint8_t codes[kKvGroupSize];
  for (int64_t token = 0; token < params.num_tokens; ++token) {
    for (int64_t group = 0; group < layout.num_value_groups; ++group) {
      const int64_t begin = group * kKvGroupSize;
      const int64_t count = std::min(kKvGroupSize, width - begin);
      const float* source = numbers + token * width + begin;
      if (count != kKvGroupSize) {
        std::fill_n(std::copy_n(source, count, whole), kKvGroupSize - count, 0.0F);
        source = whole;
      }
      const uint16_t scale = EncodeGroup(source, centres.data() + begin, signs, codes);
      if (scale == 0x7C00) return false;
      std::memcpy(parameters + layout.scale_offset + 2 * (group * params.num_tokens + token),
                  &scale, sizeof(scale));
      uint8_t* const target = rows + token * layout.row_bytes + begin / 2;
      for (int64_t unit = 0; unit < kKvGroupSize; unit += kKvNibbleChannels) {
        for (int64_t i = 0; i < kUnitHalf; ++i) {
          const int low = codes[unit + i];
          target[unit / 2 + i] = static_cast<uint8_t>(low | codes[unit + kUnitHalf + i] << 4);
        }
      }
    }
  }
  return true;
}

bool Encode(const EncodeKvParams& params, const KvPayloadLayout& layout) {
  return EncodeHalf(params, layout, params.k, params.payload + layout.key_parameters,
                    params.payload + layout.key_codes) &&
         EncodeHalf(params, layout, params.v, params.payload + layout.value_parameters,
                    params.payload + layout.value_codes);
}

}  // namespace
}  // namespace intarsia::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace intarsia::kernels {
namespace {

HWY_EXPORT(Decode);
HWY_EXPORT(Encode);

}  // namespace

bool EncodeRotatedKv(const EncodeKvParams& params, const KvPayloadLayout& layout) {
  return HWY_DYNAMIC_DISPATCH(Encode)(params, layout);
}

void DecodeRotatedKv(const DecodeKvParams& params, const KvPayloadLayout& layout) {
  HWY_DYNAMIC_DISPATCH(Decode)(params, layout);
}

}  // namespace intarsia::kernels
#endif
