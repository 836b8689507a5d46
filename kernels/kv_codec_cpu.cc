// Bound: the bytes written. Decoding reads a byte or half a byte a number and writes four, and a
// core stores 64 bytes a cycle: 16 numbers. docs/kernels/kv_codec.md has the figures.
// Design: the parameters of up to 1,024 channels are widened once. K goes in bands of rows, so that
// a parameter is loaded once for all of them; V a group of 64 channels at a time, where it has one
// step and minimum. Codes are asked for ahead of their use.
#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "kernels/convert.h"
#include "kernels/half_float.h"
#include "kernels/kv_codec.h"
#include "kernels/kv_rotation.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/kv_codec_cpu.cc"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace intarsia::kernels::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

// At most 16 lanes, so that the codes of a vector are the lower or the upper halves of its bytes.
using DF = hn::CappedTag<float, kKvNibbleChannels / 2>;
using DI = hn::RebindToSigned<DF>;
using VF = hn::Vec<DF>;

// The scalar kin of DF for what does not fill a vector.
using DF1 = hn::CappedTag<float, 1>;

constexpr float kStepMin = 0x1p-14F;
constexpr float kHalfMax = 65504.0F;

// Calls body(d, i) for the vectors of [0, count) and then for the single elements that are left. A
// whole panel, which most are, is unrolled.
template <class Body>
HWY_INLINE void ForEachIn(int64_t count, const Body& body) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(DF()));
  if (count == kKvGroupSize) {
    HWY_UNROLL(8)
    for (int64_t i = 0; i < kKvGroupSize; i += lanes) body(DF(), i);
    return;
  }
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) body(DF(), i);
  for (; i < count; ++i) body(DF1(), i);
}

// Widens `count` halves at `bytes`, any alignment.
HWY_INLINE void WidenHalves(const uint8_t* bytes, int64_t count, float* HWY_RESTRICT target) {
  int64_t i = 0;
#if HWY_TARGET <= HWY_AVX2
  const hn::Rebind<hwy::float16_t, DF> dh;
  const hn::RebindToUnsigned<decltype(dh)> du;
  const auto lanes = static_cast<int64_t>(hn::Lanes(DF()));
  for (; i + lanes <= count; i += lanes) {
    const auto halves = hn::LoadU(du, reinterpret_cast<const uint16_t*>(bytes) + i);
    hn::StoreU(hn::PromoteTo(DF(), hn::BitCast(dh, halves)), DF(), target + i);
  }
#endif
  for (; i < count; ++i) {
    uint16_t half = 0;
    std::memcpy(&half, bytes + 2 * i, sizeof(half));
    target[i] = HalfToFloat(half);
  }
}

enum class Code : uint8_t { kUnsigned, kSigned, kNibble };

// Channels whose codes are the lower halves of the bytes of a unit of 32.
constexpr int64_t kUnitHalf = kKvNibbleChannels / 2;

// The byte of a row at which the codes of a unit begin.
template <Code kCode>
constexpr int64_t ByteOf(int64_t unit_channel) {
  return kCode == Code::kNibble ? unit_channel / 2 : unit_channel;
}

// The codes of the channels from `channel` on as numbers; no vector crosses 16 channels.
template <Code kCode, class D>
HWY_INLINE hn::Vec<D> LoadCodes(D d, const uint8_t* row, int64_t channel) {
  const hn::RebindToSigned<D> di;
  if constexpr (kCode == Code::kSigned) {
    const hn::Rebind<int8_t, D> d8;
    const auto codes = hn::LoadU(d8, reinterpret_cast<const int8_t*>(row) + channel);
    return hn::ConvertTo(d, hn::PromoteTo(di, codes));
  } else {
    const hn::Rebind<uint8_t, D> d8;
    if constexpr (kCode == Code::kUnsigned) {
      return hn::ConvertTo(d, hn::PromoteTo(di, hn::LoadU(d8, row + channel)));
    } else {
      const int64_t byte = channel / kKvNibbleChannels * kUnitHalf + channel % kUnitHalf;
      const auto bytes = hn::PromoteTo(di, hn::LoadU(d8, row + byte));
      const auto codes =
          (channel & kUnitHalf) == 0 ? hn::And(bytes, hn::Set(di, 15)) : hn::ShiftRight<4>(bytes);
      return hn::ConvertTo(d, codes);
    }
  }
}

// Two vectors, of channels c and c + 16: the halves of the same bytes in kNibble.
struct Pair {
  VF low;
  VF high;
};

