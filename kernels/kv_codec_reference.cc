#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "kernels/convert.h"
#include "kernels/half_float.h"
#include "kernels/kv_codec.h"
#include "kernels/kv_rotation.h"

namespace intarsia::kernels {
namespace {

constexpr int64_t kPartAlignment = 64;
constexpr int64_t kSizeMax = int64_t{1} << 24;
constexpr int64_t kPayloadBytesMax = int64_t{1} << 40;
constexpr float kHalfMax = 65504.0F;
constexpr float kStepMin = 0x1p-14F;

int64_t Aligned(int64_t offset) {
  return (offset + kPartAlignment - 1) / kPartAlignment * kPartAlignment;
}

Status Wrong(const std::string& what, int64_t got, int64_t want) {
  return {StatusCode::kInvalidArgument,
          "kv payload: " + what + ": got=" + std::to_string(got) + " want=" + std::to_string(want)};
}

uint16_t ReadHalf(const uint8_t* bytes) {
  uint16_t half = 0;
  std::memcpy(&half, bytes, sizeof(half));
  return half;
}

void WriteHalf(uint16_t half, uint8_t* bytes) { std::memcpy(bytes, &half, sizeof(half)); }

float PlainNumber(KvPayloadType type, const uint8_t* bytes) {
  if (type == KvPayloadType::kBf16) return Bf16ToF32(ReadHalf(bytes));
  float value = 0.0F;
  std::memcpy(&value, bytes, sizeof(value));
  return value;
}

void WritePlain(KvPayloadType type, const float* values, int64_t num_elements, uint8_t* bytes) {
  for (int64_t i = 0; i < num_elements; ++i) {
    if (type == KvPayloadType::kF32) {
      std::memcpy(bytes + 4 * i, values + i, sizeof(float));
    } else {
      WriteHalf(F32ToBf16(values[i]), bytes + 2 * i);
    }
  }
}

// Where the code of `channel` stands in its row.
struct CodePlace {
  int64_t byte = 0;
  int shift = 0;
};
CodePlace PlaceOf(KvPayloadType type, int64_t channel) {
  if (type == KvPayloadType::kInt8) return {channel, 0};
  const int64_t within = channel % kKvNibbleChannels;
  const int64_t half = kKvNibbleChannels / 2;
  return {channel / kKvNibbleChannels * half + within % half, within < half ? 0 : 4};
}

void WriteCode(KvPayloadType type, int64_t channel, int code, uint8_t* row) {
  const CodePlace place = PlaceOf(type, channel);
  row[place.byte] = static_cast<uint8_t>(row[place.byte] | (code & 0xFF) << place.shift);
}

// Codes 0 to `code_max` from `minimum` in steps; symmetric ones have no minimum.
struct Quantizer {
  uint16_t minimum = 0;
  uint16_t step = 0;
  float minimum_value = 0.0F;
  float inverse_step = 0.0F;
  int code_min = 0;
  int code_max = 0;

