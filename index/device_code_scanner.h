// MakeDeviceCodeScanner: codes in the memory of a CUDA device, scanned there.
#pragma once

#include <cstdint>
#include <memory>

#include "base/result.h"
#include "index/code_scanner.h"

namespace intarsia::index {

// A scanner without codes on the device `index`. Only builds with INTARSIA_CUDA define it.
// Errors: kUnsupported without a driver, kInvalidArgument for an index that does not exist;
// kResourceExhausted.
Result<std::unique_ptr<CodeScanner>> MakeDeviceCodeScanner(int32_t index);

}  // namespace intarsia::index