// The codes of channels [channel, channel + lanes) and of those 16 further, of one unit.
template <Code kCode>
HWY_INLINE Pair LoadPair(const uint8_t* row, int64_t channel) {
  const DF d;
  if constexpr (kCode == Code::kNibble) {
    const DI di;
    const hn::Rebind<uint8_t, DF> d8;
    const int64_t byte = channel / kKvNibbleChannels * kUnitHalf + channel % kUnitHalf;
    const auto bytes = hn::PromoteTo(di, hn::LoadU(d8, row + byte));
    return {hn::ConvertTo(d, hn::And(bytes, hn::Set(di, 15))),
            hn::ConvertTo(d, hn::ShiftRight<4>(bytes))};
  } else {
    return {LoadCodes<kCode>(d, row, channel), LoadCodes<kCode>(d, row, channel + kUnitHalf)};
  }
}

// Channels whose parameters are widened together, so that rows are read and written in order.
constexpr int64_t kPanelGroups = 16;
constexpr int64_t kPanelChannels = kPanelGroups * kKvGroupSize;

// Rows of K that are decoded together, so that a parameter is loaded once for all of them.
constexpr int64_t kBand = 8;
// Rows of V of which a group is decoded before the next group's, while both stay in the cache.
constexpr int64_t kValueBand = 32;

// How far ahead codes are asked for. A row is walked too fast for the processor to look as far
// ahead by itself, which costs half of the rate where payloads lie in memory.
constexpr int64_t kPrefetchBytes = 4096;

// Asks for the codes that stand kPrefetchBytes behind [codes, codes + num_bytes) and before `end`.
HWY_INLINE void PrefetchCodes(const uint8_t* codes, int64_t num_bytes, const uint8_t* end) {
  const int64_t last = std::min<int64_t>(end - codes, kPrefetchBytes + num_bytes);
  for (int64_t i = kPrefetchBytes; i < last; i += 64) hwy::Prefetch(codes + i);
}

// Rows of codes or of numbers. Passed by value: stores may alias what lies behind a pointer, and
// would have the compiler read strides again for each vector.
struct CodeRows {
  const uint8_t* codes;
  int64_t row_bytes;
};
struct NumberRows {
  float* numbers;
  int64_t width;
};

// Channels [0, num_channels) of `kRows` rows of K.
template <Code kCode, int64_t kRows>
HWY_INLINE void DecodeKeyRows(CodeRows rows, const float* HWY_RESTRICT minima,
                              const float* HWY_RESTRICT steps, int64_t num_channels,
                              NumberRows target) {
  const DF d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t channel = 0;
  for (; channel + kKvNibbleChannels <= num_channels; channel += kKvNibbleChannels) {
    for (int64_t i = channel; i < channel + kUnitHalf; i += lanes) {
      const VF low_step = hn::Load(d, steps + i);
      const VF low_minimum = hn::Load(d, minima + i);
      const VF high_step = hn::Load(d, steps + i + kUnitHalf);
      const VF high_minimum = hn::Load(d, minima + i + kUnitHalf);
      const uint8_t* row = rows.codes;
      float* to = target.numbers + i;
      HWY_UNROLL(4)
      for (int64_t r = 0; r < kRows; ++r) {
        const Pair codes = LoadPair<kCode>(row, i);
        hn::StoreU(hn::MulAdd(codes.low, low_step, low_minimum), d, to);
        hn::StoreU(hn::MulAdd(codes.high, high_step, high_minimum), d, to + kUnitHalf);
        row += rows.row_bytes;
        to += target.width;
      }
    }
  }
  ForEachIn(num_channels - channel, [&](auto dn, int64_t i) HWY_ATTR {
    const auto step = hn::LoadU(dn, steps + channel + i);
    const auto minimum = hn::LoadU(dn, minima + channel + i);
    for (int64_t r = 0; r < kRows; ++r) {
      const auto codes = LoadCodes<kCode>(dn, rows.codes + r * rows.row_bytes, channel + i);
      hn::StoreU(hn::MulAdd(codes, step, minimum), dn,
                 target.numbers + r * target.width + channel + i);
    }
  });
}

