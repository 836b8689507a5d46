// DeviceSpan: time on a device between two points of a stream.
//
// Thread safety: owned by one thread.
#pragma once

#include <optional>

#include "base/result.h"
#include "kernels/device.h"

namespace intarsia::engine {

class DeviceSpan {
 public:
  Status Begin(kernels::Stream stream) {
    INTARSIA_ASSIGN_OR_RETURN(begin_, kernels::DeviceEvent::Create(kernels::EventTiming::kOn));
    INTARSIA_ASSIGN_OR_RETURN(end_, kernels::DeviceEvent::Create(kernels::EventTiming::kOn));
    return begin_->Record(stream);
  }
  Status End(kernels::Stream stream) { return end_->Record(stream); }
  // 0 for a span that never began. REQUIRES: the stream was waited for.
  Result<double> Milliseconds() const {
    if (!begin_.has_value()) return 0.0;
    INTARSIA_ASSIGN_OR_RETURN(const float milliseconds, end_->MillisecondsSince(*begin_));
    return double{milliseconds};
  }

 private:
  std::optional<kernels::DeviceEvent> begin_;
  std::optional<kernels::DeviceEvent> end_;
};

}  // namespace intarsia::engine
