// MakeQualityDevice of a program that is built without CUDA.
#include "bench/end_to_end/quality_machine.h"

namespace intarsia::bench {

Result<std::unique_ptr<QualityMachine>> MakeQualityDevice(const model::GgufFile&,
                                                          std::span<const int32_t>,
                                                          const QualityMachineOptions&) {
  return Status(StatusCode::kUnsupported,
                "this program is built without CUDA; build it with the preset cuda");
}

}  // namespace intarsia::bench