template <Code kCode>
void DecodeKeyPanel(const DecodeKvParams& params, const KvPayloadLayout& layout, int64_t panel) {
  HWY_ALIGN float minima[kPanelChannels];
  HWY_ALIGN float steps[kPanelChannels];
  const int64_t channel = panel * kPanelChannels;
  const int64_t num_channels = std::min(kPanelChannels, params.width - channel);
  const int64_t end = params.begin + params.count;
  const uint8_t* const codes = params.payload + layout.key_codes;
  const uint8_t* const codes_end = params.payload + layout.num_bytes;
  for (int64_t token = params.begin; token < end;) {
    const int64_t group = token / layout.key_group_tokens;
    const int64_t group_end = std::min(end, (group + 1) * layout.key_group_tokens);
    const uint8_t* const parameters =
        params.payload + layout.key_parameters + 2 * (2 * group * params.width + channel);
    WidenHalves(parameters, num_channels, minima);
    WidenHalves(parameters + 2 * params.width, num_channels, steps);
    while (token < group_end) {
      const CodeRows rows = {codes + token * layout.row_bytes + ByteOf<kCode>(channel),
                             layout.row_bytes};
      const NumberRows target = {params.target + (token - params.begin) * params.width + channel,
                                 params.width};
      if (token + kBand <= group_end) {
        PrefetchCodes(rows.codes, kBand * layout.row_bytes, codes_end);
        DecodeKeyRows<kCode, kBand>(rows, minima, steps, num_channels, target);
        token += kBand;
      } else {
        DecodeKeyRows<kCode, 1>(rows, minima, steps, num_channels, target);
        ++token;
      }
    }
  }
}

// Signed codes have no minimum; the addition would cost where it is not part of a product.
template <Code kCode>
HWY_INLINE VF ValueOf(VF code, VF step, VF minimum) {
  return kCode == Code::kSigned ? hn::Mul(code, step) : hn::MulAdd(code, step, minimum);
}

// One whole group of a row of V; `codes` and `target` point to its first channel.
template <Code kCode>
HWY_INLINE void DecodeValueGroup(const uint8_t* codes, float minimum, float step,
                                 float* HWY_RESTRICT target) {
  const DF d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const VF steps = hn::Set(d, step);
  const VF minima = hn::Set(d, minimum);
#if HWY_TARGET <= HWY_AVX3
  if constexpr (kCode == Code::kNibble) {
    // All that a group can hold is 16 numbers, and one permutation finds 16 of them at a time.
    const DI di;
    const hn::Rebind<uint8_t, DF> d8;
    const VF numbers = hn::MulAdd(hn::ConvertTo(d, hn::Iota(di, 0)), steps, minima);
    HWY_UNROLL(2)
    for (int64_t i = 0; i < kKvGroupSize; i += kKvNibbleChannels) {
      const auto bytes = hn::PromoteTo(di, hn::LoadU(d8, codes + i / 2));
      const auto low = hn::IndicesFromVec(d, hn::And(bytes, hn::Set(di, 15)));
      const auto high = hn::IndicesFromVec(d, hn::ShiftRight<4>(bytes));
      hn::StoreU(hn::TableLookupLanes(numbers, low), d, target + i);
      hn::StoreU(hn::TableLookupLanes(numbers, high), d, target + i + kUnitHalf);
    }
    return;
  }
#endif
  HWY_UNROLL(2)
  for (int64_t unit = 0; unit < kKvGroupSize; unit += kKvNibbleChannels) {
    HWY_UNROLL(4)
    for (int64_t i = unit; i < unit + kUnitHalf; i += lanes) {
      const Pair numbers = LoadPair<kCode>(codes, i);
      hn::StoreU(ValueOf<kCode>(numbers.low, steps, minima), d, target + i);
      hn::StoreU(ValueOf<kCode>(numbers.high, steps, minima), d, target + i + kUnitHalf);
    }
  }
}

// The same group of `num_rows` rows of V, `count` channels wide from `channel` on.
template <Code kCode>
void DecodeValueRows(CodeRows rows, int64_t num_rows, int64_t channel, int64_t count,
                     const float* HWY_RESTRICT minima, const float* HWY_RESTRICT steps,
                     NumberRows target) {
  if (count == kKvGroupSize) {
    const uint8_t* codes = rows.codes + ByteOf<kCode>(channel);
    float* to = target.numbers;
    for (int64_t r = 0; r < num_rows; ++r) {
      DecodeValueGroup<kCode>(codes, minima[r], steps[r], to);
      codes += rows.row_bytes;
      to += target.width;
    }
    return;
  }
  for (int64_t r = 0; r < num_rows; ++r) {
    ForEachIn(count, [&](auto d, int64_t i) HWY_ATTR {
      const auto codes = LoadCodes<kCode>(d, rows.codes + r * rows.row_bytes, channel + i);
      hn::StoreU(hn::MulAdd(codes, hn::Set(d, steps[r]), hn::Set(d, minima[r])), d,
                 target.numbers + r * target.width + i);
    });
  }
}

