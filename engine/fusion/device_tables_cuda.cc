#include <algorithm>

#include "engine/fusion/device_tables.h"
#include "kernels/upload.h"

namespace intarsia::engine {

Status DeviceTables::Upload(PinnedArena* arena, kernels::Stream stream) {
  if (bytes_.empty()) return Status::Ok();
  INTARSIA_ASSIGN_OR_RETURN(memory_, kernels::DeviceBuffer::Allocate(num_bytes(), stream));
  INTARSIA_ASSIGN_OR_RETURN(uint8_t* const staged, arena->Take(num_bytes()));
  std::ranges::copy(bytes_, staged);
  return kernels::UploadCuda({.source = staged, .target = memory_.data(), .num_bytes = num_bytes()},
                             stream);
}

}  // namespace intarsia::engine
