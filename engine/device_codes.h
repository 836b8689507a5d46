// DeviceCodes: the binary codes of collections in the memory of devices, for searches.
//
// A collection's codes come to a device with the first search that is predicted to be faster there,
// and follow every change before they are searched again. All of them share one budget, and those
// that come first have it. What a device cannot do the CPU does: a failure costs one attempt, and
// is not tried again until the codes are others or somebody says SET.
//
// Thread safety: DeviceCodes is thread-safe; so is DeviceCodeCopy, whose codes must not change
// while it is brought in step with them. Lifetime: a DeviceCodes outlives its copies, and the
// provider both.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "engine/device_provider.h"
#include "index/binary_index.h"
#include "index/code_scanner.h"

namespace intarsia::engine {

struct CodesOnDevice;  // What a DeviceCodeCopy has there; in device_codes.cc.

class DeviceCodes {
 public:
  explicit DeviceCodes(DeviceProvider* devices) : devices_(devices) {}
  DeviceCodes(const DeviceCodes&) = delete;
  DeviceCodes& operator=(const DeviceCodes&) = delete;

  DeviceProvider* provider() const { return devices_; }
  // Of all collections together; 0: none come to a device. Those that no longer fit leave it, the
  // last ones first, once no search uses them.
  void SetBytesMax(int64_t bytes_max);
  // From now on what `codes` has counts here.
  void Add(const std::shared_ptr<CodesOnDevice>& codes);
  // Changes what is accounted for from `before` to `after` bytes if that fits.
  // Errors: kResourceExhausted.
  Status Account(int64_t before, int64_t after);

  // What failed may be tried again.
  void Retry() { ++attempts_; }
  // Another number means that Retry() was called; never 0.
  int64_t attempt() const { return attempts_; }

 private:
  DeviceProvider* const devices_;
  std::atomic<int64_t> attempts_ = 1;
  std::mutex mutex_;
  // Guarded by mutex_.
  int64_t bytes_max_ = 0;
  int64_t bytes_used_ = 0;
  std::vector<std::weak_ptr<CodesOnDevice>> copies_;
};

// How a search may use a device.
struct SearchDevice {
  DeviceCodes* codes = nullptr;
  // The device; not set: none. Is asked only if a device would be faster, because the answer may
  // take a driver's start.
  std::function<std::optional<int32_t>()> find;
};

// The codes of one collection on a device.
class DeviceCodeCopy {
 public:
  DeviceCodeCopy();
  ~DeviceCodeCopy() { Drop(); }
  DeviceCodeCopy(const DeviceCodeCopy&) = delete;
  DeviceCodeCopy& operator=(const DeviceCodeCopy&) = delete;

  // Whether nothing has failed since the last change of codes or settings.
  bool is_promising(const DeviceCodes& devices) const { return failed_at_ != devices.attempt(); }
  // The codes are others, or gone.
  void Drop();

  // A scanner with the codes of `codes` on the device `index`, and whether it had to be brought in
  // step. Errors: those of DeviceProvider::MakeCodeScanner and CodeScanner::Extend.
  struct Lease {
    std::shared_ptr<index::CodeScanner> scanner;
    bool is_new = false;
  };
  Result<Lease> Bring(DeviceCodes* devices, int32_t index, const index::BinaryIndex& codes);
  // A search has failed with `scanner`.
  void Fail(const std::shared_ptr<index::CodeScanner>& scanner);

 private:
  std::atomic<int64_t> failed_at_ = 0;  // DeviceCodes::attempt() then; 0: it has not
  const std::shared_ptr<CodesOnDevice> there_;
};

}  // namespace intarsia::engine