  int Code(float value) const {
    const float scaled = (value - minimum_value) * inverse_step;
    return std::clamp(static_cast<int>(std::nearbyint(scaled)), code_min, code_max);
  }
};

Quantizer Make(float low, float high, int code_min, int code_max) {
  Quantizer quantizer = {.code_min = code_min, .code_max = code_max};
  // Adding 0 makes 0 of -0, which minimum functions of vectors may or may not return.
  quantizer.minimum = FloatToHalf(low + 0.0F, HalfRounding::kDown);
  quantizer.minimum_value = HalfToFloat(quantizer.minimum);
  const float exact = (high - quantizer.minimum_value) / static_cast<float>(code_max);
  quantizer.step = FloatToHalf(std::max(exact, kStepMin), HalfRounding::kUp);
  quantizer.inverse_step = 1.0F / HalfToFloat(quantizer.step);
  return quantizer;
}

// The quantiser of numbers between `low` and `high`. Errors: kUnsupported.
Result<Quantizer> MakeQuantizer(KvPayloadType type, KvHalf half, float low, float high) {
  if (!(low >= -kHalfMax && high <= kHalfMax)) {
    return Status(StatusCode::kUnsupported,
                  "keys or values that are not finite or beyond 65504 cannot be quantised: low=" +
                      std::to_string(low) + " high=" + std::to_string(high));
  }
  if (type == KvPayloadType::kInt4) return Make(low, high, 0, 15);
  if (half == KvHalf::kKey) return Make(low, high, 0, 255);
  return Make(0.0F, std::max(-low, high), -127, 127);
}

// The range of numbers that lie `stride` apart; a NaN among them makes both ends NaN.
void FindRange(const float* values, int64_t count, int64_t stride, float* low, float* high) {
  *low = std::numeric_limits<float>::infinity();
  *high = -*low;
  for (int64_t i = 0; i < count; ++i) {
    const float value = values[i * stride];
    if (std::isnan(value)) {
      *low = *high = value;
      return;
    }
    *low = std::min(*low, value);
    *high = std::max(*high, value);
  }
}

Status EncodeKeys(const EncodeKvParams& params, const KvPayloadLayout& layout) {
  for (int64_t group = 0; group < layout.num_key_groups; ++group) {
    const int64_t begin = group * layout.key_group_tokens;
    const int64_t count = std::min(layout.key_group_tokens, params.num_tokens - begin);
    for (int64_t channel = 0; channel < params.width; ++channel) {
      const float* const values = params.k + begin * params.width + channel;
      float low = 0.0F;
      float high = 0.0F;
      FindRange(values, count, params.width, &low, &high);
      INTARSIA_ASSIGN_OR_RETURN(const Quantizer quantizer,
                                MakeQuantizer(params.type, KvHalf::kKey, low, high));
      uint8_t* const parameters =
          params.payload + layout.key_parameters + 2 * (2 * group * params.width + channel);
      WriteHalf(quantizer.minimum, parameters);
      WriteHalf(quantizer.step, parameters + 2 * params.width);
      for (int64_t i = 0; i < count; ++i) {
        WriteCode(params.type, channel, quantizer.Code(values[i * params.width]),
                  params.payload + layout.key_codes + (begin + i) * layout.row_bytes);
      }
    }
  }
  return Status::Ok();
}

Status EncodeValues(const EncodeKvParams& params, const KvPayloadLayout& layout) {
  for (int64_t group = 0; group < layout.num_value_groups; ++group) {
    const int64_t begin = group * kKvGroupSize;
    const int64_t count = std::min(kKvGroupSize, params.width - begin);
    uint8_t* const parameters = params.payload + layout.value_parameters +
                                2 * group * layout.num_value_parameters * params.num_tokens;
    for (int64_t token = 0; token < params.num_tokens; ++token) {
      const float* const values = params.v + token * params.width + begin;
      float low = 0.0F;
      float high = 0.0F;
      FindRange(values, count, /*stride=*/1, &low, &high);
      INTARSIA_ASSIGN_OR_RETURN(const Quantizer quantizer,
                                MakeQuantizer(params.type, KvHalf::kValue, low, high));
      WriteHalf(quantizer.minimum, parameters + 2 * token);
      // The step stands last; alone, it takes the minimum's place, which is 0.
      WriteHalf(quantizer.step,
                parameters + 2 * ((layout.num_value_parameters - 1) * params.num_tokens + token));
      for (int64_t i = 0; i < count; ++i) {
        WriteCode(params.type, begin + i, quantizer.Code(values[i]),
                  params.payload + layout.value_codes + token * layout.row_bytes);
      }
    }
  }
  return Status::Ok();
}

}  // namespace

std::optional<KvPayloadType> KvPayloadTypeOf(uint32_t number) {
  if (number < static_cast<uint32_t>(KvPayloadType::kBf16) ||
      number > static_cast<uint32_t>(KvPayloadType::kRot4)) {
    return std::nullopt;
  }
  return static_cast<KvPayloadType>(number);
}

Result<KvPayloadLayout> MakeKvPayloadLayout(KvPayloadType type, int64_t num_tokens, int64_t width) {
  if (!KvPayloadTypeOf(static_cast<uint32_t>(type)).has_value()) {
    return Status(StatusCode::kInvalidArgument,
                  "kv payload of an unknown type: type=" + std::to_string(static_cast<int>(type)));
  }
  if (num_tokens < 1 || num_tokens > kSizeMax || width < 1 || width > kSizeMax) {
    return Status(StatusCode::kInvalidArgument,
                  "kv payload: a size is out of range: tokens=" + std::to_string(num_tokens) +
                      " width=" + std::to_string(width));
  }
  KvPayloadLayout layout;
  const bool is_plain = type == KvPayloadType::kBf16 || type == KvPayloadType::kF32;
  if (is_plain) {
    layout.row_bytes = width * (type == KvPayloadType::kF32 ? 4 : 2);
    layout.value_codes = num_tokens * layout.row_bytes;
    layout.value_parameters = layout.value_codes;
  } else if (type == KvPayloadType::kRot4) {
    layout.num_value_groups = (width + kKvGroupSize - 1) / kKvGroupSize;
    layout.row_bytes = layout.num_value_groups * (kKvGroupSize / 2);
    layout.key_group_tokens = num_tokens;
    layout.num_key_groups = 1;
    layout.num_value_parameters = 1;
    layout.scale_offset = Aligned(2 * width);
    layout.key_codes = layout.scale_offset + Aligned(2 * layout.num_value_groups * num_tokens);
    layout.value_parameters = layout.key_codes + Aligned(num_tokens * layout.row_bytes);
    layout.value_codes = layout.value_parameters + layout.key_codes;
  } else {
    const bool is_int4 = type == KvPayloadType::kInt4;
    const int64_t units = (width + kKvNibbleChannels - 1) / kKvNibbleChannels;
    layout.row_bytes = is_int4 ? units * (kKvNibbleChannels / 2) : width;
    layout.key_group_tokens = is_int4 ? kKvGroupSize : num_tokens;
    layout.num_key_groups = (num_tokens + layout.key_group_tokens - 1) / layout.key_group_tokens;
    layout.num_value_groups = (width + kKvGroupSize - 1) / kKvGroupSize;
    layout.num_value_parameters = is_int4 ? 2 : 1;
    layout.key_codes = Aligned(2 * layout.num_key_groups * 2 * width);
    layout.value_parameters = layout.key_codes + Aligned(num_tokens * layout.row_bytes);
    layout.value_codes =
        layout.value_parameters +
        Aligned(2 * layout.num_value_groups * layout.num_value_parameters * num_tokens);
  }
  layout.num_bytes = layout.value_codes + num_tokens * layout.row_bytes;
  if (layout.num_bytes > kPayloadBytesMax) {
    return Status(StatusCode::kInvalidArgument,
                  "kv payload is too large: bytes=" + std::to_string(layout.num_bytes));
  }
  return layout;
}

int64_t KvPayloadBytes(KvPayloadType type, int64_t num_tokens, int64_t width) {
  const Result<KvPayloadLayout> layout = MakeKvPayloadLayout(type, num_tokens, width);
  return layout.ok() ? layout->num_bytes : -1;
}

Result<KvPayloadLayout> CheckEncodeKv(const EncodeKvParams& params) {
  INTARSIA_ASSIGN_OR_RETURN(const KvPayloadLayout layout,
                            MakeKvPayloadLayout(params.type, params.num_tokens, params.width));
  if (params.k == nullptr || params.v == nullptr || params.payload == nullptr) {
    return Status(StatusCode::kInvalidArgument, "kv payload: k, v or payload is null");
  }
  if (params.payload_bytes != layout.num_bytes) {
    return Wrong("a payload of another size", params.payload_bytes, layout.num_bytes);
  }
  return layout;
}

Result<KvPayloadLayout> CheckDecodeKv(const DecodeKvParams& params) {
  INTARSIA_ASSIGN_OR_RETURN(const KvPayloadLayout layout,
                            MakeKvPayloadLayout(params.type, params.num_tokens, params.width));
  if (params.payload == nullptr || (params.target == nullptr && params.count != 0)) {
    return Status(StatusCode::kInvalidArgument, "kv payload: payload or target is null");
  }
  if (params.payload_bytes != layout.num_bytes) {
    return Wrong("a payload of another size", params.payload_bytes, layout.num_bytes);
  }
  if (params.begin < 0 || params.begin > params.num_tokens || params.count < 0 ||
      params.count > params.num_tokens - params.begin) {
    return Status(StatusCode::kInvalidArgument,
                  "kv payload: tokens outside of it: begin=" + std::to_string(params.begin) +
                      " count=" + std::to_string(params.count) +
                      " tokens=" + std::to_string(params.num_tokens));
  }
  return layout;
}

Status CheckKvPayload(KvPayloadType type, const uint8_t* payload, int64_t payload_bytes,
                      int64_t num_tokens, int64_t width) {
  INTARSIA_ASSIGN_OR_RETURN(const KvPayloadLayout layout,
                            CheckDecodeKv({.type = type,
                                           .payload = payload,
                                           .payload_bytes = payload_bytes,
                                           .num_tokens = num_tokens,
                                           .width = width}));
  if (layout.num_key_groups == 0) return Status::Ok();
  // Rows of parameters, of which every second is a minimum unless there are only steps or none.
  enum class Rows : uint8_t { kMinimaAndSteps, kSteps, kMinima };
  const auto is_sane = [&](int64_t offset, int64_t num_rows, int64_t row_size, Rows kind) {
    for (int64_t row = 0; row < num_rows; ++row) {
      const bool is_step = kind == Rows::kSteps || (kind == Rows::kMinimaAndSteps && row % 2 == 1);
      bool is_row_sane = true;
      for (int64_t i = 0; i < row_size; ++i) {
        const uint16_t half = ReadHalf(payload + offset + 2 * (row * row_size + i));
        const bool is_finite = (half & 0x7C00U) != 0x7C00U;
        // 0 and what has its sign bit set are no steps.
        is_row_sane &= is_finite && (!is_step || static_cast<uint16_t>(half - 1) < 0x7FFFU);
      }
      if (!is_row_sane) return false;
    }
    return true;
  };
  bool is_good = true;
  if (type == KvPayloadType::kRot4) {
    for (const int64_t offset : {layout.key_parameters, layout.value_parameters}) {
      is_good =
          is_good && is_sane(offset, 1, width, Rows::kMinima) &&
          is_sane(offset + layout.scale_offset, layout.num_value_groups, num_tokens, Rows::kSteps);
    }
  } else {
    is_good =
        is_sane(layout.key_parameters, 2 * layout.num_key_groups, width, Rows::kMinimaAndSteps) &&
        is_sane(layout.value_parameters, layout.num_value_groups * layout.num_value_parameters,
                num_tokens,
                layout.num_value_parameters == 2 ? Rows::kMinimaAndSteps : Rows::kSteps);
  }
  if (is_good) return Status::Ok();
  return {StatusCode::kCorruption,
          "kv payload: a parameter is not finite or a step is not above 0"};
}

Status EncodeKvReference(const EncodeKvParams& params) {
  INTARSIA_ASSIGN_OR_RETURN(const KvPayloadLayout layout, CheckEncodeKv(params));
  const int64_t num_elements = params.num_tokens * params.width;
  if (layout.num_key_groups == 0) {
    WritePlain(params.type, params.k, num_elements, params.payload + layout.key_codes);
    WritePlain(params.type, params.v, num_elements, params.payload + layout.value_codes);
    return Status::Ok();
  }
  std::memset(params.payload, 0, static_cast<size_t>(layout.num_bytes));
  if (params.type == KvPayloadType::kRot4) {
    if (EncodeRotatedKvReference(params, layout)) return Status::Ok();
    return {StatusCode::kUnsupported,
            "keys or values that are not finite or beyond 65504 cannot be quantised"};
  }
  INTARSIA_RETURN_IF_ERROR(EncodeKeys(params, layout));
  return EncodeValues(params, layout);
}

Status DecodeKvReference(const DecodeKvParams& params) {
  INTARSIA_ASSIGN_OR_RETURN(const KvPayloadLayout layout, CheckDecodeKv(params));
  if (params.type == KvPayloadType::kRot4) {
    DecodeRotatedKvReference(params, layout);
    return Status::Ok();
  }
  const bool is_key = params.half == KvHalf::kKey;
  const uint8_t* const codes = params.payload + (is_key ? layout.key_codes : layout.value_codes);
  const uint8_t* const parameters =
      params.payload + (is_key ? layout.key_parameters : layout.value_parameters);
  for (int64_t row = 0; row < params.count; ++row) {
    const int64_t token = params.begin + row;
    for (int64_t channel = 0; channel < params.width; ++channel) {
      float* const target = params.target + row * params.width + channel;
      const uint8_t* const source = codes + token * layout.row_bytes;
      if (layout.num_key_groups == 0) {
        *target = PlainNumber(params.type, source + channel * layout.row_bytes / params.width);
        continue;
      }
      const int64_t group = is_key ? token / layout.key_group_tokens : channel / kKvGroupSize;
      const int64_t stride = is_key ? params.width : params.num_tokens;
      const int64_t num_parameters = is_key ? 2 : layout.num_value_parameters;
      const int64_t minimum = group * num_parameters * stride + (is_key ? channel : token);
      const int64_t step = minimum + (num_parameters - 1) * stride;
      const CodePlace place = PlaceOf(params.type, channel);
      int code = source[place.byte];
      if (params.type == KvPayloadType::kInt4) code = code >> place.shift & 15;
      if (num_parameters == 1) code = static_cast<int8_t>(code);
      const double low =
          num_parameters == 1 ? 0.0 : HalfToFloat(ReadHalf(parameters + 2 * minimum));
      const double high = HalfToFloat(ReadHalf(parameters + 2 * step));
      *target = static_cast<float>(low + high * code);
    }
  }
  return Status::Ok();
}

}  // namespace intarsia::kernels
