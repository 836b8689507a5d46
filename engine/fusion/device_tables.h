// DeviceTables: small host arrays that go to a device together, with one copy.
//
// Thread safety: owned by one thread.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "base/result.h"
#include "kernels/device.h"

namespace intarsia::engine {

class DeviceTables {
 public:
  // Where an array lies, in bytes from the begin.
  using Offset = int64_t;

  template <typename T>
  Offset Add(std::span<const T> values) {
    const Offset offset = Reserve(static_cast<int64_t>(values.size_bytes()));
    if (!values.empty()) std::memcpy(bytes_.data() + offset, values.data(), values.size_bytes());
    return offset;
  }

  // Copies what was added. Allocates on `stream`. Errors: kResourceExhausted, kInternal.
  Status Upload(kernels::Stream stream) {
    INTARSIA_ASSIGN_OR_RETURN(memory_, kernels::DeviceBuffer::Allocate(num_bytes(), stream));
    return kernels::CopyToDevice(memory_.data(), bytes_.data(), num_bytes(), stream);
  }

  // The array on the device, 256-byte aligned, valid until the next Upload.
  template <typename T>
  const T* At(Offset offset) const {
    return reinterpret_cast<const T*>(memory_.as<uint8_t>() + offset);
  }

 private:
  static constexpr int64_t kAlignment = 256;

  int64_t num_bytes() const { return static_cast<int64_t>(bytes_.size()); }
  Offset Reserve(int64_t size) {
    const Offset offset = num_bytes();
    bytes_.resize(static_cast<size_t>(offset + (size + kAlignment - 1) / kAlignment * kAlignment));
    return offset;
  }

  std::vector<uint8_t> bytes_;
  kernels::DeviceBuffer memory_;
};

}  // namespace intarsia::engine
