// DecodeSteppedKv.
//
// Bound: the bytes written. Decoding reads a byte or half a byte a number and writes four, and a
// core stores 64 bytes a cycle: 16 numbers. docs/kernels/kv_codec.md has the figures.
// Design: the parameters of up to 1,024 channels are widened once. K goes in bands of rows, so that
// a parameter is loaded once for all of them; V a group of 64 channels at a time, where it has one
// step and minimum. Codes are asked for ahead of their use.
#include <algorithm>
#include <cstring>

#include "kernels/half_float.h"
#include "kernels/kv_steps.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/kv_steps_decode_cpu.cc"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/kv_groups.inc"

HWY_BEFORE_NAMESPACE();
namespace intarsia::kernels::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

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

}  // namespace
}  // namespace intarsia::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace intarsia::kernels {
namespace {

HWY_EXPORT(Decode);

}  // namespace

void DecodeSteppedKv(const DecodeKvParams& params, const KvPayloadLayout& layout) {
  HWY_DYNAMIC_DISPATCH(Decode)(params, layout);
}

}  // namespace intarsia::kernels
#endif
