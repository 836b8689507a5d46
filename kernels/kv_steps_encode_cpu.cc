// EncodeSteppedKv.
//
// Bound: the bytes read. K is read twice, for the ranges and for the codes, four bytes a number.
// Design: a group of 64 channels at a time, so that its ranges stay in registers or the first-level
// cache along the tokens. docs/kernels/kv_codec.md has the figures.
#include <algorithm>
#include <cstring>

#include "kernels/half_float.h"
#include "kernels/kv_steps.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/kv_steps_encode_cpu.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/kv_groups.inc"

HWY_BEFORE_NAMESPACE();
namespace intarsia::kernels::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

constexpr float kStepMin = 0x1p-14F;

// The parameters of one group as they are stored, and what encoding needs of them.
struct Quantizer {
  uint16_t minimum = 0;
  uint16_t step = 0;
  float minimum_value = 0.0F;
  float inverse_step = 0.0F;
};

HWY_INLINE Quantizer MakeQuantizer(float low, float high, float code_max) {
  Quantizer quantizer;
  // Adding 0 makes 0 of -0, which minimum functions of vectors may or may not return.
  quantizer.minimum = FloatToHalf(low + 0.0F, HalfRounding::kDown);
  quantizer.minimum_value = HalfToFloat(quantizer.minimum);
  const float exact = (high - quantizer.minimum_value) / code_max;
  quantizer.step = FloatToHalf(std::max(exact, kStepMin), HalfRounding::kUp);
  quantizer.inverse_step = 1.0F / HalfToFloat(quantizer.step);
  return quantizer;
}

// Codes of one group of numbers as 32-bit integers.
template <class D>
HWY_INLINE hn::Vec<hn::RebindToSigned<D>> Quantize(D /*d*/, hn::Vec<D> values, hn::Vec<D> minimum,
                                                   hn::Vec<D> inverse_step, int32_t code_min,
                                                   int32_t code_max) {
  const hn::RebindToSigned<D> di;
  const auto rounded = hn::NearestInt(hn::Mul(hn::Sub(values, minimum), inverse_step));
  return hn::Min(hn::Max(rounded, hn::Set(di, code_min)), hn::Set(di, code_max));
}

template <class D>
HWY_INLINE void StoreCodes(D /*d*/, hn::Vec<hn::RebindToSigned<D>> codes, uint8_t* target) {
  // Through unsigned integers, which truncate: signed codes keep their lower byte.
  const hn::RebindToUnsigned<D> du;
  hn::StoreU(hn::TruncateTo(hn::Rebind<uint8_t, D>(), hn::BitCast(du, codes)),
             hn::Rebind<uint8_t, D>(), target);
}

// `count` codes, one a byte, at channels [channel, channel + count) of a row.
HWY_INLINE void StoreRow(KvPayloadType type, const uint8_t* codes, int64_t count, int64_t channel,
                         uint8_t* row) {
  if (type == KvPayloadType::kInt8) {
    std::memcpy(row + channel, codes, static_cast<size_t>(count));
    return;
  }
  for (int64_t unit = 0; unit < count; unit += kKvNibbleChannels) {
    uint8_t* const target = row + (channel + unit) / kKvNibbleChannels * kUnitHalf;
    if (unit + kKvNibbleChannels <= count) {
      // Eight codes to a word: none is above 15, so a shift by four moves none into another byte.
      for (int64_t i = 0; i < kUnitHalf; i += 8) {
        uint64_t low = 0;
        uint64_t high = 0;
        std::memcpy(&low, codes + unit + i, sizeof(low));
        std::memcpy(&high, codes + unit + kUnitHalf + i, sizeof(high));
        low |= high << 4;
        std::memcpy(target + i, &low, sizeof(low));
      }
      continue;
    }
    for (int64_t i = 0; i < kUnitHalf; ++i) {
      const int low = unit + i < count ? codes[unit + i] : 0;
      const int high = unit + kUnitHalf + i < count ? codes[unit + kUnitHalf + i] : 0;
      target[i] = static_cast<uint8_t>(low | high << 4);
    }
  }
}