template <Code kCode>
void DecodeValuePanel(const DecodeKvParams& params, const KvPayloadLayout& layout, int64_t panel) {
  HWY_ALIGN float minima[kPanelGroups][kValueBand] = {};
  HWY_ALIGN float steps[kPanelGroups][kValueBand];
  const int64_t channel = panel * kPanelChannels;
  const int64_t num_channels = std::min(kPanelChannels, params.width - channel);
  const int64_t step_offset = 2 * (layout.num_value_parameters - 1) * params.num_tokens;
  const uint8_t* const codes_end = params.payload + layout.num_bytes;
  for (int64_t done = 0; done < params.count; done += kValueBand) {
    const int64_t num_rows = std::min(kValueBand, params.count - done);
    const int64_t token = params.begin + done;
    const CodeRows rows = {
        params.payload + layout.value_codes + token * layout.row_bytes + ByteOf<kCode>(channel),
        layout.row_bytes};
    PrefetchCodes(rows.codes, num_rows * layout.row_bytes, codes_end);
    for (int64_t first = 0; first < num_channels; first += kKvGroupSize) {
      const int64_t group = first / kKvGroupSize;
      const uint8_t* const parameters =
          params.payload + layout.value_parameters +
          2 * ((panel * kPanelGroups + group) * layout.num_value_parameters * params.num_tokens +
               token);
      if (step_offset > 0) WidenHalves(parameters, num_rows, minima[group]);
      WidenHalves(parameters + step_offset, num_rows, steps[group]);
      DecodeValueRows<kCode>(rows, num_rows, first, std::min(kKvGroupSize, num_channels - first),
                             minima[group], steps[group],
                             {params.target + done * params.width + channel + first, params.width});
    }
  }
}

void Decode(const DecodeKvParams& params, const KvPayloadLayout& layout) {
  const bool is_int4 = params.type == KvPayloadType::kInt4;
  for (int64_t panel = 0; panel * kPanelChannels < params.width; ++panel) {
    if (params.half == KvHalf::kKey) {
      is_int4 ? DecodeKeyPanel<Code::kNibble>(params, layout, panel)
              : DecodeKeyPanel<Code::kUnsigned>(params, layout, panel);
    } else {
      is_int4 ? DecodeValuePanel<Code::kNibble>(params, layout, panel)
              : DecodeValuePanel<Code::kSigned>(params, layout, panel);
    }
  }
}

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

HWY_EXPORT(Decode);
HWY_EXPORT(Encode);

}  // namespace

Status EncodeKv(const EncodeKvParams& params) {
  INTARSIA_ASSIGN_OR_RETURN(const KvPayloadLayout layout, CheckEncodeKv(params));
  const int64_t num_elements = params.num_tokens * params.width;
  if (layout.num_key_groups == 0) {
    for (const auto& [source, offset] :
         {std::pair(params.k, layout.key_codes), std::pair(params.v, layout.value_codes)}) {
      uint8_t* const target = params.payload + offset;
      if (params.type == KvPayloadType::kBf16) {
        F32ToBf16(source, num_elements, reinterpret_cast<uint16_t*>(target));
      } else {
        std::memcpy(target, source, static_cast<size_t>(num_elements) * sizeof(float));
      }
    }
    return Status::Ok();
  }
  std::memset(params.payload, 0, static_cast<size_t>(layout.num_bytes));
  const bool is_encoded = params.type == KvPayloadType::kRot4
                              ? EncodeRotatedKv(params, layout)
                              : HWY_DYNAMIC_DISPATCH(Encode)(params, layout);
  if (is_encoded) return Status::Ok();
  return {StatusCode::kUnsupported,
          "keys or values that are not finite or beyond 65504 cannot be quantised: tokens=" +
              std::to_string(params.num_tokens) + " width=" + std::to_string(params.width)};
}

Status DecodeKv(const DecodeKvParams& params) {
  INTARSIA_ASSIGN_OR_RETURN(const KvPayloadLayout layout, CheckDecodeKv(params));
  if (params.count == 0) return Status::Ok();
  if (params.type == KvPayloadType::kRot4) {
    DecodeRotatedKv(params, layout);
    return Status::Ok();
  }
  if (layout.num_key_groups != 0) {
    HWY_DYNAMIC_DISPATCH(Decode)(params, layout);
    return Status::Ok();
  }
  const bool is_key = params.half == KvHalf::kKey;
  const uint8_t* const source = params.payload + (is_key ? layout.key_codes : layout.value_codes) +
                                params.begin * layout.row_bytes;
  const int64_t num_elements = params.count * params.width;
  if (params.type == KvPayloadType::kBf16) {
    Bf16ToF32(reinterpret_cast<const uint16_t*>(source), num_elements, params.target);
  } else {
    std::memcpy(params.target, source, static_cast<size_t>(num_elements) * sizeof(float));
  }
  return Status::Ok();
}

}  // namespace intarsia::kernels
#endif
