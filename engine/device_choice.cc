#include "engine/device_choice.h"

#include <charconv>

#include "base/check.h"
#include "query/lexer.h"

namespace intarsia::engine {

Result<DeviceChoice> ParseDeviceChoice(std::string_view text) {
  constexpr std::string_view kCuda = "cuda:";
  using query::EqualsIgnoringCase;
  if (EqualsIgnoringCase(text, "auto")) return DeviceChoice{.kind = DeviceChoice::Kind::kAuto};
  if (EqualsIgnoringCase(text, "cpu")) return DeviceChoice{.kind = DeviceChoice::Kind::kCpu};
  DeviceChoice choice = {.kind = DeviceChoice::Kind::kCuda};
  if (EqualsIgnoringCase(text.substr(0, kCuda.size()), kCuda)) {
    const std::string_view number = text.substr(kCuda.size());
    const auto [end, error] =
        std::from_chars(number.data(), number.data() + number.size(), choice.index);
    if (error == std::errc() && end == number.data() + number.size() && choice.index >= 0) {
      return choice;
    }
  }
  return Status(StatusCode::kInvalidArgument,
                "device \"" + std::string(text) + "\" is none of 'auto', 'cpu' and 'cuda:N'");
}

std::string CudaName(int32_t index) {
  INTARSIA_CHECK(index >= 0);
  return "cuda:" + std::to_string(index);
}

}  // namespace intarsia::engine