// Reads [count tokens, 64 channels] of K twice: for the ranges and for the codes. Returns whether
// fp16 can hold all numbers.
bool EncodeKeyPanel(const EncodeKvParams& params, const KvPayloadLayout& layout, int64_t group,
                    int64_t panel) {
  HWY_ALIGN float lows[kKvGroupSize];
  HWY_ALIGN float highs[kKvGroupSize];
  HWY_ALIGN float inverse_steps[kKvGroupSize];
  HWY_ALIGN uint8_t codes[kKvGroupSize];
  const int64_t channel = panel * kKvGroupSize;
  const int64_t width = std::min(kKvGroupSize, params.width - channel);
  const int64_t begin = group * layout.key_group_tokens;
  const int64_t count = std::min(layout.key_group_tokens, params.num_tokens - begin);
  const float* const values = params.k + begin * params.width + channel;
  bool is_bad = false;
  ForEachIn(width, [&](auto d, int64_t i) HWY_ATTR {
    auto low = hn::LoadU(d, values + i);
    auto high = low;
    auto is_small = hn::Le(hn::Abs(low), hn::Set(d, kHalfMax));
    for (int64_t token = 1; token < count; ++token) {
      const auto value = hn::LoadU(d, values + token * params.width + i);
      low = hn::Min(low, value);
      high = hn::Max(high, value);
      is_small = hn::And(is_small, hn::Le(hn::Abs(value), hn::Set(d, kHalfMax)));
    }
    is_bad = is_bad || !hn::AllTrue(d, is_small);
    hn::Store(low, d, lows + i);
    hn::Store(high, d, highs + i);
  });
  if (is_bad) return false;
  const bool is_int4 = params.type == KvPayloadType::kInt4;
  const int32_t code_max = is_int4 ? 15 : 255;
  uint8_t* const parameters =
      params.payload + layout.key_parameters + 2 * (2 * group * params.width + channel);
  for (int64_t i = 0; i < width; ++i) {
    const Quantizer quantizer = MakeQuantizer(lows[i], highs[i], static_cast<float>(code_max));
    std::memcpy(parameters + 2 * i, &quantizer.minimum, 2);
    std::memcpy(parameters + 2 * (params.width + i), &quantizer.step, 2);
    lows[i] = quantizer.minimum_value;
    inverse_steps[i] = quantizer.inverse_step;
  }
  for (int64_t token = 0; token < count; ++token) {
    const float* const source = values + token * params.width;
    ForEachIn(width, [&](auto d, int64_t i) HWY_ATTR {
      StoreCodes(d,
                 Quantize(d, hn::LoadU(d, source + i), hn::Load(d, lows + i),
                          hn::Load(d, inverse_steps + i), 0, code_max),
                 codes + i);
    });
    StoreRow(params.type, codes, width, channel,
             params.payload + layout.key_codes + (begin + token) * layout.row_bytes);
  }
  return true;
}

// One group of channels of all tokens of V. Returns as EncodeKeyPanel.
bool EncodeValuePanel(const EncodeKvParams& params, const KvPayloadLayout& layout, int64_t panel) {
  HWY_ALIGN uint8_t codes[kKvGroupSize];
  const int64_t channel = panel * kKvGroupSize;
  const int64_t width = std::min(kKvGroupSize, params.width - channel);
  const bool is_int4 = params.type == KvPayloadType::kInt4;
  uint8_t* const parameters = params.payload + layout.value_parameters +
                              2 * panel * layout.num_value_parameters * params.num_tokens;
  uint8_t* const steps = parameters + 2 * (layout.num_value_parameters - 1) * params.num_tokens;
  for (int64_t token = 0; token < params.num_tokens; ++token) {
    const float* const values = params.v + token * params.width + channel;
    float low = values[0];
    float high = values[0];
    bool is_bad = false;
    ForEachIn(width, [&](auto d, int64_t i) HWY_ATTR {
      const auto value = hn::LoadU(d, values + i);
      is_bad = is_bad || !hn::AllTrue(d, hn::Le(hn::Abs(value), hn::Set(d, kHalfMax)));
      low = std::min(low, hn::GetLane(hn::MinOfLanes(d, value)));
      high = std::max(high, hn::GetLane(hn::MaxOfLanes(d, value)));
    });
    if (is_bad) return false;
    const Quantizer quantizer = is_int4 ? MakeQuantizer(low, high, 15.0F)
                                        : MakeQuantizer(0.0F, std::max(-low, high), 127.0F);
    std::memcpy(parameters + 2 * token, &quantizer.minimum, 2);
    std::memcpy(steps + 2 * token, &quantizer.step, 2);  // alone, it replaces the minimum 0
    ForEachIn(width, [&](auto d, int64_t i) HWY_ATTR {
      StoreCodes(
          d,
          Quantize(d, hn::LoadU(d, values + i), hn::Set(d, quantizer.minimum_value),
                   hn::Set(d, quantizer.inverse_step), is_int4 ? 0 : -127, is_int4 ? 15 : 127),
          codes + i);
    });
    StoreRow(params.type, codes, width, channel,
             params.payload + layout.value_codes + token * layout.row_bytes);
  }
  return true;
}

// Returns whether all numbers could be encoded.
bool Encode(const EncodeKvParams& params, const KvPayloadLayout& layout) {
  for (int64_t panel = 0; panel < layout.num_value_groups; ++panel) {
    for (int64_t group = 0; group < layout.num_key_groups; ++group) {
      if (!EncodeKeyPanel(params, layout, group, panel)) return false;
    }
    if (!EncodeValuePanel(params, layout, panel)) return false;
  }
  return true;
}

}  // namespace
}  // namespace intarsia::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace intarsia::kernels {
namespace {

HWY_EXPORT(Encode);

}  // namespace

bool EncodeSteppedKv(const EncodeKvParams& params, const KvPayloadLayout& layout) {
  return HWY_DYNAMIC_DISPATCH(Encode)(params, layout);
}

}  // namespace intarsia::kernels
#endif
