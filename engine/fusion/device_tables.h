// DeviceTables: small host arrays that go to a device together.
//
// They go by way of pinned memory that is kept from request to request, and past the copy engine,
// which may be busy with caches for many milliseconds (kernels/upload.h).
//
// Thread safety: owned by one thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include "base/result.h"
#include "kernels/device.h"

namespace intarsia::engine {

// Pinned memory that is taken piece by piece and given back all at once.
class PinnedArena {
 public:
  // A piece, aligned to 256 bytes. Slow when the arena has to grow.
  // Errors: kResourceExhausted.
  Result<uint8_t*> Take(int64_t size) {
    size = (size + kAlignment - 1) / kAlignment * kAlignment;
    for (; block_ < blocks_.size(); ++block_, used_ = 0) {
      if (used_ + size > blocks_[block_].num_bytes()) continue;
      used_ += size;
      return blocks_[block_].as<uint8_t>() + used_ - size;
    }
    INTARSIA_ASSIGN_OR_RETURN(kernels::PinnedBuffer memory,
                              kernels::PinnedBuffer::Allocate(std::max(size, kBlockBytes)));
    blocks_.push_back(std::move(memory));
    used_ = size;
    return blocks_.back().as<uint8_t>();
  }
  // REQUIRES: nothing reads a piece any more.
  void Reset() { block_ = 0, used_ = 0; }

 private:
  static constexpr int64_t kAlignment = 256;
  static constexpr int64_t kBlockBytes = int64_t{1} << 20;

  std::vector<kernels::PinnedBuffer> blocks_;
  size_t block_ = 0;  // from which pieces are taken
  int64_t used_ = 0;  // of it
};

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

  // Copies what was added, by way of a piece of `arena`. Allocates on `stream`.
  // Errors: kResourceExhausted, kInternal.
  Status Upload(PinnedArena* arena, kernels::Stream stream);

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
