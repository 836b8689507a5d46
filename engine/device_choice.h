// DeviceChoice: where prompts are run, as the setting `device` says.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace intarsia::engine {

// The setting.
inline constexpr const char* kDeviceSetting = "device";

struct DeviceChoice {
  enum class Kind : uint8_t {
    kAuto,  // the first device if there is one that can, else the CPU
    kCpu,
    kCuda,
  };
  Kind kind = Kind::kAuto;
  int32_t index = 0;  // of the CUDA device
  bool operator==(const DeviceChoice&) const = default;
};

// 'auto', 'cpu' or 'cuda:N'; case does not matter. Errors: kInvalidArgument that says so.
Result<DeviceChoice> ParseDeviceChoice(std::string_view text);

// For example "cuda:0". REQUIRES: index >= 0.
std::string CudaName(int32_t index);

}  // namespace intarsia::engine
